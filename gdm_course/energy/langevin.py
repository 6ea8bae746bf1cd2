"""A deep energy by maximum likelihood: lowered at the data, raised where chains go.

The gradient of -log p(x) is grad E(x) - E_model[grad E], and chains stand for the model:
    loss = mean E(data) - mean E(chains),
whose gradient is right if the chains are. Its value is no likelihood: far below 0 it is an
alarm, near 0 it proves nothing.

References:
    Hinton (2002). Training products of experts by minimizing contrastive divergence.
    Tieleman (2008). Training restricted Boltzmann machines using approximations to the
        likelihood gradient.
    Du, Mordatch (2019). Implicit generation and modeling with energy-based models.
        arXiv:1903.08689.
    Nijkamp, Hill, Han, Zhu, Wu (2020). On the anatomy of MCMC-based maximum likelihood
        learning of energy-based models. arXiv:1903.12370.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gdm_course import validate
from gdm_course.energy.network import EnergyNet
from gdm_course.energy.normalise import log_z_grid
from gdm_course.energy.sampling import langevin_step
from gdm_course.learning import on_backward

Step = Callable[[Callable, Tensor, float], Tensor]


def run(
    energy: Callable, x: Tensor, eps: float, steps: int, step: Step = langevin_step
) -> Tensor:
    """Take so many steps with every chain: (B, *D) -> (B, *D), without a gradient."""
    for _ in range(steps if len(x) else 0):
        x = step(energy, x, eps)
    return x.detach()


class ExactEnergyModel(EnergyNet):
    """The likelihood itself: loss = mean E + log Z, with log Z summed over a grid.

    Args:
        D: dimension of a point, 1 or 2 in practice.
        bounds: ((low, high), ...) of the grid, outside of which e^-E is negligible.
        cells: of the grid in every dimension.
        net: more about the energy, see `EnergyNet`.
    """

    def __init__(self, D: int, bounds: Sequence, *, cells: int = 64, **net):
        validate.at_least(1, cells=cells)
        super().__init__(D, **net)
        self.bounds, self.cells = tuple(bounds), cells

    def loss(self, x: Tensor) -> Tensor:
        """Return the mean of -log p in nats, as good as the grid: (B, D) -> ()."""
        E = self.energy(x)
        log_z = log_z_grid(self.energy, self.bounds, self.cells, validate.dtype_of(self))
        return E.mean() + log_z.to(E.dtype)


class EnergyModel(EnergyNet):
    """Contrastive divergence: the chains start at the data and take a few steps.

    Args:
        D: dimension of a point.
        k: steps of a chain before it is used.
        eps: size of a step.
        step: what a step is: `langevin_step`, or another of its kind.
        net: more about the energy, see `EnergyNet`.
    """

    def __init__(
        self, D: int, *, k: int = 5, eps: float = 0.01, step: Step = langevin_step, **net
    ):
        super().__init__(D, **net)
        validate.at_least(1, k=k)
        self.k, self.eps, self.step = k, eps, step

    def moved(self, x: Tensor) -> Tensor:
        """Return where chains are k steps later: (B, D) -> (B, D)."""
        return run(self.energy, x, self.eps, self.k, self.step)

    def loss(self, x: Tensor) -> Tensor:
        """Return mean E(data) - mean E(chains): (B, D) -> ()."""
        chains = self.moved(validate.points(x, self.D, self))
        return self.energy(x).mean() - self.energy(chains).mean()

    def sample(self, n: int, steps: int = 1000) -> Tensor:
        """Run n chains from the bowl: (n, D). They may not have arrived."""
        return run(self.energy, self.bowl.sample(n), self.eps, steps, self.step)


class PersistentEnergyModel(EnergyModel):
    """Chains that go on where they were: a buffer of places, some of them fresh each time.

    Args:
        D, more: as of `EnergyModel`.
        places: how many the buffer holds.
        fresh: share of the chains that start anew, from the bowl; 1: nothing is kept.
    """

    def __init__(self, D: int, *, places: int = 2000, fresh: float = 0.02, **more):
        super().__init__(D, **{"k": 10, **more})
        validate.at_least(1, places=places)
        self.fresh = fresh
        self.register_buffer("places", self.bowl.sample(places))

    def loss(self, x: Tensor) -> Tensor:
        """Return mean E(data) - mean E(chains), as many chains as data: (B, D) -> ().

        The chains' new places are kept when the loss is backpropagated.
        """
        x = validate.points(x, self.D, self)
        rows = torch.randint(len(self.places), (len(x),), device=x.device)
        new = torch.rand(len(x), 1, device=x.device) < self.fresh
        chains = torch.where(new, self.bowl.sample(len(x)), self.places[rows])
        chains = self.moved(chains)
        loss = self.energy(x).mean() - self.energy(chains).mean()
        return on_backward(loss, lambda: self.places.index_copy_(0, rows, chains))


# Energies add -----------------------------------------------------------------------------


def both(*energies: Callable) -> Callable:
    """Return the energy of "and": the sum, whose density is the product of densities."""
    return lambda x: torch.stack([E(x) for E in energies]).sum(0)


def either(*energies: Callable) -> Callable:
    """Return the energy of "or": -log sum e^-E, whose density is the sum of e^-E over Z.

    A part counts as much as its own Z is large: without those, the parts' weights are not
    chosen, they happen.
    """
    return lambda x: -torch.logsumexp(torch.stack([-E(x) for E in energies]), 0)


def without(energy: Callable, other: Callable, weight: float = 0.5) -> Callable:
    """Return the energy of "and not": E - weight * other; too much makes Z infinite."""
    return lambda x: energy(x) - weight * other(x)
