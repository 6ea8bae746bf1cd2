#: why = "a header with an integer of 10,000 digits"
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
    everywhere((10008).to_bytes(8, "little") + (10000).to_bytes(8, "little") + b"9" * 10000)
