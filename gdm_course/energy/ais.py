"""Annealed importance sampling: log Z of an RBM too large to sum, as an estimate.

References:
    Neal (2001). Annealed importance sampling. arXiv:physics/9803008.
    Salakhutdinov, Murray (2008). On the quantitative analysis of deep belief networks.
    Burda, Grosse, Salakhutdinov (2015). Accurate and conservative estimates of MRF
        log-likelihood using reverse annealing. arXiv:1412.8566.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from gdm_course import validate
from gdm_course.energy.rbm import RBM, coin


def log_between(
    rbm: RBM, a: Tensor, B: float, v: Tensor, inputs: Tensor | None = None
) -> Tensor:
    """Return log f_B(v), from independent bits with biases a (B = 0) to the RBM (B = 1).

    log f_B(v) = (1 - B) a'v + B b'v + sum_j softplus(B (c + v'W)_j).

    Args: v (n, D), and the inputs c + v'W (n, H) if they are known. Returns: (n,), float64.
    """
    inputs = rbm.c + v @ rbm.W if inputs is None else inputs
    return (v @ ((1 - B) * a + B * rbm.b) + F.softplus(B * inputs).sum(1)).double()


def step_between(
    rbm: RBM, a: Tensor, B: float, inputs: Tensor, generator: Generator | None = None
) -> Tensor:
    """Take one Gibbs step that leaves f_B as it is: c + v'W (n, H) -> the next v (n, D)."""
    h = coin(torch.sigmoid(B * inputs), generator)
    return coin(torch.sigmoid((1 - B) * a + B * rbm.b + B * (h @ rbm.W.T)), generator)


@torch.no_grad()
def annealed_log_weights(
    rbm: RBM,
    a: Tensor,
    betas: Sequence[float],
    n: int = 100,
    generator: Generator | None = None,
) -> Tensor:
    """Anneal n chains from independent bits to the RBM and weigh them: (6).

    log w = sum_k log f_k(v_k) - log f_{k-1}(v_k), where v_k is drawn under f_{k-1}.
    The mean of w is Z / Z_0, whatever the betas; the mean of log w lies below.

    Args:
        rbm: the model.
        a: biases of the start (D,), such as `logit_mean` of the data.
        betas: from 0 to 1, rising.
        n: chains.
        generator: of all draws; None takes the global one.

    Returns:
        log w (n,), float64.
    """
    rising = all(low < high for low, high in pairwise(betas))
    if not (rising and betas[0] == 0 and betas[-1] == 1):
        raise ValueError(f"betas run {betas[0]} to {betas[-1]}: expected 0 to 1, rising")
    a = validate.points(a, (), rbm.b, name="a")
    v = coin(torch.sigmoid(a).expand(validate.count(n, least=1), -1), generator)
    log_w = v.new_zeros(n, dtype=torch.float64)
    for low, high in pairwise(betas):
        inputs = rbm.c + v @ rbm.W  # of both densities and of the step
        log_w += log_between(rbm, a, high, v, inputs) - log_between(rbm, a, low, v, inputs)
        v = step_between(rbm, a, high, inputs, generator)
    return log_w


def log_z_start(a: Tensor, H: int) -> Tensor:
    """Return log Z_0 of the start: sum_i softplus(a_i), and log 2 for each hidden unit."""
    return F.softplus(a.double()).sum() + H * math.log(2)


class LogZ(NamedTuple):
    """An estimate of log Z, in nats, its standard error, and how many chains count."""

    value: float
    error: float
    effective: float


def log_z_estimate(log_w: Tensor, log_z_0: Tensor | float = 0.0) -> LogZ:
    """Return log Z_0 + log of the mean weight, from log weights (n,).

    The error is that of the mean weight, relative to it; the effective number of chains is
    (sum w)^2 / sum w^2. With few of them both the error and the value come out too small.
    """
    log_w, n = validate.points(log_w, (), name="log_w", least=2).double(), len(log_w)
    shares = torch.softmax(log_w, 0)
    value = torch.logsumexp(log_w, 0) - math.log(n) + log_z_0
    return LogZ(
        float(value),
        (n * shares).std().item() / math.sqrt(n),
        1 / shares.square().sum().item(),
    )
