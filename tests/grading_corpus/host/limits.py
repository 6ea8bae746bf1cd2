#: why = "limits cannot be raised"
#: expect = "HELD"
#: base = "solved"
# %%
import resource

import torch


def attempt(canary, port):
    out = []
    for what in (resource.RLIMIT_NPROC, resource.RLIMIT_DATA, resource.RLIMIT_FSIZE):
        soft, hard = resource.getrlimit(what)
        out.append(float(hard == resource.RLIM_INFINITY))
        try:
            resource.setrlimit(what, (hard + 1, hard + 1))
            out.append(1.0)
        except (OSError, ValueError):
            out.append(0.0)
    return torch.tensor(out)
