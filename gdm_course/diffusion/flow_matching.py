"""Flow matching: learn by regression the velocity of a flow from data to any source.

Data at t = 0, the source at t = 1, a straight line between each pair:
    z_t = (1 - t) x0 + t x1,  dz/dt = x1 - x0.
Numbered equations are those of the lecture diffusion/flow_matching.

References:
    Lipman, Chen, Ben-Hamu, Nickel, Le (2023). Flow matching for generative modeling.
        arXiv:2210.02747.
    Liu, Gong, Liu (2023). Flow straight and fast. arXiv:2209.03003.
    Tong et al. (2024). Improving and generalizing flow-based generative models with
        minibatch optimal transport. arXiv:2302.00482.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from gdm_course import validate
from gdm_course.diffusion.schedule import noise_like, rowwise
from gdm_course.diffusion.score_sde import standard_normal, strata
from gdm_course.flows.continuous import NeuralODE, unit_vectors
from gdm_course.flows.ode import Fixed, rk4_step
from gdm_course.flows.solver_error import accountable
from gdm_course.learning import evaluating
from gdm_course.nets import precise

LEAST = 1e-3  # the network is told no time nearer to 0 or 1
Coupling = Callable[[Tensor, Tensor], Tensor]


def between(x0: Tensor, x1: Tensor, t: Tensor | float) -> Tensor:
    """Go along the line of every pair, (1 - t) x0 + t x1, equation (1): (B, *D)."""
    t = rowwise(torch.as_tensor(t), x0)
    return (1 - t) * x0 + t * x1


def clock(t: Tensor | float, x: Tensor) -> Tensor:
    """Return what the network is told of the time: 2 log((1 - t) / t) for each row, (B,).

    It is the log_snr of z_t where the source is noise, so that a network of any diffusion
    knows what is meant.
    """
    t = torch.as_tensor(t).to(x).expand(len(x))
    return -2 * torch.logit(t.clamp(LEAST, 1 - LEAST))


def independent(x0: Tensor, x1: Tensor) -> Tensor:
    """Pair data and source as they come: (B, *D), (B, *D) -> the x1 of every x0."""
    return x1


def optimal(x0: Tensor, x1: Tensor) -> Tensor:
    """Pair a batch so that the squares |x0 - x1|^2 have the least sum: x1 in new order.

    x0 keeps its order, and so its labels. The time of the assignment is cubic in B.
    """
    from scipy.optimize import linear_sum_assignment

    cost = torch.cdist(x0.detach().flatten(1).double(), x1.detach().flatten(1).double())
    _, order = linear_sum_assignment(cost.square().cpu().numpy())
    return x1[torch.as_tensor(order, device=x1.device)]


class NormalSource(nn.Module):
    """The usual source: independent standard normal numbers (n, *shape)."""

    def __init__(self, shape: Sequence[int]):
        super().__init__()
        validate.at_least(1, shape=tuple(shape))
        self.register_buffer("mean", torch.zeros(*shape), persistent=False)

    def sample(self, n: int) -> Tensor:
        """Draw (n, *shape)."""
        return noise_like(self.mean.expand(validate.count(n), *self.mean.shape))

    def log_prob(self, z: Tensor) -> Tensor:
        """Return log N(z; 0, I) in nats: (B, *shape) -> (B,)."""
        return standard_normal(validate.points(z, self.mean.shape, self.mean, name="z"))


class VelocityNetwork(nn.Module):
    """A network of the velocity from data to a source, trained on lines between them.

    loss = E |velocity(z_t, t) - (x1 - x0)|^2 / D, t uniform, equation (3).

    Args:
        net: (x, log_snr (B,), y=None) -> velocity, as x; see `clock`.
        shape: of one example.
        source: what data flow to, with `sample(n)`; `NormalSource(shape)` if None.
        coupling: (x0, x1) -> the partner of every x0: `independent` or `optimal`.
        times: n -> times to train at, (n,); evenly spread if None.
    """

    def __init__(
        self, net, shape, *, source=None, coupling: Coupling = independent, times=strata
    ):
        super().__init__()
        validate.at_least(1, shape=tuple(shape))
        self.net, self.shape = net, tuple(shape)
        self.source = NormalSource(shape) if source is None else source
        self.coupling, self.times = coupling, times

    def velocity(self, x: Tensor, t: Tensor | float) -> Tensor:
        """Return where points go at the time t, a number or (B,): (B, *D) -> (B, *D)."""
        x = validate.points(x, self.shape, self, least=0)
        return precise(self.net(x, clock(t, x)))

    def loss(self, x: Tensor, x1: Tensor | None = None) -> Tensor:
        """Match lines from x to partners, which are drawn if x1 is None: ()."""
        x0, t = validate.points(x, self.shape, self), self.times(len(x)).to(x)
        x1 = self.coupling(x0, self.draw(len(x0))) if x1 is None else x1
        x1 = validate.points(x1, self.shape, self, name="x1")
        return (self.velocity(between(x0, x1, t), t) - (x1 - x0)).square().mean()

    def draw(self, n: int) -> Tensor:
        """Draw n points of the source, as the model's numbers are: (n, *D)."""
        like = next(iter([*self.parameters(), *self.buffers()]))
        return self.source.sample(validate.count(n)).to(like)


class Following(nn.Module):
    """A velocity as `NeuralODE` asks for it: (t, x) -> dx/dt."""

    def __init__(self, model: VelocityNetwork):
        super().__init__()
        self.model = model

    def forward(self, t: float, x: Tensor) -> Tensor:
        """Return the velocity at the time t: (B, *D) -> (B, *D)."""
        return self.model.velocity(x, t)


@accountable
class FlowMatching(VelocityNetwork):
    """Flow matching: it is trained by regression, samples, and by its ODE has a density.

    Args:
        net, shape, more: as of `VelocityNetwork`; the source needs `log_prob` for ours.
        probes, solver: of `NeuralODE`; the exact trace, 32 Runge-Kutta steps if None.
    """

    def __init__(self, net, shape, *, probes=unit_vectors, solver=None, **more):
        super().__init__(net, shape, **more)
        self.probes, self.solver = probes, solver or Fixed(rk4_step, 32)

    def sample(self, n: int, steps: int = 50) -> Tensor:
        """Follow the velocity back from n points of the source, in Euler steps: (n, *D)."""
        return self.path(self.draw(n), steps)[-1]

    @torch.no_grad()
    def path(self, x1: Tensor, steps: int = 50) -> Tensor:
        """Return all stations from the source to data: (steps + 1, B, *D), (4)."""
        h = 1 / validate.count(steps, "steps", 1)
        stations = [x1]
        with evaluating(self):
            for k in range(steps):
                x = stations[-1]
                stations.append(x - h * self.velocity(x, 1 - k * h))
        return torch.stack(stations)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the source's log p at the path's end + log |det| in nats: (B,)."""
        ode = NeuralODE(Following(self), probes=self.probes, solver=self.solver)
        with evaluating(self):
            x1, log_det = ode(validate.points(x, self.shape, self))
        log_p = self.source.log_prob(x1) + log_det
        return log_p.where(log_p < math.inf, -math.inf)  # nan is not smaller either


class DenoiserVelocity(nn.Module):
    """A denoiser's guess as a velocity, (z - E[x0 | z]) / t: a diffusion is a flow, (5).

    A diffusion has alpha^2 + sigma^2 = 1, a line (1 - t) + t = 1: z / |(1 - t, t)| is what
    the denoiser knows, at the same log_snr.

    Args:
        denoise: (x, log_snr, y) -> E[x0 | x]: `MixtureDenoiser`, or a DDPM's `denoise`.
    """

    def __init__(self, denoise: Callable[..., Tensor]):
        super().__init__()
        self.denoise = denoise

    def forward(self, z: Tensor, log_snr: Tensor, y: Tensor | None = None) -> Tensor:
        """Return E[x1 - x0 | z]: (B, *D), (B,) -> (B, *D)."""
        t = rowwise(torch.sigmoid(-log_snr / 2), z)
        x = z / (t.square() + (1 - t).square()).sqrt()
        return (z - self.denoise(x, log_snr, y)) / t
