"""What the encoder leaves on the table: a posterior of its own for every example.

References:
    Cremer, Li, Duvenaud (2018). Inference suboptimality in variational autoencoders.
        arXiv:1801.03558.
"""

import torch
from torch import Tensor
from torch.distributions import Independent

from gdm_course import validate
from gdm_course.training import adam
from gdm_course.vae.vae import LatentModel, diagonal_gaussian, gaussian_kl


def refine(
    model: LatentModel, x: Tensor, *, steps: int = 300, lr: float = 0.03, draws: int = 8
) -> Independent:
    """Improve q(z | x) for every x by itself, the model held fixed.

    Starts from the encoder's mu and log_sigma and climbs the bound (2) by Adam, the rate
    falling to 0. What is gained is the amortisation gap; what is left, the gap of the
    family of Gaussians.

    Args:
        model: with a standard normal prior; its weights do not change.
        x: (B, *shape).
        steps, lr: of Adam.
        draws: of z per step and example.

    Returns:
        q, batch shape (B,), event shape (K,).
    """
    validate.at_least(1, steps=steps, draws=draws)
    with torch.no_grad():
        q = model.encode(x).base_dist
        start = torch.cat([q.loc, q.scale.log()], dim=-1)
    numbers = start.clone().requires_grad_()  # (B, 2 K): free, without any network
    optimizer = adam([numbers], lr)
    for step in range(steps):
        z = diagonal_gaussian(numbers).rsample((draws,))
        kl = gaussian_kl(*numbers.chunk(2, dim=-1)).sum()
        log_p = model.log_likelihood(x, z).mean(0).sum()
        (numbers.grad,) = torch.autograd.grad(kl - log_p, numbers)
        optimizer.param_groups[0]["lr"] = lr * (1 - step / steps)
        optimizer.step()
    return diagonal_gaussian(numbers.detach())


@torch.no_grad()
def bound_of(model: LatentModel, x: Tensor, q: Independent, draws: int = 100) -> Tensor:
    """Return the bound (2) of any q, averaged over draws of z, in nats: (B,)."""
    validate.at_least(1, draws=draws)
    log_p = sum(model.log_likelihood(x, q.rsample()) for _ in range(draws)) / draws
    return log_p - gaussian_kl(q.base_dist.loc, q.base_dist.scale.log()).sum(-1)
