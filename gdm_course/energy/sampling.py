"""Drawing from an energy: Langevin, its exact relative MALA, and Hamiltonian Monte Carlo.

An energy is any function of points (B, *D) -> (B,) in nats; low is likely. Each sampler is
a step: it takes where the chains are and returns where they go, all chains at once.

    for _ in range(1000):
        x = langevin_step(energy, x, eps)

The convention of the course: x' = x - (eps / 2) grad E(x) + sqrt(eps) xi, xi ~ N(0, I).

References:
    Roberts, Tweedie (1996). Exponential convergence of Langevin distributions and their
        discrete approximations. Bernoulli 2(4).
    Neal (2011). MCMC using Hamiltonian dynamics. arXiv:1206.1901.
    Welling, Teh (2011). Bayesian learning via stochastic gradient Langevin dynamics. ICML.
"""

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor

Energy = Callable[[Tensor], Tensor]


def with_slope(energy: Energy, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return E(x) (B,) and its gradient in x (B, *D), neither of them recorded further."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        E = energy(x)
        (slope,) = torch.autograd.grad(E.sum(), x)
    return E.detach(), slope


def noise_like(x: Tensor, generator: Generator | None = None) -> Tensor:
    """Draw standard normal numbers of the shape, dtype and device of x."""
    return torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)


def check_step(eps: float) -> float:
    """Return a step size, or raise ValueError if it is no positive number."""
    if not 0 < eps < math.inf:
        raise ValueError(f"eps is {eps}: expected a positive step size, such as 0.01")
    return eps


def langevin_step(
    energy: Energy, x: Tensor, eps: float, generator: Generator | None = None
) -> Tensor:
    """Roll downhill a little and be kicked: x - (eps/2) grad E + sqrt(eps) xi.

    Args:
        energy: in nats, (B, *D) -> (B,).
        x: where the chains are, (B, *D).
        eps: step size, the variance of a kick.
        generator: of the kicks; None takes the global one.
    """
    check_step(eps)
    _, slope = with_slope(energy, x)
    return x.detach() - eps / 2 * slope + math.sqrt(eps) * noise_like(x, generator)


def log_proposal(y: Tensor, x: Tensor, slope: Tensor, eps: float) -> Tensor:
    """Return log q(y | x) of a Langevin step, but for a constant: (B,).

    log q(y | x) = -|y - x + (eps/2) grad E(x)|^2 / (2 eps). Args: points y and x (B, *D),
    and the slope of E at x.
    """
    return -(y - x + eps / 2 * slope).flatten(1).square().sum(1) / (2 * eps)


def mala_step(
    energy: Energy,
    x: Tensor,
    eps: float,
    generator: Generator | None = None,
    *,
    ratio: bool = True,
) -> tuple[Tensor, Tensor]:
    """Propose a Langevin step, and take it with the probability that makes p stay p.

    log a = E(x) - E(y) + log q(x | y) - log q(y | x).

    Args:
        energy, x, eps, generator: as of `langevin_step`.
        ratio: False forgets the two proposals q, to see what that costs.

    Returns:
        Where the chains are (B, *D), and which of them moved (B,).
    """
    check_step(eps)
    (E, slope), x = with_slope(energy, x), x.detach()
    y = x - eps / 2 * slope + math.sqrt(eps) * noise_like(x, generator)
    E_y, slope_y = with_slope(energy, y)
    log_a = E - E_y
    if ratio:
        log_a = log_a + log_proposal(x, y, slope_y, eps) - log_proposal(y, x, slope, eps)
    return choose(x, y, log_a, generator)


def choose(
    x: Tensor, y: Tensor, log_a: Tensor, generator: Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Go from x to y with probability min(1, a), chain by chain; NaN counts as a = 0.

    Args: x, y (B, *D), log a (B,). Returns: where each chain is, and which moved (B,).
    """
    u = torch.rand(len(x), generator=generator, dtype=log_a.dtype, device=x.device)
    moved = u.log() < log_a
    return torch.where(moved.view(-1, *[1] * (x.ndim - 1)), y, x), moved


def jump_step(energy: Energy, bowl, x: Tensor) -> tuple[Tensor, Tensor]:
    """Propose a fresh place for every chain, from a bowl, and take it if p agrees.

    log a = E(x) - E(y) - (E_bowl(x) - E_bowl(y)). A jump crosses any ridge between two
    valleys; it is refused nearly always in many dimensions (Hastings 1970).

    Args:
        energy, x: as of `langevin_step`.
        bowl: with `energy` and `sample`, such as `network.Bowl`, as wide as p or wider.

    Returns:
        Where the chains are (B, *D), and which of them moved (B,).
    """
    with torch.no_grad():
        y = bowl.sample(len(x))
        log_a = energy(x) - energy(y) - bowl.energy(x) + bowl.energy(y)
    return choose(x.detach(), y, log_a)


def leapfrog(
    energy: Energy, x: Tensor, p: Tensor, step: float, steps: int
) -> tuple[Tensor, Tensor]:
    """Follow x' = p, p' = -grad E: half a push, then drifts and pushes in turn.

    Args:
        x, p: places and momenta (B, *D).
        step: of time; steps: how many of them.

    Returns:
        x and p after the time step * steps; with -p it leads back to where it began.
    """
    x = x.detach()
    p = p - step / 2 * with_slope(energy, x)[1]
    for left in range(steps - 1, -1, -1):
        x = x + step * p
        p = p - (step if left else step / 2) * with_slope(energy, x)[1]
    return x, p


def hmc_step(
    energy: Energy,
    x: Tensor,
    step: float,
    steps: int = 10,
    generator: Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Push every chain with a fresh momentum and follow it; accept by the total energy.

    a = exp(H(x, p) - H(x', p')) with H = E + |p|^2 / 2. One leapfrog step is MALA with
    eps = step^2.

    Returns:
        Where the chains are (B, *D), and which of them moved (B,).
    """
    check_step(step)
    p = noise_like(x, generator)
    y, q = leapfrog(energy, x, p, step, steps)
    with torch.no_grad():
        drop = (p.flatten(1).square().sum(1) - q.flatten(1).square().sum(1)) / 2
        log_a = energy(x) - energy(y) + drop
    return choose(x.detach(), y, log_a, generator)
