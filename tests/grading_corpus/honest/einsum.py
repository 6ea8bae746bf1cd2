#: why = "einsum"
#: expect = "FULL"
#: base = "solved"
# %% instead mmd2_unbiased
def mmd2_unbiased(x, y, h):
    def k(a, b):
        difference = a[:, None] - b[None]
        return torch.exp(-torch.einsum("ijd,ijd->ij", difference, difference) / (2 * h * h))

    n, m = len(x), len(y)
    xx, yy = k(x, x), k(y, y)
    inside = (xx.sum() - xx.trace()) / (n * n - n) + (yy.sum() - yy.trace()) / (m * m - m)
    return inside - 2 * k(x, y).mean()
