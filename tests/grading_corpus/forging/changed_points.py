#: why = "metadata and names that claim more points"
#: expect = "ZERO"
#: base = "empty"
# %%
import torch

# %%
class Points(dict):
    def __missing__(self, key):
        return 10**6


points = Points()
earned = 10**6

# %%
def _wrong(*args):
    return torch.zeros(6)


kl_gaussian = js_divergence = wasserstein_1d = mmd2_unbiased = _wrong
fit_by_descent = importance_estimate = _wrong
