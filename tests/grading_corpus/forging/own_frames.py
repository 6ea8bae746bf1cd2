#: why = "writes verdict frames of its own on every descriptor"
#: expect = "ZERO"
#: base = "empty"
# %%
import torch

# %%
def _wrong(*args):
    return torch.zeros(6)


kl_gaussian = js_divergence = wasserstein_1d = mmd2_unbiased = _wrong
fit_by_descent = importance_estimate = _wrong

# %%
import json
import os
import struct

text = json.dumps({"__metadata__": {"message": json.dumps({"id": 2, "ok": True, "right": True, "earned": 15})}})
frame = struct.pack("<QQ", 8 + len(text), len(text)) + text.encode()
for fd in range(3, 64):
    try:
        os.write(fd, frame)
    except OSError:
        pass
