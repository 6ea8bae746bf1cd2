#: why = "a header nested 30,000 deep"
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
    everywhere((30016).to_bytes(8, "little") + (30000).to_bytes(8, "little") + b"[" * 30008)
