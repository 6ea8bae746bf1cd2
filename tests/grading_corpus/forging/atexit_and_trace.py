#: why = "atexit, settrace and profile hooks want the last word"
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
import atexit
import os
import sys
import threading

atexit.register(lambda: os._exit(0))
sys.settrace(lambda *a: None)
threading.settrace(lambda *a: None)
sys.setprofile(lambda *a: None)
