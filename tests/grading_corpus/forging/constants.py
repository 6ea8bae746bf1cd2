#: why = "zeros, a constant, NaN, inf and a copy of the input"
#: expect = "ZERO"
#: base = "empty"
# %%
import torch


def kl_gaussian(mu_p, *rest):
    return torch.zeros(len(mu_p))


def js_divergence(*args):
    return torch.tensor(0.3)


def fit_by_descent(x, *rest):
    return x.mean(0) * torch.nan, x.mean(0) * torch.nan


def importance_estimate(values, log_w):
    return torch.tensor(torch.inf), torch.tensor(torch.inf)


def wasserstein_1d(x, y, k):
    return x


def mmd2_unbiased(x, y, h):
    return torch.tensor(0.0)
