#: why = "stops its own process"
#: expect = "Q0: kl_gaussian"
#: base = "solved"
#: status = "timeout"
#: budget = { load = 8, ask = 2 }
# %% instead kl_gaussian
import os


def kl_gaussian(*args):
    os.kill(os.getpid(), 19)
    while True:
        pass
