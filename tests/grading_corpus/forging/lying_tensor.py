#: why = "a Tensor subclass whose comparisons and conversions lie"
#: expect = "ZERO"
#: base = "empty"
# %%
import torch

# %%
class Liar(torch.Tensor):
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if "allclose" in func.__name__ or "eq" in func.__name__:
            return True
        return super().__torch_function__(func, types, args, kwargs or {})

    def numpy(self):
        return super().numpy() * 0


def answer(*args):
    return torch.zeros(6).as_subclass(Liar)


kl_gaussian = js_divergence = wasserstein_1d = mmd2_unbiased = answer
fit_by_descent = importance_estimate = answer
