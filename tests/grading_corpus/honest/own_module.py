#: why = "a module of the student's own, written by cells and imported"
#: expect = "FULL"
#: base = "solved"
# %%
%%writefile mine.py
import torch


def distance(x, y):
    return (x.sort().values - y.sort().values).abs()

# %%
import mine

# %%
%%writefile second.py
from mine import distance
power = 1

# %%
open("third.py", "w").write("import second\nclass Third(int): pass")
from third import Third, second

# %% instead wasserstein_1d
def wasserstein_1d(x, y, k):
    assert second.power == Third(1)
    return (mine.distance(x, y) ** k).mean() ** (1 / k)
