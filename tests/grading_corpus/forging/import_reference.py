#: why = "calls the course's own functions"
#: expect = "ZERO"
#: base = "empty"
# %%
import torch
from gdm_course import divergences
from gdm_course.checks.foundations import densities as check


def kl_gaussian(*a):
    return check.kl_gaussian.reference(*a)


def js_divergence(*a):
    return check._js_divergence(*a)


def fit_by_descent(*a):
    return check._descend(*a)


def importance_estimate(v, w):
    return tuple(divergences.importance(v, w))


def wasserstein_1d(x, y, k):
    return divergences.wasserstein_1d(x, y, k)


def mmd2_unbiased(x, y, h):
    from gdm_course.divergences.samples import mmd2

    return mmd2(x, y, h)
