#: why = "noise where a frame should be"
#: expect = "Q0: kl_gaussian"
#: base = "solved"
#: status = "malformed"
# %% instead kl_gaussian
import os


def everywhere(data):
    for fd in range(3, 64):
        try:
            os.write(fd, data)
        except OSError:
            pass


def kl_gaussian(*args):
    everywhere(os.urandom(4096))
