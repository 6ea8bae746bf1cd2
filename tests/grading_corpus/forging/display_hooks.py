#: why = "display, traceback and excepthook claim success"
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
import sys

ip = get_ipython()
ip.showtraceback = lambda *a, **k: None
ip.set_custom_exc((BaseException,), lambda *a, **k: None)
sys.displayhook = sys.excepthook = lambda *a: print("all tests passed")
