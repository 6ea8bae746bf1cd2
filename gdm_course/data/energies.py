"""Four energies of the plane: densities known but for a factor, p(x) = e^-U(x) / Z.

    rings = energies.get("U1")
    rings(x)                    # U (B,), all that a sampler or a flow may use
    rings.log_prob(x)           # -U - log Z, with log Z by quadrature: the truth

They are those of Rezende and Mohamed, but for a wall. Their U2, U3 and U4 only depend on
the distance from a curve that runs from x1 = -inf to inf, so that Z would be infinite. Here
U grows beyond |x1| = 4, the edge of their figures.

References:
    Rezende, Mohamed (2015). Variational inference with normalizing flows. arXiv:1505.05770.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import ClassVar

import torch
from torch import Tensor

from gdm_course.data.plane import Bounds, square
from gdm_course.data.toy import cells, check_points, slope


@dataclass(frozen=True)
class Energy:
    """An energy of the plane, with its normaliser for judging what fits it.

    Attributes:
        name: under which `get` finds it.
        description: one sentence.
        U: the energy in nats, (B, 2) -> (B,).
        bounds: ((x_lo, x_hi), (y_lo, y_hi)); at most 1e-4 of the mass lies outside.
        log_z: log of the integral of e^-U, in nats.
    """

    name: str
    description: str
    U: Callable[[Tensor], Tensor] = field(repr=False)
    bounds: Bounds
    log_z: float
    D: ClassVar[int] = 2

    def __call__(self, x: Tensor) -> Tensor:
        """Return U(x) in nats: (B, 2) -> (B,)."""
        check_points(self.name, x)
        return self.U(x)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p(x) = -U(x) - log Z in nats: (B, 2) -> (B,)."""
        return -self(x) - self.log_z

    def score(self, x: Tensor) -> Tensor:
        """Return grad_x log p(x) = -grad U(x), which needs no Z: (B, 2) -> (B, 2)."""
        return slope(self.log_prob, x)


def bell(t: Tensor, width: float) -> Tensor:
    """Return the log of exp(-(t / width)^2 / 2)."""
    return -0.5 * (t / width).square()


def wall(a: Tensor) -> Tensor:
    """Return the energy that holds x1 between -4 and 4: 0 inside, a parabola outside."""
    return -bell((a.abs() - 4).relu(), 0.4)


def wave(a: Tensor) -> Tensor:
    """Return the height of the curve along which U2, U3 and U4 run: a sine of period 4."""
    return torch.sin(math.pi * a / 2)


def rings(x: Tensor) -> Tensor:
    """A ring of radius 2, strong at the left and at the right."""
    a, r = x[:, 0], torch.linalg.vector_norm(x, dim=1)
    sides = torch.logaddexp(bell(a - 2, 0.6), bell(a + 2, 0.6))
    return -bell(r - 2, 0.4) - sides


def river(x: Tensor) -> Tensor:
    """A band around a sine."""
    a, b = x.unbind(1)
    return wall(a) - bell(b - wave(a), 0.4)


def island(x: Tensor) -> Tensor:
    """A band around a sine that parts into two and meets again."""
    a, b = x.unbind(1)
    lower = b - wave(a) + 3 * bell(a - 1, 0.6).exp()
    return wall(a) - torch.logaddexp(bell(b - wave(a), 0.35), bell(lower, 0.35))


def fork(x: Tensor) -> Tensor:
    """A band around a sine that parts into two for good."""
    a, b = x.unbind(1)
    lower = b - wave(a) + 3 * torch.sigmoid((a - 1) / 0.3)
    return wall(a) - torch.logaddexp(bell(b - wave(a), 0.4), bell(lower, 0.35))


ENERGIES = {
    "U1": (rings, square(4.2)),
    "U2": (river, square(6.0)),
    "U3": (island, square(6.0)),
    "U4": (fork, square(6.0)),
}


def names() -> list[str]:
    """Return the names of all energies."""
    return list(ENERGIES)


@cache
def get(name: str) -> Energy:
    """Return the energy of that name; its log Z is computed once, good to 1e-6 nats.

    Raises:
        ValueError: no energy has that name; the message lists those that exist.
    """
    if name not in ENERGIES:
        raise ValueError(f"no energy is called {name!r}: choose from {', '.join(ENERGIES)}")
    U, bounds = ENERGIES[name]
    points, area = cells(bounds, 500, margin=0.25)
    log_z = torch.logsumexp(-U(points), 0).item() + math.log(area)
    return Energy(name, (U.__doc__ or "").strip(), U, bounds, log_z)
