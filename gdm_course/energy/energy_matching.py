"""One scalar for two things: a flow from noise to the data, then an energy at the data.

Far from the data -grad V carries noise along straight lines to them (flow matching); at the
data V / T is an energy like any other. Both are one motion,
    dX = -grad V(X) dt + sqrt(2 T(t)) dW,
cold up to t = tau, then warming up to T(1) = T, where it stays.

References:
    Balcerak, Amiranashvili, Terpin, Shit, Bogensperger, Kaltenbach, Koumoutsakos, Menze
        (2025). Energy matching: unifying flow matching and energy-based models for
        generative modeling. arXiv:2504.10612.
"""

import torch
from torch import Tensor

from gdm_course import validate
from gdm_course.energy.network import EnergyNet
from gdm_course.energy.sampling import noise_like, with_slope


def paired(noise: Tensor, x: Tensor, rounds: int = 100) -> Tensor:
    """Return the rows of the noise in an order that is near to x: (B, D).

    In each round random pairs i, j swap their noise where that is nearer, which is where
    (z_i - z_j).(x_i - x_j) < 0. In the end hardly any two paths z -> x are longer than the
    same two exchanged.
    """
    z, half = noise.clone(), len(x) // 2
    for _ in range(rounds):
        i, j = torch.randperm(len(x))[: 2 * half].to(x.device).view(2, half)
        swap = ((z[i] - z[j]) * (x[i] - x[j])).sum(1, keepdim=True) < 0
        z[i], z[j] = torch.where(swap, z[j], z[i]), torch.where(swap, z[i], z[j])
    return z


def temperature(t: Tensor, T: float, tau: float) -> Tensor:
    """Return T(t): 0 up to tau, then a line up to T at t = 1, and T from there on."""
    return T * ((t - tau) / (1 - tau)).clamp(0, 1)


class FlowPotential(EnergyNet):
    """A potential V whose slope carries N(0, I) to the data in the time 1: phase one.

    loss = E |-grad V(x_t) - (x - z)|^2,  x_t = (1 - t) z + t x,  z paired with x.
    There is no t in V, so it can only do that where paths do not cross.

    Args:
        D: dimension of a point.
        T, tau: temperature at which V / T is the energy; time up to which chains are cold.
        dt: size of a step in time.
        net: more about V, see `EnergyNet`.
    """

    def __init__(self, D: int, *, T=0.1, tau: float = 0.8, dt: float = 0.02, **net):
        super().__init__(D, **net)
        self.T, self.tau, self.dt = T, tau, dt

    def energy(self, x: Tensor) -> Tensor:
        """Return V(x) / T in nats: (B, D) -> (B,)."""
        return super().energy(x) / self.T

    def share(self, t: Tensor) -> Tensor:
        """Return how much the flow counts at the time t: (B, 1) -> (B,), 1 everywhere."""
        return torch.ones_like(t).squeeze(1)

    def loss(self, x: Tensor) -> Tensor:
        """Return the mean squared error of the velocity, weighted by `share`: ()."""
        z = paired(noise_like(validate.points(x, self.D, self)), x)
        t = torch.rand(len(x), 1, dtype=x.dtype, device=x.device)
        velocity = self.T * self.score((1 - t) * z + t * x)  # -grad V
        return (self.share(t) * (velocity - (x - z)).square().sum(1)).mean()

    def sample(self, n: int, until: float = 2.0) -> Tensor:
        """Carry n points of N(0, I) to a time, such as 1, when they arrive: (n, D)."""
        z = torch.randn(validate.count(n), self.D).to(next(self.parameters()))
        return carry(self, z, z.new_zeros(n, 1), round(until / self.dt))


def carry(model: FlowPotential, x: Tensor, t: Tensor, steps: int) -> Tensor:
    """Take steps of size dt from the times t (B, 1): (B, D) -> (B, D)."""
    for _ in range(steps if len(x) else 0):
        _, slope = with_slope(model.energy, x)
        kick = (2 * temperature(t, model.T, model.tau) * model.dt).sqrt()
        x = x.detach() - model.dt * model.T * slope + kick * noise_like(x)
        t = t + model.dt
    return x.detach()


class EnergyMatching(FlowPotential):
    """Phase two: V / T becomes the energy of the data, where the flow leaves it free.

    loss = flow + contrast (mean V(data) - mean V(chains)). Half of the chains start at the
    data, half in the noise.

    Args:
        D, more: as of `FlowPotential`.
        contrast: what the second part weighs.
    """

    def __init__(self, D: int, *, contrast: float = 1.0, **more):
        super().__init__(D, **more)
        self.contrast = contrast

    def share(self, t: Tensor) -> Tensor:
        """Return 1 up to tau, then less and less, 0 at t = 1: (B, 1) -> (B,)."""
        return ((1 - t) / (1 - self.tau)).clamp(0, 1).squeeze(1)

    def loss(self, x: Tensor) -> Tensor:
        """Return the flow's error and the weighted contrast: (B, D) -> ()."""
        flow, start = super().loss(x), noise_like(x)
        at_data = torch.arange(len(x), device=x.device)[:, None] % 2 == 0
        chains = torch.where(at_data, x, start)
        chains = carry(self, chains, at_data.to(x.dtype), round(1.2 / self.dt))
        gap = self.energy(x).mean() - self.energy(chains).mean()
        return flow + self.contrast * self.T * gap
