"""The smallest GAN: one data point at 0, one fake at theta, a discriminator D(x) = psi x.

The two move at the same time, each down its own loss. What a step does is a field in the
plane of (theta, psi), and it turns around the only point where both are content, (0, 0).

References:
    Mescheder, Geiger, Nowozin (2018). Which training methods for GANs do actually converge?
        arXiv:1801.04406.
"""

import torch
from torch import Tensor

from gdm_course import validate


def dirac_field(at: Tensor, gamma: float = 0.0, *, wasserstein: bool = False) -> Tensor:
    """Return minus the slopes of both losses: (theta, psi) (B, 2) -> (B, 2).

    D's loss is log 2 + softplus(psi theta) + gamma / 2 psi^2, where psi^2 is |dD/dx|^2;
    G's is softplus(-psi theta). A Wasserstein critic has psi theta and -psi theta instead.

    Args:
        at: where the players are (B, 2).
        gamma: weight of R1.
        wasserstein: whether logits count as they are.
    """
    theta, psi = validate.points(at, 2, name="at").T
    d = psi * theta  # D's logit of the fake
    caught, missed = (
        (torch.ones_like(d),) * 2 if wasserstein else (d.sigmoid(), (-d).sigmoid())
    )
    return torch.stack([missed * psi, -caught * theta - gamma * psi], 1)


def dirac_path(
    gamma: float, steps: int = 500, *, step: float = 0.1, wasserstein: bool = False
) -> Tensor:
    """Follow the field from (1, 1), both players at once: (steps + 1, 2)."""
    path = [torch.ones(1, 2, dtype=torch.float64)]
    for _ in range(validate.count(steps, "steps")):
        path.append(path[-1] + step * dirac_field(path[-1], gamma, wasserstein=wasserstein))
    return torch.cat(path)
