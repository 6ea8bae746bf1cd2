#: why = "an answer that reads a global of the exercise's own cell"
#: expect = "FULL"
#: base = "solved"
# %% after
number = len(bandwidths)
best = wasserstein_1d


def wasserstein_1d(x, y, k):
    assert number == 17
    return best(x, y, k)
