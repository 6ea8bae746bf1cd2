"""Densities in the plane whose truth is known: exact `log_prob`, `score` and `sample`.

    moons = toy.get("two_moons")
    x = moons.sample(1000)          # (1000, 2)
    moons.log_prob(x), moons.score(x)

`toy.names()` lists them. Each is a `Toy` around one of the three laws in `data/laws.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import ClassVar

import torch
from torch import Tensor

from gdm_course import validate
from gdm_course.data.laws import Cells, Chain, Mixture
from gdm_course.data.plane import MAKERS, Bounds


@dataclass(frozen=True)
class Toy:
    """A density in the plane that is known exactly: a Density and a Sampler.

    Attributes:
        name: under which `get` finds it.
        description: one sentence.
        law: what computes and samples it.
        bounds: ((x_lo, x_hi), (y_lo, y_hi)); at most 1e-4 of the mass lies outside.
    """

    name: str
    description: str
    law: Mixture | Chain | Cells = field(repr=False)
    bounds: Bounds
    D: ClassVar[int] = 2

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p(x) in nats, in the dtype of `x`: (B, 2) -> (B,)."""
        check_points(self.name, x)
        return self.law.log_prob(x)

    def score(self, x: Tensor) -> Tensor:
        """Return grad_x log p(x): (B, 2) -> (B, 2), differentiable if `x` requires grad."""
        return slope(self.log_prob, x)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw `n` points (n, 2), on the generator's device (the CPU if None)."""
        return self.law.sample(validate.count(n), generator)

    def cells(self, n: int = 400, margin: float = 0.0) -> tuple[Tensor, float]:
        """Cut `bounds` into n x n cells, as the function `cells` does."""
        return cells(self.bounds, n, margin)

    def entropy(self, n: int = 600) -> float:
        """Return -E log p in nats by the midpoint rule on n x n cells, good to 1e-3."""
        points, area = self.cells(n, margin=0.25)
        log_p = torch.cat([self.log_prob(part) for part in points.split(20_000)])
        return -(log_p.exp() * log_p).sum().item() * area


def check_points(name: str, x: Tensor) -> None:
    """Raise ValueError unless `x` is a floating-point tensor of shape (B, 2)."""
    if x.ndim != 2 or x.shape[1] != 2 or not x.is_floating_point():
        raise ValueError(
            f"{name} is a density in the plane: expected floating-point points of shape "
            f"(B, 2), got {x.dtype} of shape {tuple(x.shape)}"
        )


def slope(log_prob: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return the gradient of a log density at every point: (B, D) -> (B, D)."""
    with torch.enable_grad():
        at = x if x.requires_grad else x.detach().requires_grad_()
        total = log_prob(at).sum()  # rows do not mix, so the sum keeps them apart
        return torch.autograd.grad(total, at, create_graph=x.requires_grad)[0]


def cells(bounds: Bounds, n: int, margin: float = 0.0) -> tuple[Tensor, float]:
    """Return the centres (n * n, 2) of an n x n grid in float64, and the area of a cell.

    Args:
        bounds: of the rectangle.
        n: cells per axis.
        margin: widens the rectangle on every side, as a fraction of its width.
    """
    validate.at_least(1, n=n)
    axes, area = [], 1.0
    for low, high in bounds:
        low, width = low - margin * (high - low), (1 + 2 * margin) * (high - low)
        axes.append(low + (torch.arange(n, dtype=torch.float64) + 0.5) * width / n)
        area *= width / n
    return torch.cartesian_prod(*axes), area


def names() -> list[str]:
    """Return the names of all toy densities."""
    return list(MAKERS)


@cache
def get(name: str) -> Toy:
    """Return the toy density of that name.

    Raises:
        ValueError: no toy has that name; the message lists those that exist.
    """
    if name not in MAKERS:
        raise ValueError(
            f"no toy density is called {name!r}: choose from {', '.join(MAKERS)}"
        )
    make = MAKERS[name]
    return Toy(name, (make.__doc__ or "").strip(), *make())
