#: why = "files of the host"
#: expect = "HELD"
#: base = "solved"
# %%
import os

import torch


def attempt(canary, port):
    names = ["/etc/passwd", "/etc/shadow", "/root", "/home", "/work", "/var/lib", canary]
    return torch.tensor([float(os.path.exists(n) and os.access(n, os.R_OK) and bool(_read(n))) for n in names])


def _read(name):
    try:
        if os.path.isdir(name):
            return [n for n in os.listdir(name) if n not in (".pyenv", "main", "shared")]
        return open(name).read()
    except OSError:
        return ""
