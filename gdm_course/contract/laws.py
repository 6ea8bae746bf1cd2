"""The laws that an entry is tried on: drawn anew, from a seed, for every grading."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gdm_course.data import images

TRAINING = 4096  # rows of the plane that an entry is given


@dataclass(frozen=True)
class Bells:
    """A mixture of K round bells in the plane, with mean 0 and variance 1 per coordinate.

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
    K = int(torch.randint(5, 9, (), generator=g))
    means = _apart(K, g)
    std = 0.08 + 0.2 * torch.rand(K, generator=g)
    weights = 0.5 + torch.rand(K, generator=g)
    weights = weights / weights.sum()
    means = means - weights @ means
    spread = ((weights @ (means.square().sum(1) + 2 * std.square())) / 2).sqrt()
    return Bells(weights, means / spread, std / spread)


def _apart(K: int, g: torch.Generator) -> Tensor:
    """K places (K, 2) in a square of side 4, each the farthest from the others of ten."""
    places = 4 * torch.rand(1, 2, generator=g) - 2
    while len(places) < K:
        tries = 4 * torch.rand(10, 2, generator=g) - 2
        best = torch.cdist(tries, places).min(1).values.argmax()
        places = torch.cat([places, tries[best, None]])
    return places


@dataclass(frozen=True)
class Turned:
    """The digits of 8 x 8, turned in their 64 dimensions by a random rotation.

    A perceptron that starts at random does not notice the rotation, but nothing that was
    learnt beforehand fits.

    Attributes:
        rotation: Q (64, 64), orthogonal; rows are turned by x Q.
        rows: half of the digits, turned: what an entry is given (N, 64).
        others: the other half, pictures (M, 1, 8, 8) with values from -1 to 1.
    """

    rotation: Tensor
    rows: Tensor
    others: Tensor

    def pictures(self, x: Tensor) -> Tensor:
        """Turn samples (n, 64) back into pictures (n, 1, 8, 8)."""
        return (x @ self.rotation.T).reshape(-1, 1, 8, 8)


def turned(g: torch.Generator) -> Turned:
    """Draw a rotation, and which half of the digits an entry is given."""
    data = images.load("digits")
    codes = torch.cat([data.x_train, data.x_valid, data.x_test])
    x = codes.float()[torch.randperm(len(codes), generator=g)] * (2 / 16) - 1
    rotation, triangle = torch.linalg.qr(torch.randn(64, 64, generator=g))
    rotation = rotation * triangle.diagonal().sign()  # else it is not uniform
    half = len(x) // 2
    return Turned(rotation, x[:half].flatten(1) @ rotation, x[half:])
