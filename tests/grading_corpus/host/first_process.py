#: why = "the first process of the box: its memory, its descriptors, its signals"
#: expect = "HELD"
#: base = "solved"
#: rungs = ["L3", "L3u"]
# %%
import os
import signal

import torch


def attempt(canary, port):
    out = [_opens("/proc/1/mem", os.O_RDWR), _opens("/proc/1/mem", os.O_RDONLY)]
    about = dict(n.split(":", 1) for n in open("/proc/1/status") if ":" in n)
    out.append(float(int(about["CapPrm"], 16) != 0))
    os.kill(1, signal.SIGTERM)
    os.kill(1, signal.SIGKILL)
    return torch.tensor(out)


def _opens(name, flags):
    try:
        fd = os.open(name, flags)
        got = os.pread(fd, 16, 0)
        return float(bool(got))
    except OSError:
        return 0.0
