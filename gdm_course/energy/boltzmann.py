"""Boltzmann machines: bits on a landscape of energy, and how they move at a temperature.

p(x) = e^-E(x) / Z: equation (1). The Ising model has its landscape given; a Boltzmann
machine learns it, here exactly, which costs 2^D.

References:
    Ising (1925). Beitrag zur Theorie des Ferromagnetismus. Zeitschrift fuer Physik 31.
    Ackley, Hinton, Sejnowski (1985). A learning algorithm for Boltzmann machines.
        Cognitive Science 9(1).
"""

import torch
from torch import Generator, Tensor, nn

from gdm_course import validate
from gdm_course.energy.normalise import log_z_states
from gdm_course.energy.rbm import coin
from gdm_course.nets import precise


class Ising(nn.Module):
    """Spins s = 2x - 1 on a sheet that closes in itself: E = -sum of s s' / T, neighbours.

    Args:
        L: cells along a side, an even number.
        T: temperature; order sets in below 2 / log(1 + sqrt 2) = 2.269.
    """

    def __init__(self, L: int, *, T: float = 2.269):
        super().__init__()
        if validate.count(L, "L", 2) % 2:
            raise ValueError(f"L is {L}: expected an even number, for a chessboard")
        if not T > 0:
            raise ValueError(f"T is {T}: expected a positive temperature, such as 2.269")
        self.register_buffer("T", torch.tensor(float(T)))
        self.register_buffer(
            "black", torch.arange(L)[:, None].add(torch.arange(L)) % 2 == 0
        )

    def energy(self, x: Tensor) -> Tensor:
        """Return E(x) in nats: bits (B, L, L) -> (B,)."""
        s = 2 * validate.bits(x, self.black.shape, self.T) - 1
        return -(s * (s.roll(1, 1) + s.roll(1, 2))).sum((1, 2)) / self.T

    def sweep(self, x: Tensor, generator: Generator | None = None) -> Tensor:
        """Draw the black cells anew given the white ones, then the white: (B, L, L)."""
        for half in (self.black, ~self.black):
            s = 2 * x - 1
            field = sum(s.roll(step, axis) for step in (1, -1) for axis in (1, 2))
            x = torch.where(half, coin(torch.sigmoid(2 * field / self.T), generator), x)
        return x

    def sample(
        self, n: int, sweeps: int = 200, generator: Generator | None = None
    ) -> Tensor:
        """Start at coin tosses and sweep: (n, L, L) bits; in the limit exact."""
        x = coin(self.T.new_full((validate.count(n), *self.black.shape), 0.5), generator)
        for _ in range(validate.count(sweeps, "sweeps")):
            x = self.sweep(x, generator)
        return x


def symmetric(wires: Tensor, D: int) -> Tensor:
    """Return wires J_ij, i < j, as a matrix with a diagonal of zeros: (D, D)."""
    i, j = torch.triu_indices(D, D, 1, device=wires.device)
    upper = wires.new_zeros(D, D).index_put((i, j), wires)
    return upper + upper.T


class BoltzmannMachine(nn.Module):
    """E(x) = -1/2 x'Jx - b'x over D bits, each wired to each: fitted exactly.

    Args: D, the number of bits; `loss` visits all 2^D states, so 20 is already slow.
    """

    def __init__(self, D: int):
        super().__init__()
        validate.at_least(1, D=D)
        self.wires = nn.Parameter(torch.zeros(D * (D - 1) // 2))
        self.b = nn.Parameter(torch.zeros(D))

    def energy(self, x: Tensor) -> Tensor:
        """Return E(x) in nats: bits (B, D) -> (B,)."""
        x, J = validate.bits(x, len(self.b), self.b), symmetric(self.wires, len(self.b))
        return -precise((x @ J * x).sum(1) / 2 + x @ self.b)

    def log_z(self) -> Tensor:
        """Return log Z by visiting all 2^D states: (), float64."""
        return log_z_states(self.energy, len(self.b))

    def loss(self, x: Tensor) -> Tensor:
        """Return the exact mean of -log p(x) in nats, whose slope is minus (3)."""
        E = self.energy(x)
        return E.mean() + self.log_z().to(E.dtype)

    @torch.no_grad()
    def gibbs(self, x: Tensor, k: int = 1, generator: Generator | None = None) -> Tensor:
        """Draw each unit in turn, k times: p(x_i = 1 | rest) = sigmoid((Jx + b)_i), (2)."""
        x, J = x.clone(), symmetric(self.wires, len(self.b))
        for i in [*range(len(self.b))] * k:
            x[:, i] = coin(torch.sigmoid(x @ J[i] + self.b[i]), generator)
        return x

    def sample(self, n: int, k: int = 200) -> Tensor:
        """Start at coin tosses and draw every unit k times: (n, D) bits."""
        x = coin(self.b.new_full((validate.count(n), len(self.b)), 0.5).detach())
        return self.gibbs(x, validate.count(k, "k"))
