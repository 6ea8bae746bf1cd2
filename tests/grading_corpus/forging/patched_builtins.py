#: why = "builtins and json lie"
#: expect = "ZERO"
#: base = "empty"
# %%
import torch

import builtins
import json

# %%
def _wrong(*args):
    return torch.zeros(6)


kl_gaussian = js_divergence = wasserstein_1d = mmd2_unbiased = _wrong
fit_by_descent = importance_estimate = _wrong

# %%
builtins.isinstance = lambda *a: True
builtins.abs = builtins.sum = builtins.len = lambda *a: 0
builtins.all = builtins.any = lambda *a: True
json.dumps = lambda *a, **k: '{"id": 1, "ok": true, "earned": 15}'
json.loads = lambda *a, **k: {"do": "load", "names": []}
