"""Bounds of the likelihood: what models report that know no exact one."""

import torch
from torch import Tensor, nn

from gdm_course.batching import Batch, columns
from gdm_course.evaluation.likelihood import (
    Estimate,
    bits_per_dim,
    device_of,
    estimate,
    portions,
)
from gdm_course.learning import evaluating


@torch.no_grad()
def elbos(model: nn.Module, x: Batch, batch: int = 500, k: int = 1) -> Tensor:
    """Return lower bounds of log P in nats, in evaluation mode, `batch` rows at a time.

    Args:
        model: anything with `elbo(x) -> (B,)` (and `iwae(x, k)`, if k > 1).
        x: examples (N, *D), or a tuple of tensors with N rows each for `elbo(*x)`.
        batch: rows at a time; lower it when memory is short.
        k: draws per example; more draws give a tighter bound.

    Returns:
        (N,) float64 on the CPU. It is noisy: the bound draws at random.
    """
    device, parts = device_of(model), []
    with evaluating(model):
        for rows in portions(x, batch, device):
            bound = model.elbo(*rows) if k == 1 else model.iwae(*rows, k)
            parts.append(bound.double().cpu())
    return torch.cat(parts)


def bound_bits(model: nn.Module, x: Batch, batch: int = 500, k: int = 1) -> Estimate:
    """Return the mean of -elbo of codes in bits per dimension, with standard error."""
    return estimate(bits_per_dim(-elbos(model, x, batch, k), columns(x)[0][0].numel()))


def tight_bits(model: nn.Module, x: Batch, batch: int = 250) -> Estimate:
    """`bound_bits` with 8 draws per example, as papers on flows report it."""
    return bound_bits(model, x, batch, k=8)
