#: why = "cells that end the process, before, between and after answers"
#: expect = "FULL"
#: base = "solved"
# %%
import os

if torch.cuda.device_count() == 0:
    os.kill(os.getpid(), 9)

# %% instead wasserstein_1d
def wasserstein_1d(x, y, k):
    return ((x.sort().values - y.sort().values).abs() ** k).mean() ** (1 / k)


os._exit(3)

# %% after
import ctypes

ctypes.string_at(0)
