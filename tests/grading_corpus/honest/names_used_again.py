#: why = "later cells use the names of answers and helpers for other things, and delete some"
#: expect = "FULL"
#: base = "solved"
# %% instead mmd2_unbiased
def kernel(a, b, h):
    return (-(torch.cdist(a, b) ** 2) / (2 * h**2)).exp()


def mmd2_unbiased(x, y, h):
    n, m = len(x), len(y)
    inside = (kernel(x, x, h).sum() - n) / (n * (n - 1))
    inside = inside + (kernel(y, y, h).sum() - m) / (m * (m - 1))
    return inside - 2 * kernel(x, y, h).mean()


mmd2_unbiased(torch.randn(4, 2), torch.randn(5, 2), 1.0)

# %% after
kernel = torch.ones(3)
kl_gaussian = kl_gaussian(*torch.randn(4, 6, 4))
del js_divergence
math = 3

# %% after
torch.set_grad_enabled(False)
torch.set_default_dtype(torch.float16)
Normal = "bell"
