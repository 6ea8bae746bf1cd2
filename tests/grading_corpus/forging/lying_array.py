#: why = "__array__ and a float subclass lie"
#: expect = "ZERO"
#: base = "empty"
# %%
import torch

# %%
import numpy as np


class Array:
    def __array__(self, *a, **k):
        return np.zeros(6)


class Number(float):
    def __eq__(self, other):
        return True

    __hash__ = float.__hash__


kl_gaussian = fit_by_descent = importance_estimate = lambda *a: Array()
js_divergence = wasserstein_1d = mmd2_unbiased = lambda *a: Number("nan")
