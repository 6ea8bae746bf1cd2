"""Counting what a sampler finds, where the truth is a handful of round Gaussians."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from gdm_course import validate


class Census(NamedTuple):
    """What was counted.

    Attributes:
        modes: how many were found.
        quality: share of the points that lie within 3 sigma of a mode.
        shares: of the good points, by mode (K,).
        kl: KL(shares || equal shares), in nats: 0 to log K.
    """

    modes: int
    quality: float
    shares: Tensor
    kl: float


def census(x: Tensor, centres: Tensor, sigma: float, least: float = 0.1) -> Census:
    """Give every point to the nearest mode, and count the good ones.

    A point is good if it lies within 3 sigma of its mode; of exact samples in the plane
    1 - e^(-9/2) = 98.9 % are. A mode is found if its good points are at least a tenth
    (`least`) of its fair share, len(x) / K: one stray point is no mode.

    Args:
        x: samples (n, D).
        centres: of the modes (K, D).
        sigma: standard deviation of each mode, in each dimension.
        least: that part of a fair share.
    """
    centres = validate.points(centres, "D", name="centres")
    K, D = centres.shape
    if not 0 < sigma < math.inf:
        raise ValueError(f"sigma is {sigma}: expected the width of a mode, above 0")
    distance, nearest = torch.cdist(validate.points(x, D), centres.to(x)).min(1)
    good = distance <= 3 * sigma
    counts = nearest[good].bincount(minlength=K).double()
    modes = int((counts >= max(1, least * len(x) / K)).sum())
    shares = counts / counts.sum().clamp_min(1)
    kl = torch.xlogy(shares, K * shares).sum().item() if good.any() else math.inf
    return Census(modes, good.double().mean().item(), shares, kl)
