"""Judging draws of bits: do they come as often as a law says, and each one anew?"""

import itertools
from functools import lru_cache

import torch
from torch import Tensor


@lru_cache
def all_bits(D: int) -> Tensor:
    """Return all 2^D points of D bits, in the order of the numbers they spell: (2^D, D)."""
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=D)))


def not_drawn_from(x: Tensor, p: Tensor) -> str | None:
    """Say what is wrong with draws that should be independent, under one known law.

    All margins are six standard errors of an honest answer, or a little wider.

    Args:
        x: draws (n, D), 0 or 1.
        p: the probabilities of the 2^D points of `all_bits(D)`.
    """
    x, p, n = x.double(), p.double(), len(x)
    codes = (x @ 2.0 ** torch.arange(x.shape[1] - 1, -1, -1).double()).long()
    counts = codes.bincount(minlength=len(p)).double()
    allowed = 6 * (n * p * (1 - p)).sqrt() + 6  # for those that hardly ever come
    if ((counts - n * p).abs() > allowed).any():
        return f"the {len(p)} states do not come as often as the model's density says"
    if _copied(counts, p, n) or any(_linked(x, p, lag) for lag in {1, n // 2} - {0, n}):
        return "draws depend on one another: each of the n is to be drawn anew"
    return None


def _copied(counts: Tensor, p: Tensor, n: int) -> bool:
    """Whether too many or too few pairs of draws are equal."""
    pairs = (counts * (counts - 1)).sum() / 2
    two, three = p.square().sum(), p.pow(3).sum()
    mean = n * (n - 1) / 2 * two
    shared = n * (n - 1) * (n - 2) * (three - two**2)  # pairs that have a draw in common
    spread = (mean * (1 - two) + shared.clamp_min(0)).sqrt()
    return bool((pairs - mean).abs() > 6 * spread + 12)


def _linked(x: Tensor, p: Tensor, lag: int) -> bool:
    """Whether draws a lag apart vary together, or against each other."""
    states = all_bits(x.shape[1]).double()
    mean = p @ states
    covariance = (states - mean).T @ (p[:, None] * (states - mean))
    products = ((x[lag:] - mean) * (x[:-lag] - mean)).sum()
    spread = (len(x) - lag) ** 0.5 * torch.linalg.matrix_norm(covariance)
    return bool(products.abs() > 6 * spread + 12)
