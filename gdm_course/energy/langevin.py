"""A deep energy, trained by maximum likelihood: lowered at the data, raised where chains go.

The gradient of -log p(x) is grad E(x) - E_model[grad E], and chains stand for the model:
    loss = E(data) - E(chains),
whose value means nothing, and whose gradient is right if the chains are.

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
from gdm_course.energy.sampling import langevin_step, noise_like
from gdm_course.learning import on_backward

Step = Callable[[Callable, Tensor, float], Tensor]


def run(energy: Callable, x: Tensor, eps: float, steps: int, step: Step) -> Tensor:
    """Take so many steps with every chain: (B, *D) -> (B, *D), without a gradient."""
    for _ in range(steps if len(x) else 0):
        x = step(energy, x, eps)
    return x.detach()


class ExactEnergyModel(EnergyNet):
    """The likelihood itself: loss = mean E + log Z, with log Z on a grid of the plane.

    Args:
        D: dimension of a point, 1 or 2 in practice.
        bounds: ((low, high), ...) of the grid, outside of which e^-E is negligible.
        cells: of the grid in every dimension.
        net: more about the energy, see `EnergyNet`.
    """

    def __init__(self, D: int, bounds: Sequence, *, cells: int = 64, **net):
        super().__init__(D, **net)
        self.bounds, self.cells = tuple(bounds), cells

    def loss(self, x: Tensor) -> Tensor:
        """Return the mean of -log p in nats, as good as the grid: (B, D) -> ()."""
        log_z = log_z_grid(self.energy, self.bounds, self.cells, validate.dtype_of(self))
        return self.energy(x).mean() + log_z.to(x.dtype)


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
        validate.at_least(0, k=k)
        self.k, self.eps, self.step = k, eps, step

    def loss(self, x: Tensor) -> Tensor:
        """Return mean E(data) - mean E(chains): (B, D) -> ()."""
        chains = run(
            self.energy, validate.points(x, self.D, self), self.eps, self.k, self.step
        )
        return self.energy(x).mean() - self.energy(chains).mean()

    def start(self, n: int) -> Tensor:
        """Draw n points of the bowl, N(0, width^2 I): (n, D)."""
        return self.width * noise_like(next(self.parameters()).new_empty(n, self.D))

    def sample(self, n: int, steps: int = 1000) -> Tensor:
        """Run n chains from the bowl: (n, D). They may not have arrived."""
        start = self.start(validate.count(n))
        return run(self.energy, start, self.eps, steps, self.step)


class PersistentEnergyModel(EnergyModel):
    """Chains that go on where they were: a buffer of places, some of them fresh each time.

    Args:
        D, more: as of `EnergyModel`.
        places: how many the buffer holds.
        fresh: share of the chains that start anew, from the bowl.
    """

    def __init__(self, D: int, *, places: int = 10_000, fresh: float = 0.02, **more):
        super().__init__(D, **{"k": 10, **more})
        validate.at_least(1, places=places)
        self.fresh = fresh
        self.register_buffer("places", self.start(places).detach())

    def loss(self, x: Tensor) -> Tensor:
        """Return mean E(data) - mean E(chains), as many chains as data: (B, D) -> ().

        The chains' new places are kept when the loss is backpropagated.
        """
        x = validate.points(x, self.D, self)
        rows = torch.randint(len(self.places), (len(x),), device=x.device)
        new = torch.rand(len(x), 1, device=x.device) < self.fresh
        chains = torch.where(new, self.start(len(x)), self.places[rows])
        chains = run(self.energy, chains, self.eps, self.k, self.step)
        loss = self.energy(x).mean() - self.energy(chains).mean()
        return on_backward(loss, lambda: self.places.index_copy_(0, rows, chains))


# Energies add -----------------------------------------------------------------------------


def both(*energies: Callable) -> Callable:
    """Return the energy of "and": the sum, whose density is the product."""
    return lambda x: torch.stack([E(x) for E in energies]).sum(0)


def either(*energies: Callable) -> Callable:
    """Return the energy of "or": -log sum e^-E, whose density is the sum.

    The weights of its parts are 1 / Z each, not equal.
    """
    return lambda x: -torch.logsumexp(torch.stack([-E(x) for E in energies]), 0)


def without(energy: Callable, other: Callable, weight: float = 0.5) -> Callable:
    """Return the energy of "and not": E - weight * other; a large weight makes Z infinite."""
    return lambda x: energy(x) - weight * other(x)
