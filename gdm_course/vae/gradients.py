"""Two gradients of the same expectation, and how much noise each carries.

References:
    Williams (1992). Simple statistical gradient-following algorithms for connectionist
        reinforcement learning. Machine Learning 8. (The score-function estimator.)
    Rainforth, Kosiorek, Le, Maddison, Igl, Wood, Teh (2018). Tighter variational bounds are
        not necessarily better. arXiv:1802.04537. (Signal to noise.)
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.distributions import Normal

from gdm_course.vae.vae import LatentModel

Integrand = Callable[[Tensor], Tensor]  # (n, K) -> (n,)


def reparametrised_gradient(
    f: Integrand, mu: Tensor, log_sigma: Tensor, n: int
) -> tuple[Tensor, Tensor]:
    """Return n draws of (3), the gradient through z = mu + sigma eps.

    d f(mu + sigma eps) / d mu and d log_sigma: each is unbiased for the gradient of
    E[f(z)], z ~ N(mu, sigma^2).

    Args:
        f: differentiable; rows must not mix.
        mu, log_sigma: (K,).
        n: how many draws.

    Returns:
        Gradients in mu and in log_sigma, (n, K) each.
    """
    eps = torch.randn(n, len(mu), dtype=mu.dtype, device=mu.device)
    mu, log_sigma = (v.detach().expand(n, -1).requires_grad_() for v in (mu, log_sigma))
    z = mu + log_sigma.exp() * eps
    return torch.autograd.grad(f(z).sum(), (mu, log_sigma))


def score_gradient(
    f: Integrand, mu: Tensor, log_sigma: Tensor, n: int
) -> tuple[Tensor, Tensor]:
    """Return n draws of (6), f(z) times the gradient of log q(z): f is never derived.

    Args:
        f: any function.
        mu, log_sigma: (K,).
        n: how many draws.

    Returns:
        Gradients in mu and in log_sigma, (n, K) each.
    """
    mu, log_sigma = (v.detach().expand(n, -1).requires_grad_() for v in (mu, log_sigma))
    q = Normal(mu, log_sigma.exp(), validate_args=False)
    z = q.sample()
    log_q = q.log_prob(z).sum(-1)  # (n,)
    return torch.autograd.grad((f(z).detach() * log_q).sum(), (mu, log_sigma))


def gradient_draws(
    model: LatentModel, x: Tensor, k: int, n: int, weights: Iterable[Tensor]
) -> Tensor:
    """Return n independent gradients of the mean of iwae(x, k): (n, number of weights)."""
    weights = list(weights)
    draws = []
    for _ in range(n):
        g = torch.autograd.grad(model.iwae(x, k).mean(), weights)
        draws.append(torch.cat([part.flatten() for part in g]))
    return torch.stack(draws)


def signal_to_noise(draws: Tensor) -> Tensor:
    """Return |mean| / standard deviation of every weight's gradient: (n, W) -> (W,)."""
    return draws.mean(0).abs() / draws.std(0)
