"""The plane: a law that is drawn anew for every grading, and the distance from it."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gdm_course.contract.frozen import JUMPS, generate, with_weights

TRAINING = 4096  # rows that an entry is given


@dataclass(frozen=True)
class Bells:
    """A mixture of K round bells in the plane, with variance 1 per coordinate on average.

    Its mean is at a distance of 1.5 from 0, so that noise is far from being a sample.

    Attributes:
        weights: (K,), summing to 1.
        means: (K, 2).
        std: (K,).
    """

    weights: Tensor
    means: Tensor
    std: Tensor

    def sample(self, n: int, g: torch.Generator) -> Tensor:
        """Draw points (n, 2)."""
        k = torch.multinomial(self.weights, n, replacement=True, generator=g)
        return self.means[k] + self.std[k, None] * torch.randn(n, 2, generator=g)


def bells(g: torch.Generator) -> Bells:
    """Draw a law: 5 to 8 bells of unequal weight and width at random places."""
    K = int(torch.randint(3, 6, (), generator=g))
    means = _apart(K, g)
    std = 0.06 + 0.12 * torch.rand(K, generator=g)
    weights = 0.5 + torch.rand(K, generator=g)
    weights = weights / weights.sum()
    means = means - weights @ means
    spread = ((weights @ (means.square().sum(1) + 2 * std.square())) / 2).sqrt()
    angle = 2 * math.pi * torch.rand((), generator=g)
    middle = 1.5 * torch.stack([angle.cos(), angle.sin()])
    return Bells(weights, middle + means / spread, std / spread)


def _apart(K: int, g: torch.Generator) -> Tensor:
    """K places (K, 2) in a square of side 4, each the farthest from the others of ten."""
    places = 4 * torch.rand(1, 2, generator=g) - 2
    while len(places) < K:
        tries = 4 * torch.rand(10, 2, generator=g) - 2
        best = torch.cdist(tries, places).min(1).values.argmax()
        places = torch.cat([places, tries[best, None]])
    return places


def energy_distance(x: Tensor, y: Tensor) -> Tensor:
    """Return 2 E|X - Y| - E|X - X'| - E|Y - Y'|, unbiased: (N, D), (M, D) -> ().

    It is 0 if and only if both laws are the same; an estimate may fall below.

    References:
        Szekely and Rizzo (2013), Energy statistics: a class of statistics based on
        distances.
    """
    n, m = len(x), len(y)
    own = torch.cdist(x, x).sum() / (n * (n - 1)) + torch.cdist(y, y).sum() / (m * (m - 1))
    return 2 * torch.cdist(x, y).mean() - own


def scores(weights: Tensor, law: Bells, g: torch.Generator, n: int = 3000) -> list[float]:
    """Return the energy distance of samples from the law, for each number of evaluations.

    Args:
        weights: of the frozen network, as `Contract.fit` returns them.
        law: that the samples should have.
        g: draws noise and the law's own points.
        n: how many of each.
    """
    net, real = with_weights(weights, 2), law.sample(n, g)
    eps = torch.randn(n, 2, generator=g)
    return [energy_distance(generate(net, eps, k), real).item() for k in JUMPS]
