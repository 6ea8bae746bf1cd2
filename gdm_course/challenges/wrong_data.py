"""Likelihoods of data that a model has never seen, and scores that see what they miss.

The density here is counted, not trained: every pixel given the one to its left and the one
above it. It has an exact likelihood, no network, and the same fault as networks.

Numbered equations are those of the lecture challenges/responsibility.

References:
    Nalisnick, Matsukawa, Teh, Gorur, Lakshminarayanan (2019). Do deep generative models
        know what they don't know? arXiv:1810.09136.
    Nalisnick, Matsukawa, Teh, Lakshminarayanan (2019). Detecting out-of-distribution
        inputs to deep generative models using typicality. arXiv:1906.02994.
    Serra, Alvarez, Gomez, Slizovskaia, Nunez, Luque (2020). Input complexity and
        out-of-distribution detection with likelihood-based generative models.
        arXiv:1909.11480.
"""

import math
import zlib

import torch
import torch.nn.functional as F
from torch import Tensor

from gdm_course import validate
from gdm_course.evaluation.likelihood import Estimate


def contexts(x: Tensor, K: int) -> Tensor:
    """Return what every pixel is told, left * K + above, 0 outside: as x, (B, 1, H, W)."""
    x = validate.codes(x, K, (1, "H", "W"))
    padded = F.pad(x, (1, 0, 1, 0))
    return padded[:, :, 1:, :-1] * K + padded[:, :, :-1, 1:]


def count_pixels(x: Tensor, K: int, extra: float = 0.1) -> Tensor:
    """Return log p(value | left, above), counted on pictures x (B, 1, H, W): (K * K, K).

    Args:
        x: codes 0 to K - 1.
        K: grey values.
        extra: added to every count, so that nothing is impossible.
    """
    each = (contexts(x, K) * K + x.long()).flatten()
    counts = each.bincount(minlength=K**3).double().view(K * K, K) + extra
    return (counts / counts.sum(1, keepdim=True)).log()


def counted_log_prob(table: Tensor, x: Tensor) -> Tensor:
    """Return log p of pictures in nats, the sum over pixels: (B, 1, H, W) -> (B,)."""
    return table[contexts(x, table.shape[1]), x.long()].flatten(1).sum(1)


def zlib_nats(x: Tensor) -> Tensor:
    """Return the length of every picture when zlib has packed it, in nats: (B, *D) -> (B,).

    Args:
        x: codes 0 to 255.
    """
    rows = validate.codes(x, 256, ...).flatten(1).tolist()
    sizes = [len(zlib.compress(bytes(row), 9)) for row in rows]
    return torch.tensor(sizes, dtype=torch.float64) * 8 * math.log(2)


def typicality(nll: Tensor, usual: Tensor) -> Tensor:
    """Return how unusual a likelihood is, |nll - mean| / sd, equation (4): (B,) -> (B,).

    Both ways: an example may be too likely.

    Args:
        nll: -log p of what is judged.
        usual: -log p of data that are known to be of the right kind, (N,).
    """
    usual = validate.points(usual, (), name="usual", least=2)
    return (validate.points(nll, (), name="nll") - usual.mean()).abs() / usual.std()


def auroc(normal: Tensor, strange: Tensor) -> Estimate:
    """Return P(strange > normal) + P(equal) / 2, equation (3), with its standard error.

    1/2 is chance, 1 a score that separates, below 1/2 one that is wrong way round. It is
    the Mann-Whitney statistic over the number of pairs, and the area under the curve of
    hits against false alarms. The error is that of DeLong and others (1988).

    Args:
        normal, strange: scores (N,) and (M,), 2 or more each; large should mean strange.
    """
    a = validate.points(normal, (), name="normal", least=2).double()
    b = validate.points(strange, (), name="strange", least=2).double()
    won, lost = share_below(b, a), 1 - share_below(a, b)
    error = math.sqrt(won.var().item() / len(b) + lost.var().item() / len(a))
    return Estimate(won.mean().item(), error)


def share_below(x: Tensor, others: Tensor) -> Tensor:
    """Return the share of the others below each of x, where a tie counts half: (B,)."""
    ordered = others.sort().values
    ends = (torch.searchsorted(ordered, x, right=side).double() for side in (False, True))
    return sum(ends) / (2 * len(others))
