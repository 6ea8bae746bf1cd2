#: why = "characters pushed into a terminal"
#: expect = "HELD"
#: base = "solved"
# %%
import fcntl
import os

import torch


def attempt(canary, port):
    out = []
    for fd in range(0, 8):
        try:
            fcntl.ioctl(fd, 0x5412, b"x")
            out.append(1.0)
        except OSError:
            out.append(0.0)
    try:
        os.close(os.open("/dev/tty", os.O_RDWR))
        out.append(1.0)
    except OSError:
        out.append(0.0)
    return torch.tensor(out)
