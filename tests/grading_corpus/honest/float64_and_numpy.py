#: why = "float64, numpy inside, a numpy answer"
#: expect = "FULL"
#: base = "solved"
# %% instead wasserstein_1d
import numpy as np


def wasserstein_1d(x, y, k):
    a, b = np.sort(x.double().numpy()), np.sort(y.double().numpy())
    return np.mean(np.abs(a - b) ** k) ** (1 / k)
