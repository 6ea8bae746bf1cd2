"""Noise as a stream: three stochastic differential equations, and how to run them back.

Data at t = 0, noise at t = 1:  dx = f(x, t) dt + g(t) dw,  f linear in x, so that
x(t) = alpha(t) x(0) + sigma(t) eps with eps ~ N(0, I). Times are tensors.

References:
    Song, Sohl-Dickstein, Kingma, Kumar, Ermon, Poole (2021). Score-based generative
        modeling through stochastic differential equations. arXiv:2011.13456.
    Anderson (1982). Reverse-time diffusion equation models. Stochastic Processes and their
        Applications 12.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Generator, Tensor

from gdm_course.diffusion.schedule import rowwise

Score = Callable[[Tensor, Tensor | float], Tensor]
Denoise = Callable[[Tensor, Tensor], Tensor]


class SDE(Protocol):
    """What every stream of noise can say of itself."""

    def alpha(self, t: Tensor) -> Tensor:
        """Return how much of the signal is left at the time t."""

    def sigma(self, t: Tensor) -> Tensor:
        """Return the standard deviation of the noise at the time t."""

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        """Return f(x, t); t broadcasts with x."""

    def diffusion(self, t: Tensor) -> Tensor:
        """Return g(t)."""

    def t_of(self, log_snr: Tensor) -> Tensor:
        """Return the time at which 2 log(alpha / sigma) is so large."""


@dataclass(frozen=True)
class VP:
    """Variance preserving: dx = -beta/2 x dt + sqrt(beta) dw, the limit of DDPM's chain.

    With B the integral of beta from 0 to t: alpha = e^(-B/2), sigma^2 = 1 - e^-B, (2).
    Args: beta_min, beta_max, the ends of beta(t), a line.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def beta(self, t: Tensor) -> Tensor:
        """Return the rate at which noise comes in."""
        return self.beta_min + (self.beta_max - self.beta_min) * t

    def B(self, t: Tensor) -> Tensor:
        """Return the integral of beta from 0 to t."""
        return self.beta_min * t + (self.beta_max - self.beta_min) * t * t / 2

    def alpha(self, t: Tensor) -> Tensor:
        """Return how much of the signal is left."""
        return torch.exp(-self.B(t) / 2)

    def sigma(self, t: Tensor) -> Tensor:
        """Return the standard deviation of the noise."""
        return (-torch.expm1(-self.B(t))).sqrt()

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        """Return f = -beta/2 x."""
        return -self.beta(t) / 2 * x

    def diffusion(self, t: Tensor) -> Tensor:
        """Return g = sqrt(beta)."""
        return self.beta(t).sqrt()

    def t_of(self, log_snr: Tensor) -> Tensor:
        """Return the time of a log_snr: B = log(1 + 1 / SNR)."""
        return time_of(self, torch.nn.functional.softplus(-log_snr))


def time_of(vp: VP, B: Tensor) -> Tensor:
    """Return the time at which the integral of beta is B: a quadratic equation."""
    rise = vp.beta_max - vp.beta_min
    return 2 * B / (vp.beta_min + (vp.beta_min**2 + 2 * rise * B).sqrt())


@dataclass(frozen=True)
class SubVP(VP):
    """VP's drift with less noise, g^2 = beta (1 - e^-2B): sigma = 1 - e^-B, no root."""

    def sigma(self, t: Tensor) -> Tensor:
        """Return 1 - e^-B."""
        return -torch.expm1(-self.B(t))

    def diffusion(self, t: Tensor) -> Tensor:
        """Return sqrt(beta (1 - e^-2B))."""
        return (-self.beta(t) * torch.expm1(-2 * self.B(t))).sqrt()

    def t_of(self, log_snr: Tensor) -> Tensor:
        """Return the time of a log_snr: sigma / alpha = 2 sinh(B / 2)."""
        return time_of(self, 2 * torch.asinh(torch.exp(-log_snr / 2) / 2))


@dataclass(frozen=True)
class VE:
    """Variance exploding: dx = g dw, noise is added and the signal stays.

    alpha = 1, sigma^2 = sigma_min^2 (r^2t - 1) with r = sigma_max / sigma_min. The paper
    leaves out the 1, so that its data have noise sigma_min already.
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    @property
    def rate(self) -> float:
        """2 log(sigma_max / sigma_min)."""
        return 2 * math.log(self.sigma_max / self.sigma_min)

    def alpha(self, t: Tensor) -> Tensor:
        """Return 1."""
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        """Return sigma_min sqrt(r^2t - 1)."""
        return self.sigma_min * torch.expm1(self.rate * t).sqrt()

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        """Return 0."""
        return torch.zeros_like(x)

    def diffusion(self, t: Tensor) -> Tensor:
        """Return g: g^2 is the slope of sigma^2."""
        return self.sigma_min * (self.rate * torch.exp(self.rate * t)).sqrt()

    def t_of(self, log_snr: Tensor) -> Tensor:
        """Return t."""
        return torch.log1p(torch.exp(-log_snr) / self.sigma_min**2) / self.rate


# Backwards --------------------------------------------------------------------------------


def time_like(t: Tensor | float, x: Tensor) -> Tensor:
    """Return a time, or one for every row (B,), as a tensor that broadcasts with x."""
    return rowwise(torch.as_tensor(t, dtype=x.dtype), x)


def log_snr_of(sde: SDE, t: Tensor) -> Tensor:
    """Return 2 log(alpha / sigma), whatever the shape of t."""
    return 2 * (sde.alpha(t).log() - sde.sigma(t).log())


def score_of(denoise: Denoise, sde: SDE) -> Score:
    """Make a score out of a denoiser: grad log p_t = (alpha E[x0 | x] - x) / sigma^2, (6).

    The denoiser, (x, log_snr) -> E[x0 | x], knows x with alpha^2 + sigma^2 = 1, so x is
    shrunk to that first: one denoiser serves all streams. Returns (x, t) -> score, all
    (B, *D), where t is a number or (B,).
    """

    def score(x: Tensor, t: Tensor | float) -> Tensor:
        t = time_like(t, x)
        alpha, sigma = sde.alpha(t), sde.sigma(t)
        levels = log_snr_of(sde, t).flatten().expand(len(x))
        x0 = denoise(x / (alpha**2 + sigma**2).sqrt(), levels)
        return (alpha * x0 - x) / sigma**2

    return score


def reverse_drift(
    sde: SDE, score: Score, x: Tensor, t: Tensor | float, noise: float = 1.0
) -> Tensor:
    """Return f - (1 + noise^2)/2 g^2 score, the drift of (4): (B, *D) -> (B, *D).

    noise = 1 is the reversed stream, noise = 0 the ODE (5); all have the same marginals.
    """
    at = time_like(t, x)
    pull = (1 + noise**2) / 2 * sde.diffusion(at) ** 2
    return sde.drift(x, at) - pull * score(x, t)


def euler_maruyama(
    sde: SDE,
    score: Score,
    x: Tensor,
    times: Sequence[float],
    noise: float = 1.0,
    generator: Generator | None = None,
) -> Tensor:
    """Run a stream backwards: x <- x - h drift + noise g sqrt(h) xi, h = t - s > 0.

    From x (B, *D) at times[0] through falling times, such as from 1 to 0.001.
    """
    for t, s in pairwise(times):
        xi = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
        kick = noise * sde.diffusion(time_like(t, x)) * math.sqrt(t - s)
        x = x - (t - s) * reverse_drift(sde, score, x, t, noise) + kick * xi
    return x
