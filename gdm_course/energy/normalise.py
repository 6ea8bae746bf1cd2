"""The constant that an energy leaves out: log Z, summed or integrated exactly.

p(x) = e^-E(x) / Z,  Z = the sum, or the integral, of e^-E over all x. Only where
all of them can be visited is log Z known, and only then is an energy a Density.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from gdm_course import validate

Energy = Callable[[Tensor], Tensor]
MOST_BITS = 24  # 16.8 million states


def states(n: int) -> Tensor:
    """Return all 2^n patterns of n bits, (2^n, n) uint8, counting upwards in binary."""
    if validate.count(n, "n") > MOST_BITS:
        raise ValueError(
            f"{n} bits have 2^{n} states: expected {MOST_BITS} bits at most; sum over the "
            "smaller side of the model, or estimate log Z by annealed importance sampling"
        )
    places = 2 ** torch.arange(n - 1, -1, -1)
    return (torch.arange(2**n)[:, None] & places).ne(0).byte()


def log_sum(energy: Energy, x: Tensor, rows: int = 1 << 16) -> Tensor:
    """Return log of the sum of e^-E over the rows of x, so many rows at a time: ().

    Whole numbers become real ones of torch's default dtype; the parts are added in float64.
    """
    parts = [torch.logsumexp(-energy(_real(part)).double(), 0) for part in x.split(rows)]
    return torch.logsumexp(torch.stack(parts), 0)


def _real(x: Tensor) -> Tensor:
    return x if x.is_floating_point() else x.to(torch.get_default_dtype())


def log_z_states(energy: Energy, n: int) -> Tensor:
    """Return log Z of an energy of n bits by visiting all 2^n states: (), float64.

    Differentiable in the parameters of the energy: its gradient is the model's half of that
    of the log-likelihood.
    """
    return log_sum(energy, states(n))


def cell_centres(bounds: tuple, n: int) -> tuple[Tensor, float]:
    """Cut a box into n^D cells: their centres (n^D, D), float64, and the volume of one.

    Args: bounds, ((low, high), ...) for every dimension.
    """
    sides = [
        low + (torch.arange(n).double() + 0.5) * (high - low) / n for low, high in bounds
    ]
    return torch.cartesian_prod(*sides).reshape(-1, len(bounds)), math.prod(
        (high - low) / n for low, high in bounds
    )


def log_z_grid(energy: Energy, bounds: tuple, n: int = 200, dtype=None) -> Tensor:
    """Return log Z by the midpoint rule on n cells a side: (), float64.

    Args:
        energy: in nats, (B, D) -> (B,), differentiable in its parameters if need be.
        bounds: ((low, high), ...): outside of it e^-E has to be negligible.
        n: cells in every dimension.
        dtype: of the points; None takes torch's default.
    """
    points, volume = cell_centres(bounds, n)
    points = points.to(dtype or torch.get_default_dtype())
    return log_sum(energy, points) + math.log(volume)


class Normalised(nn.Module):
    """An energy with its exact log Z: a Density, log p(x) = -E(x) - log Z.

    An estimate of log Z has no place here: the result would be no log-probability.

    Args:
        model: with `energy(x)` in nats, (B, *D) -> (B,).
        log_z: of that energy, exact, such as from `log_z_states`.
    """

    def __init__(self, model: nn.Module, log_z: Tensor | float):
        super().__init__()
        self.model = model
        self.register_buffer("log_z", torch.as_tensor(log_z).detach().double())

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p(x) in nats: (B, *D) -> (B,)."""
        E = self.model.energy(x)
        return -E - self.log_z.to(E.dtype)
