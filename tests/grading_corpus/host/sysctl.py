#: why = "kernel settings"
#: expect = "HELD"
#: base = "solved"
# %%
import os

import torch


def attempt(canary, port):
    out = []
    for name in ("kernel/core_pattern", "kernel/modprobe", "vm/drop_caches", "kernel/sysrq"):
        try:
            os.close(os.open(f"/proc/sys/{name}", os.O_WRONLY))
            out.append(1.0)
        except OSError:
            out.append(0.0)
    return torch.tensor(out)
