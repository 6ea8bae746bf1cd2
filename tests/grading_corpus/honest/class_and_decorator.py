#: why = "a callable object, a decorator, a lambda"
#: expect = "FULL"
#: base = "solved"
# %% after
import functools


class Wasserstein:
    def __call__(self, x, y, k):
        return ((x.sort().values - y.sort().values).abs() ** k).mean() ** (1 / k)


wasserstein_1d = Wasserstein()
js_divergence = functools.lru_cache(None)(lambda *a, f=js_divergence: f(*a))
