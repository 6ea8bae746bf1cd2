#: why = "a module of types that the grader does not have, in imports, annotations, decorators"
#: expect = "FULL"
#: base = "solved"
# %%
import jaxtyped_things as jt
from jaxtyped_things import Float

import numpy as np

try:
    import cupy_things as xp
except ImportError:
    xp = np

# %% instead wasserstein_1d
def wasserstein_1d(x: Float[Tensor, "n"], y: jt.Float[Tensor, "n"], k: float) -> Float[Tensor, ""]:
    a, b = xp.sort(x.numpy()), np.sort(y.numpy())
    return (np.abs(a - b) ** k).mean() ** (1 / k)

# %% instead js_divergence
from jaxtyped_things import Bool
from math import log as ln


def js_divergence(log_p: Float[Tensor, "n"], log_q, dx) -> Bool:
    log_m = torch.logaddexp(log_p, log_q) - ln(2)
    return ((log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m)).sum() * dx) / 2
