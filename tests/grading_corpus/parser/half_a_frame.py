#: why = "begins a frame and never ends it"
#: expect = "Q0: kl_gaussian"
#: base = "solved"
#: status = "timeout"
#: budget = { load = 8, ask = 2 }
# %% instead kl_gaussian
import os


def everywhere(data):
    for fd in range(3, 64):
        try:
            os.write(fd, data)
        except OSError:
            pass


def kl_gaussian(*args):
    everywhere((100).to_bytes(8, "little") + b"abc")
    while True:
        pass
