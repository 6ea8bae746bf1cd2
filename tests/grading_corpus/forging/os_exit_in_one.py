#: why = "ends the process when the first question is asked"
#: expect = "Q0: kl_gaussian"
#: base = "solved"
#: status = "crash"
# %% instead kl_gaussian
import os


def kl_gaussian(*args):
    os._exit(0)
