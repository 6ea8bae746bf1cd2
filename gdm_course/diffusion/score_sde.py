"""A network of the score: noise as a stream, its ODE as a flow, and so an exact density.

The network is told log_snr = 2 log(alpha / sigma) and says v = alpha eps - sigma x0. With
alpha = cos phi and sigma = sin phi the probability-flow ODE is dx/dphi = E[v | x].

References:
    Song, Sohl-Dickstein, Kingma, Kumar, Ermon, Poole (2021). Score-based generative
        modeling through stochastic differential equations. arXiv:2011.13456.
    Salimans, Ho (2022). Progressive distillation for fast sampling of diffusion models.
        arXiv:2202.00512.
"""

import math
from collections.abc import Callable, Sequence
from itertools import chain

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from gdm_course import validate
from gdm_course.diffusion.schedule import noise_like, rowwise
from gdm_course.diffusion.sde import SDE, VP, score_of
from gdm_course.diffusion.solvers import dpm_solver_2m, karras_sigmas, per_noise
from gdm_course.diffusion.targets import Velocity
from gdm_course.flows.continuous import NeuralODE, unit_vectors
from gdm_course.flows.ode import Fixed, Solver, rk4_step
from gdm_course.flows.solver_error import accountable
from gdm_course.learning import evaluating

LEAST = 1e-3  # noise per signal, and signal per noise
Levels = Callable[[int], Tensor]
RUNGE_KUTTA = Fixed(rk4_step, 32)


def strata(n: int) -> Tensor:
    """Draw one number from each n-th part of [0, 1], float64: batches then differ less."""
    return (torch.arange(n) + torch.rand(n, dtype=torch.float64)) / max(n, 1)


def angle_levels(n: int) -> Tensor:
    """Draw n noise levels s = sigma / alpha, uniform in the angle arctan s: (n,)."""
    return (strata(n) * math.pi / 2).tan().clamp(LEAST, 1 / LEAST)


def edm_levels(n: int, mean: float = -1.2, std: float = 1.2) -> Tensor:
    """Draw n noise levels s = sigma / alpha with log s ~ N(mean, std^2): (n,).

    EDM has these numbers for data of standard deviation 0.5; for 1 its mean is -0.5.
    """
    log_s = mean + std * torch.special.ndtri(strata(n).clamp(1e-7, 1 - 1e-7))
    return log_s.exp().clamp(LEAST, 1 / LEAST)


class TrueVelocity(nn.Module):
    """What a perfect network says: v = (alpha x - E[x0 | x]) / sigma.

    Args:
        denoise: the exact (x, log_snr) -> E[x0 | x].
    """

    def __init__(self, denoise: nn.Module):
        super().__init__()
        self.denoise = denoise

    def forward(self, x: Tensor, log_snr: Tensor, y: Tensor | None = None) -> Tensor:
        """Return E[v | x]: (B, *D), (B,) -> (B, *D)."""
        alpha, sigma = signal_and_noise(log_snr, x)
        return (alpha * x - self.denoise(x, log_snr)) / sigma


def signal_and_noise(log_snr: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return alpha and sigma, alpha^2 + sigma^2 = 1, so that they multiply x (B, *D)."""
    return rowwise(log_snr.sigmoid().sqrt(), x), rowwise((-log_snr).sigmoid().sqrt(), x)


def noise_for(model: nn.Module, n: int, shape: Sequence[int]) -> Tensor:
    """Draw standard normal noise (n, *shape), where and as the model's own numbers are."""
    like = next(chain(model.parameters(), model.buffers()))
    return torch.randn(validate.count(n), *shape).to(like)


class ScoreNetwork(nn.Module):
    """One network for all levels of noise, which says v = alpha eps - sigma x0.

    loss = E |v(x_t, log_snr) - (alpha eps - sigma x0)|^2 / D, over the noise levels.

    Args:
        net: (x, log_snr (B,)) -> v, as x; data with a mean square near 1.
        shape: of one example.
        levels: n -> noise levels s = sigma / alpha to train at, (n,).
    """

    def __init__(
        self, net: nn.Module, shape: Sequence[int], *, levels: Levels = edm_levels
    ):
        super().__init__()
        validate.at_least(1, shape=shape)
        self.net, self.shape, self.levels = net, tuple(shape), levels

    def denoise(self, x: Tensor, log_snr: Tensor) -> Tensor:
        """Return alpha x - sigma v, the guess at x0: (B, *D), (B,) -> (B, *D)."""
        return Velocity().clean(self.net(x, log_snr), x, *signal_and_noise(log_snr, x))

    def loss(self, x: Tensor) -> Tensor:
        """Return the mean squared error of v: (B, *D) -> ()."""
        x = validate.points(x, self.shape, self)
        log_snr = -2 * self.levels(len(x)).to(x).log()
        (alpha, sigma), eps = signal_and_noise(log_snr, x), noise_like(x)
        target = Velocity().target(x, eps, alpha, sigma)
        return (self.net(alpha * x + sigma * eps, log_snr) - target).square().mean()


class Stream(nn.Module):
    """The ODE (7), its clock the angle: dx/dt = (pi / 2) v, for a net (x, log_snr) -> v."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, t: float, x: Tensor) -> Tensor:
        """Return the velocity at the time t, 0 for data, 1 for noise: (B, *D)."""
        s = min(max(math.tan(t * math.pi / 2), LEAST), 1 / LEAST)
        log_snr = x.new_full((len(x),), -2 * math.log(s))
        return math.pi / 2 * self.net(x, log_snr)


class ScoreSDE(ScoreNetwork):
    """A score for a stream of noise: Trainable, a Sampler, and by its ODE a Density.

    Args:
        net, shape, more: as of `ScoreNetwork`.
        sde: the stream in whose time `score` speaks; `VP()` if None.
        probes, solver: of `NeuralODE`; the exact trace, 32 Runge-Kutta steps if None.
    """

    def __init__(
        self,
        net: nn.Module,
        shape: Sequence[int],
        *,
        sde: SDE | None = None,
        probes: Callable[[Tensor], Tensor] = unit_vectors,
        solver: Solver | None = None,
        **more,
    ):
        super().__init__(net, shape, **more)
        self.sde, self.probes, self.solver = sde or VP(), probes, solver or RUNGE_KUTTA

    def score(self, x: Tensor, t: Tensor | float) -> Tensor:
        """Return grad log p_t(x) in the time of the stream: (B, *D) -> (B, *D)."""
        return score_of(self.denoise, self.sde)(x, t)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log N(z; 0, I) + log |det dz/dx| in nats, z at the path's end: (B,)."""
        ode = NeuralODE(Stream(self.net), probes=self.probes, solver=self.solver)
        with evaluating(self):
            z, log_det = ode(validate.points(x, self.shape, self))
        log_p = standard_normal(z) + log_det
        return log_p.where(log_p < math.inf, -math.inf)  # nan is not smaller either

    @torch.no_grad()
    def sample(self, n: int, steps: int = 25) -> Tensor:
        """Take so many steps of DPM-Solver++ (2M) from noise to data: (n, *D)."""
        z = noise_for(self, n, self.shape) / LEAST
        with evaluating(self):
            return dpm_solver_2m(per_noise(self.denoise), z, noise_levels(steps))


accountable(ScoreSDE)


def noise_levels(steps: int) -> list[float]:
    """Return falling levels for a sampler, evenly spaced in log s, and 0 behind them."""
    return karras_sigmas(steps, LEAST, 1 / LEAST, math.inf)


def standard_normal(z: Tensor) -> Tensor:
    """Return log N(z; 0, I) in nats: (B, *D) -> (B,)."""
    log_p = Normal(0.0, 1.0, validate_args=False).log_prob(z)
    return log_p.flatten(1).sum(1)
