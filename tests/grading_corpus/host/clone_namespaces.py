#: why = "clone and clone3 with new namespaces"
#: expect = "HELD"
#: base = "solved"
#: machine = "x86_64"
# %%
import ctypes
import os

import torch

libc = ctypes.CDLL(None, use_errno=True)


def attempt(canary, port):
    out = []
    for flag in (0x10000000, 0x00020000, 0x20000000, 0x40000000):
        pid = libc.syscall(56, flag | 17, 0, 0, 0, 0)
        if pid == 0:
            os._exit(0)
        out.append(float(pid > 0))
    out.append(float(libc.syscall(435, 0, 0) >= 0 or ctypes.get_errno() != 38))
    return torch.tensor(out)
