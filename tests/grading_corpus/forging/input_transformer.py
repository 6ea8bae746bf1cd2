#: why = "IPython blanks or rewrites every later cell"
#: expect = "ZERO"
#: base = "empty"
# %%
import torch

# %%
def _wrong(*args):
    return torch.zeros(6)


kl_gaussian = js_divergence = wasserstein_1d = mmd2_unbiased = _wrong
fit_by_descent = importance_estimate = _wrong

# %%
ip = get_ipython()
ip.input_transformers_post.append(lambda lines: ["pass"])
