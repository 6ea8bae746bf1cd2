#: why = "sleeps a second and answers"
#: expect = "FULL"
#: base = "solved"
# %% after
import time

quick = kl_gaussian


def kl_gaussian(*args):
    time.sleep(0.5)
    return quick(*args)
