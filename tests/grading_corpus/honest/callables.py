#: why = "answers that are partial functions, methods, modules, scripted, cached; odd helpers"
#: expect = "FULL"
#: base = "solved"
# %%
from functools import cache, partial, singledispatch

list = [3, 4]
sum, id, max = 0, 1, lambda *a: 7
print = lambda *a, **k: None

# %% instead wasserstein_1d
@torch.jit.script
def wasserstein_1d(x: Tensor, y: Tensor, k: float) -> Tensor:
    return ((x.sort()[0] - y.sort()[0]).abs() ** k).mean() ** (1 / k)

# %% instead js_divergence
class Divergences:
    @cache
    def log_2(self):
        return math.log(2)

    def js(self, log_p, log_q, dx):
        log_m = torch.logaddexp(log_p, log_q) - self.log_2()
        return (log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m)).sum() * dx / 2


js_divergence = Divergences().js

# %% instead mmd2_unbiased
class MMD(torch.nn.Module):
    def forward(self, x, y, h):
        k = lambda a, b: (-torch.cdist(a, b) ** 2 / (2 * h**2)).exp()
        n, m = len(x), len(y)
        inside = (k(x, x).sum() - n) / (n * (n - 1)) + (k(y, y).sum() - m) / (m * (m - 1))
        return inside - 2 * k(x, y).mean()


mmd2_unbiased = MMD().eval()

# %% after
kl_gaussian = partial(singledispatch(kl_gaussian))
globals()["importance_estimate"] = torch.no_grad()(importance_estimate)
exit()
