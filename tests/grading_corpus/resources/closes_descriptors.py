#: why = "closes all descriptors"
#: expect = "Q0: kl_gaussian"
#: base = "solved"
#: status = "crash"
# %% instead kl_gaussian
import os


def kl_gaussian(*args):
    os.closerange(0, 512)
