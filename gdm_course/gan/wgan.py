"""Critics: how far it is from the data to the fakes, by the best function of slope 1.

W_1(p, q) = max over functions f with |f(x) - f(y)| <= |x - y| of E_p f - E_q f. A critic
is a network in the place of f. What differs is how its slope is kept at 1: by small
weights, by a penalty, or (in `spectral`) by layers that cannot stretch.

References:
    Arjovsky, Chintala, Bottou (2017). Wasserstein GAN. arXiv:1701.07875.
    Gulrajani, Ahmed, Arjovsky, Dumoulin, Courville (2017). Improved training of
        Wasserstein GANs. arXiv:1704.00028.
    Petzka, Fischer, Lukovnikov (2018). On the regularization of Wasserstein GANs.
        arXiv:1709.08894. The one-sided penalty.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from gdm_course import validate
from gdm_course.gan.gan import GAN
from gdm_course.gan.players import weight


class WGAN(GAN):
    """A critic f that says how far, with weights clipped to [-clip, clip].

    Args:
        D: dimension of a point.
        clip: largest size of a weight or bias of the critic; None leaves them alone.
        Z, hidden, depth: of the players, see `GAN`.
    """

    def __init__(self, D=2, *, clip: float | None = 0.01, Z=2, hidden=64, depth=2):
        super().__init__(D, Z=Z, hidden=hidden, depth=depth)
        self.clip = clip if clip is None else positive(clip, "clip")
        self.constrain()

    @torch.no_grad()
    def constrain(self) -> None:
        """Cut the critic's weights to [-clip, clip]: after each of its steps."""
        for p in self.discriminator.parameters() if self.clip else ():
            p.clamp_(-self.clip, self.clip)

    def critic_loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Return what f minimises on data x and fakes y: two times (B, *D) -> ()."""
        return self.critic_objective(self.discriminate(x), self.discriminate(y))

    def discriminator_loss(self, x: Tensor) -> Tensor:
        """Return `critic_loss` on as many fakes as data: (B, *D) -> ()."""
        validate.points(x, self.shape, self)
        with torch.no_grad():
            y = self.fake(len(x))
        return self.critic_loss(x, y)

    def critic_objective(self, d_real: Tensor, d_fake: Tensor) -> Tensor:
        """Return E_q f - E_p f: two times (B,) -> ()."""
        return d_fake.mean() - d_real.mean()

    def generator_objective(self, d_real: Tensor, d_fake: Tensor) -> Tensor:
        """Return -E_q f, uphill in f: (B,) -> ()."""
        return -d_fake.mean()


def interpolate(x: Tensor, y: Tensor) -> Tensor:
    """Draw one point on the line from each x to its y: (B, *D), (B, *D) -> (B, *D).

    One number u ~ U(0, 1) per row, not per coordinate: the point lies on the line.
    """
    u = torch.rand(len(x), *[1] * (x.ndim - 1), dtype=x.dtype, device=x.device)
    return x + u * (y - x)


def gradient_penalty(
    critic: Callable[[Tensor], Tensor], x: Tensor, one_sided: bool = False
) -> Tensor:
    """Return E (|grad f(x)| - 1)^2, equation (4): (B, *D) -> ().

    Args:
        critic: f, (B, *D) -> (B,), each row alone: slopes are those of the *sum*, so that
            batch normalisation would mix them.
        x: where its slope is looked at.
        one_sided: only slopes above 1 cost: E max(0, |grad f(x)| - 1)^2, equation (5).

    Returns:
        Differentiable in the critic's weights.
    """
    x = x.detach().requires_grad_()
    (slope,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    excess = slope.flatten(1).norm(dim=1) - 1
    return (excess.relu() if one_sided else excess).square().mean()


class WGANGP(WGAN):
    """A critic whose slope is pulled to 1 on the lines between data and fakes.

    Args:
        D: dimension of a point.
        lam: weight of the penalty.
        one_sided: whether only slopes above 1 cost.
        net: Z, hidden, depth of the players.
    """

    def __init__(
        self, D: int = 2, *, lam: float = 10.0, one_sided: bool = False, **net: int
    ):
        super().__init__(D, clip=None, **net)
        self.lam, self.one_sided = weight(lam, "lam"), one_sided

    def critic_loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Return E_q f - E_p f + lam * penalty: two times (B, *D) -> ()."""
        between = interpolate(x, y)
        penalty = gradient_penalty(self.discriminate, between, self.one_sided)
        return super().critic_loss(x, y) + self.lam * penalty


def positive(size: float, name: str) -> float:
    """Return a number above 0, or raise ValueError."""
    if not 0 < size < math.inf:
        raise ValueError(f"{name} is {size}: expected a positive number, or None")
    return size
