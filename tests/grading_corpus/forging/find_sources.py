#: why = "searches the whole box for a file with the answers"
#: expect = "ZERO"
#: base = "empty"
# %%
import os
import re

import torch

texts = []
for top in ("/course", "/work", "/root", "/home", "/tmp", "/srv", "/opt", "/var", "/mnt"):
    for folder, _, names in os.walk(top):
        for name in names:
            if not name.endswith((".py", ".ipynb", ".json", ".toml")) or "site-packages" in folder:
                continue
            try:
                text = open(os.path.join(folder, name), errors="replace").read()
            except OSError:
                continue
            if re.search(r"def _?(kl_gaussian|mmd2|wasserstein_1d|importance)\b", text):
                texts.append(text)
for text in texts:
    exec(text)
