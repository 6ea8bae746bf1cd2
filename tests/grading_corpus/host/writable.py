#: why = "every place that can be written is small"
#: expect = "HELD"
#: base = "solved"
#: rungs = ["L3", "L3u"]
# %%
import os

import torch


def attempt(canary, port):
    out = []
    for place in ("/", "/dev", "/usr", "/etc", "/course", "/var", "/run", "/proc/sys", "/opt"):
        try:
            os.close(os.open(f"{place}/x", os.O_CREAT | os.O_WRONLY))
            out.append(1.0)
        except OSError:
            out.append(0.0)
    for place in ("/tmp", "/dev/shm"):
        size = os.statvfs(place)
        out.append(float(size.f_blocks * size.f_frsize > 300 << 20))
    return torch.tensor(out)
