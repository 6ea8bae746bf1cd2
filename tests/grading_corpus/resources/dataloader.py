#: why = "honest: DataLoader workers"
#: expect = "FULL"
#: base = "solved"
# %%
import torch
from torch.utils.data import DataLoader, TensorDataset

rows = DataLoader(TensorDataset(torch.arange(64.0)), batch_size=8, num_workers=2)
total = sum(batch.sum() for (batch,) in rows)
assert total == 2016, total


# %% after
seen = total


def wasserstein_1d(x, y, k):
    assert seen == 2016
    return ((x.sort().values - y.sort().values).abs() ** k).mean() ** (1 / k)
