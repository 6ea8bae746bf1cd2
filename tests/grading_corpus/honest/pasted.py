#: why = "answers pasted from a terminal, indented, as a class, below a debugger, in an except"
#: expect = "FULL"
#: base = "solved"
# %% instead kl_gaussian
>>> def kl_gaussian(mu_p, log_sigma_p, mu_q, log_sigma_q):
...     var_p, var_q = torch.exp(2 * log_sigma_p), torch.exp(2 * log_sigma_q)
...     spread = (var_p + (mu_p - mu_q) ** 2) / (2 * var_q)
...     return (log_sigma_q - log_sigma_p + spread - 0.5).sum(-1)

# %% instead js_divergence
In [12]: def js_divergence(log_p, log_q, dx):
    ...:     log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    ...:     inside = log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m)
    ...:     return inside.sum() * dx / 2

# %% instead importance_estimate
try:
    import softmax_of_mine
except ImportError:
    def importance_estimate(values, log_w):
        w = torch.softmax(log_w, 0)
        m = (w * values).sum()
        return torch.stack([m, ((w * (values - m)) ** 2).sum().sqrt()])
breakpoint()
importance_estimate??

# %% instead wasserstein_1d
import pdb; pdb.set_trace()


class wasserstein_1d:
    def __new__(cls, x, y, k):
        return ((x.sort().values - y.sort().values).abs() ** k).mean() ** (1 / k)
