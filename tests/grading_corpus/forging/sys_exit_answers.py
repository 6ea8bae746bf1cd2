#: why = "exits with success from every function"
#: expect = "ZERO"
#: base = "empty"
# %%
import torch

import sys


# %%
def leave(*args):
    sys.exit(0)


kl_gaussian = js_divergence = wasserstein_1d = mmd2_unbiased = leave
fit_by_descent = importance_estimate = leave
