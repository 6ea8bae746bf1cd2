#: why = "the import cell edited, names changed"
#: expect = "FULL"
#: base = "solved"
# %%
%matplotlib inline
import numpy as np
import torch as th

from gdm_course import plotting as plot
from gdm_course.checks.foundations import densities as check
from gdm_course.data import toy

check.kl_gaussian(None)
moons = toy.get("two_moons").sample(10)

# %% instead wasserstein_1d
def wasserstein_1d(x, y, k):
    check.wasserstein_1d(lambda x, y, k: x)
    return th.mean(th.abs(th.sort(x)[0] - th.sort(y)[0]) ** k) ** (1 / k)
