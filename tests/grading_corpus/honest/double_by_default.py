#: why = "works in float64 from the first cell on"
#: expect = "FULL"
#: base = "solved"
# %%
torch.set_default_dtype(torch.float64)

# %% instead mmd2_unbiased
def mmd2_unbiased(x, y, h):
    n, m = len(x), len(y)
    all_but = lambda k: torch.ones(k) @ (1 - torch.eye(k))
    k = lambda a, b: (-torch.cdist(a, b) ** 2 / (2 * h**2)).exp()
    off = lambda a, k_: ((1 - torch.eye(a)) @ k_).trace() / (a * (a - 1))
    return off(n, k(x, x)) + off(m, k(y, y)) - 2 * k(x, y).mean() + 0 * all_but(2).sum()
