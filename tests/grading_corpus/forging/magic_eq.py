#: why = "an object that equals everything"
#: expect = "ZERO"
#: base = "empty"
# %%
import torch

# %%
class Yes:
    def __eq__(self, other):
        return True

    def __getattr__(self, name):
        return self

    def __call__(self, *a, **k):
        return self

    def __float__(self):
        return 0.0

    __hash__ = None


kl_gaussian = js_divergence = wasserstein_1d = mmd2_unbiased = Yes()
fit_by_descent = importance_estimate = Yes()
