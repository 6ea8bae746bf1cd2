#: why = "a segmentation fault in one answer"
#: expect = "Q0: kl_gaussian"
#: base = "solved"
#: status = "crash"
# %% instead kl_gaussian
import ctypes


def kl_gaussian(*args):
    ctypes.string_at(0)
