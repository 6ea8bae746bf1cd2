"""Three kinds of exact 2-D law, from which the toy densities are made.

A law has `log_prob(x)`, exact in nats in the dtype of `x`, and `sample(n, generator)`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gdm_course.nets import log_normal_interval

LOG_2PI = math.log(2 * math.pi)
LIMIT = 20.0  # of a log scale; the funnel reaches it 40 standard deviations out


def normal(n: int, generator: torch.Generator | None) -> Tensor:
    """Draw standard normal points (n, 2) where the generator lives (the CPU if None)."""
    device = generator.device if generator else "cpu"
    return torch.randn(n, 2, generator=generator, device=device)


def choose(weights: Tensor, n: int, generator: torch.Generator | None) -> Tensor:
    """Draw `n` component indices (n,) with the given probabilities."""
    device = generator.device if generator else "cpu"
    w, some = weights.to(device), max(n, 1)  # torch cannot draw none
    return torch.multinomial(w, some, replacement=True, generator=generator)[:n]


def log_total(log_p: Tensor) -> Tensor:
    """Return logsumexp over the last dimension, whose slope holds for large numbers too.

    Far out log p is -10^9, and log 2 is lost beside it: torch's slope, which subtracts the
    rounded total again, then counts two equal parts twice.
    """
    top = log_p.detach().amax(-1, keepdim=True).clamp_min(torch.finfo(log_p.dtype).min)
    return (log_p - top).logsumexp(-1) + top.squeeze(-1)


@dataclass(frozen=True)
class Mixture:
    """Round Gaussians: p(x) = sum_k w_k N(x; m_k, s_k^2 I).

    Many of them along a curve, no further apart than their width, are a smooth band whose
    density is still exact.

    Args:
        means: m (K, 2), float64.
        sigma: s (K,), standard deviations.
        weights: w (K,), summing to 1.
    """

    means: Tensor
    sigma: Tensor
    weights: Tensor

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p(x) in nats: (B, 2) -> (B,)."""
        inverse = (math.sqrt(0.5) / self.sigma).to(x)  # so that u^2 + v^2 is the exponent
        shift = (-math.sqrt(0.5) * self.means.T / self.sigma).to(x)  # (2, K)
        u = torch.addcmul(shift[0], x[:, :1], inverse)  # (B, K); addcmul: half the passes
        v = torch.addcmul(shift[1], x[:, 1:], inverse)
        log_w = (self.weights.log() - 2 * self.sigma.log() - LOG_2PI).to(x)
        log_p = torch.addcmul(torch.addcmul(log_w, u, u, value=-1), v, v, value=-1)
        return log_total(log_p)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw (n, 2): first the component, then the point."""
        k = choose(self.weights, n, generator)
        eps = normal(n, generator)
        return self.means.to(eps)[k] + self.sigma.to(eps)[k, None] * eps


@dataclass(frozen=True)
class Chain:
    """A Gaussian given a Gaussian: x1 = sigma eps1, x2 = mean(x1) + e^log_scale(x1) eps2.

    Args:
        sigma: standard deviation of the first coordinate.
        mean, log_scale: functions of the first coordinate, (B,) -> (B,).
    """

    sigma: float
    mean: Callable[[Tensor], Tensor]
    log_scale: Callable[[Tensor], Tensor]

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p(x) in nats: (B, 2) -> (B,)."""
        a, b = x.unbind(1)
        log_s = self.log_scale(a).clamp(-LIMIT, LIMIT)
        squares = (a / self.sigma).square() + (
            (b - self.mean(a)) * torch.exp(-log_s)
        ).square()
        return -0.5 * squares - log_s - math.log(self.sigma) - LOG_2PI

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw (n, 2): the first coordinate, then the second given it."""
        eps = normal(n, generator)
        a = self.sigma * eps[:, 0]
        log_s = self.log_scale(a).clamp(-LIMIT, LIMIT)
        return torch.stack([a, self.mean(a) + torch.exp(log_s) * eps[:, 1]], 1)


def log_edge(t: Tensor, half: float, sigma: float) -> Tensor:
    """Return log P(|t + sigma eps| <= half) for eps ~ N(0, 1), finite however far t is."""
    return log_normal_interval(t / sigma, t.new_tensor(2 * half / sigma))


@dataclass(frozen=True)
class Cells:
    """Equal squares, uniform inside, blurred by a Gaussian N(0, sigma^2 I).

    The blur makes log p finite and smooth everywhere, so that the score exists. It is
    exact: a product of two differences of normal distribution functions per square.

    Args:
        centres: of the squares (K, 2), float64.
        side: of a square.
        sigma: standard deviation of the blur.
    """

    centres: Tensor
    side: float
    sigma: float

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p(x) in nats: (B, 2) -> (B,)."""
        log_p = -math.log(len(self.centres) * self.side**2)
        for axis in range(2):  # many squares share a coordinate: compute each one once
            line, which = self.centres[:, axis].unique(return_inverse=True)
            t = x[:, axis, None] - line.to(x)
            log_p = log_p + log_edge(t, self.side / 2, self.sigma)[:, which.to(x.device)]
        return log_total(log_p)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw (n, 2): a square, a uniform point in it, and the blur."""
        k = choose(torch.ones(len(self.centres)), n, generator)
        eps = normal(n, generator)
        u = torch.rand(n, 2, generator=generator, device=eps.device) - 0.5
        return self.centres.to(eps)[k] + self.side * u + self.sigma * eps
