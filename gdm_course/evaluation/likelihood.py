"""Likelihoods with their standard error, and the one conversion to bits per dimension."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gdm_course import validate
from gdm_course.batching import Batch, columns, whole
from gdm_course.learning import evaluating
from gdm_course.protocols import Density


class Estimate(NamedTuple):
    """A mean over examples and its standard error, in one unit."""

    value: float
    error: float


def device_of(model: nn.Module) -> torch.device:
    """Return where a model lives: the device of its first parameter, or the CPU."""
    for p in model.parameters():
        return p.device
    return torch.device("cpu")


def portions(x: Batch, batch: int, device: torch.device) -> Iterator[tuple[Tensor, ...]]:
    """Go through examples in order, `batch` rows at a time, on a device.

    Raises:
        TypeError: x is neither a tensor nor a tuple or list of tensors.
        ValueError: their numbers of rows differ, or `batch` is below 1.
    """
    parts = [t.split(whole("batch", batch, 1)) for t in columns(x)]
    for rows in zip(*parts, strict=True):
        yield tuple(t.to(device) for t in rows)


@torch.no_grad()
def log_probs(model: Density, x: Batch, batch: int = 1000) -> Tensor:
    """Return log p of every example in nats, in evaluation mode, `batch` rows at a time.

    Args:
        model: anything with `log_prob`; left in the mode (training or not) it was in.
        x: examples (N, *D), or a tuple of tensors with N rows each for `log_prob(*x)`.
        batch: rows at a time; lower it when memory is short.

    Returns:
        log p(x_i) in nats, (N,) float64 on the CPU.

    Raises:
        TypeError: the model has no `log_prob`: it knows no exact likelihood.
    """
    if not isinstance(model, Density):
        name = type(model).__name__
        raise TypeError(f"{name} has no log_prob, so no exact likelihood: use its bound")
    parts, device = [], device_of(model)
    with evaluating(model):
        for rows in portions(x, batch, device):
            parts.append(model.log_prob(*rows).double().cpu())
    return torch.cat(parts)


def estimate(values: Tensor) -> Estimate:
    """Return the mean of independent values (N,) and its standard error sigma / sqrt(N)."""
    values = validate.points(values, (), name="values", least=2).double()
    return Estimate(values.mean().item(), values.std().item() / math.sqrt(len(values)))


def nll_estimate(model: Density, x: Batch, batch: int = 1000) -> Estimate:
    """Return the mean negative log-likelihood in nats per example, with standard error."""
    return estimate(-log_probs(model, x, batch))


def compare(a: Density, b: Density, x: Batch, batch: int = 1000) -> Estimate:
    """Return how much likelier the examples are under `a` than under `b`, in nats each.

    Both models see the same examples, so the error is that of the *paired* difference
    log p_a(x_i) - log p_b(x_i): what makes an example hard for both cancels.

    Args:
        a, b: anything with `log_prob`.
        x: examples (N, *D), or a tuple of tensors with N rows each.
        batch: rows at a time.
    """
    return estimate(log_probs(a, x, batch) - log_probs(b, x, batch))


def block_nll(model: Density, x: Tensor, batch: int = 64) -> Estimate:
    """Return the negative log-likelihood in nats per token of blocks of tokens (N, T).

    Every token counts once, the first of each block too, which the model sees without any
    past: an exact code length of the whole text, if blocks are sent one by one.
    """
    return estimate(-log_probs(model, x, batch) / x.shape[1])


@torch.no_grad()
def stream_nll(model: Density, x: Tensor, batch: int = 64) -> Estimate:
    """Return nats per token of one text in consecutive blocks (N, T), with more past.

    Windows of T overlap by a half, and only their second half counts: every token is told
    from T / 2 to T - 1 tokens before it. The first half block has no such past: left out.
    """
    T, device = x.shape[1], device_of(model)
    windows = x.flatten().unfold(0, T, T - T // 2)
    with evaluating(model):
        parts = [
            model.conditionals(w).log_prob(w)[:, T // 2 :].mean(1).double().cpu()
            for w in (chunk.to(device) for chunk in windows.split(batch))
        ]
    return estimate(-torch.cat(parts))


def bits_estimate(model: Density, x: Batch, batch: int = 1000) -> Estimate:
    """Return the mean negative log-likelihood of codes in bits per dimension, and error."""
    D = columns(x)[0][0].numel()
    return estimate(bits_per_dim(-log_probs(model, x, batch), D))


def nll(model: Density, x: Batch, batch: int = 1000) -> float:
    """Return the mean negative log-likelihood of examples (N, *D) in nats per example."""
    return nll_estimate(model, x, batch).value


def bits_per_dim(nats: float | Tensor, shape: int | Sequence[int]) -> float | Tensor:
    """Convert nats per example into bits per dimension: nats / (D ln 2).

    This is the only conversion in the course. It is for discrete data: the nats are
    -log P of integers. From the density of data rescaled to [0, 1] with K levels, go back
    to -log P first, by adding D ln K nats.

    Args:
        nats: negative log-likelihood per example, a number or a tensor.
        shape: of one example, such as (3, 32, 32), or its number of dimensions D.
    """
    D = shape if isinstance(shape, int) else math.prod(shape)
    if D < 1:
        raise ValueError(f"an example of shape {shape} has no dimensions to share the nats")
    return nats / (D * math.log(2))


def kl_to_truth(model: Density, x: tuple[Tensor, Tensor], batch: int = 5000) -> Estimate:
    """Return KL(truth || model) in nats, where the truth's own density is known.

    Args:
        model: anything with `log_prob`.
        x: points of the truth (N, D), and the truth's log p at each, (N,).
        batch: rows at a time.
    """
    points, log_p = columns(x)
    validate.one_each(log_p, len(points), "the truth's log p")
    return estimate(log_p.double().cpu() - log_probs(model, points, batch))
