"""The bound of a diffusion in bits per dimension: many noisy draws for every example."""

import torch
from torch import Tensor, nn

from gdm_course.batching import columns
from gdm_course.evaluation.bounds import elbos
from gdm_course.evaluation.likelihood import Estimate, bits_per_dim, estimate


def chain_bits(model: nn.Module, x: Tensor, least: int = 10_000) -> Estimate:
    """Return the mean of -elbo of codes in bits per dimension, with standard error.

    One draw looks at one step of the chain, so that few examples are drawn often.

    Args:
        model: anything with `elbo(x) -> (B,)`.
        x: codes (N, *D).
        least: draws over all examples, at least.
    """
    times = -(-least // len(columns(x)[0]))
    rows = torch.stack([elbos(model, x) for _ in range(times)]).mean(0)
    return estimate(bits_per_dim(-rows, columns(x)[0][0].numel()))


def bound_gap(model: nn.Module, known: tuple[Tensor, Tensor]) -> Estimate:
    """Return the mean of log p - elbo: at least KL(truth || model), in nats.

    Args:
        model: anything with `elbo(x) -> (B,)`.
        known: points (N, D) of a density, and its log p there (N,).
    """
    x, log_p = known
    return estimate(log_p.double().cpu() - elbos(model, x, 10_000))
