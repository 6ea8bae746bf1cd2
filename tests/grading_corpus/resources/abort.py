#: why = "aborts in one answer"
#: expect = "Q0: kl_gaussian"
#: base = "solved"
#: status = "crash"
# %% instead kl_gaussian
import os


def kl_gaussian(*args):
    os.abort()
