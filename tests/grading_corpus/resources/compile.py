#: why = "honest: torch.compile (eager backend)"
#: expect = "FULL"
#: base = "solved"
# %% after
import torch


@torch.compile(backend="eager")
def wasserstein_1d(x, y, k):
    return ((x.sort().values - y.sort().values).abs() ** k).mean() ** (1 / k)
