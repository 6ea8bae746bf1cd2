#: why = "changes its own inputs on the way to the right answer"
#: expect = "FULL"
#: base = "solved"
# %% instead wasserstein_1d
def wasserstein_1d(x, y, k):
    x.copy_(x.sort().values).sub_(y.sort().values).abs_().pow_(k)
    return x.mean() ** (1 / k)
