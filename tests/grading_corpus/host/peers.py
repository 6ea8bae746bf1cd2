#: why = "other submissions, verdicts, the judge's folders"
#: expect = "HELD"
#: base = "solved"
# %%
import os

import torch


def attempt(canary, port):
    found = 0.0
    for top in ("/tmp", "/work", "/home", "/root", "/srv", "/var", "/mnt", "/media"):
        for folder, _, names in os.walk(top):
            if "/site-packages" in folder or "/.pyenv" in folder:
                continue
            found += sum(n.endswith((".ipynb", ".part")) or n == "index.json" for n in names)
    return torch.tensor([found])
