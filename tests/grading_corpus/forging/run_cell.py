#: why = "run_cell and its callers are replaced"
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
from IPython.core.interactiveshell import InteractiveShell

InteractiveShell.run_cell = lambda self, *a, **k: type("R", (), {"success": True})()
InteractiveShell.run_cell_async = InteractiveShell.run_cell
