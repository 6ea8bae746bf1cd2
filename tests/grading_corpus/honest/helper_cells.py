#: why = "helpers in cells of their own, some after their use"
#: expect = "FULL"
#: base = "solved"
# %%
def _kernel(a, b, h):
    return torch.exp(-((a[:, None] - b[None]) ** 2).sum(-1) / (2 * h**2))


# %% instead mmd2_unbiased
def mmd2_unbiased(x, y, h):
    return _off(_kernel(x, x, h)) + _off(_kernel(y, y, h)) - 2 * _kernel(x, y, h).mean()


# %% after
def _off(k):
    n = len(k)
    return (k.sum() - n) / (n * (n - 1))
