"""Any f-divergence from samples, as the height of a bound that a critic raises.

D_f(p || q) = E_q f(p / q) for a convex f with f(1) = 0. With the conjugate of f,
f*(t) = sup_u (u t - f(u)), every function T gives a bound, equation (7):

    D_f(p || q) >= E_p T(x) - E_q f*(T(y)),      equal at T = f'(p / q).

The critic says any number v; T = g(v) is where f* is finite. All that is a `Divergence`.

References:
    Nguyen, Wainwright, Jordan (2010). Estimating divergence functionals and the likelihood
        ratio by convex risk minimization. arXiv:0809.0853.
    Nowozin, Cseke, Tomioka (2016). f-GAN: training generative neural samplers using
        variational divergence minimization. arXiv:1606.00709.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from gdm_course import validate
from gdm_course.gan.gan import GAN

Curve = Callable[[Tensor], Tensor]
LOG2 = math.log(2)


@dataclass(frozen=True)
class Divergence:
    """What a GAN has to know about an f-divergence.

    Attributes:
        name: of the divergence.
        f: convex, of the ratio u = p / q.
        T: g, from any number v that a critic says to a number where f* is finite.
        price: f*(g(v)), written so that it is right for large v.
        best: the best T, f'(p / q), from log p - log q.
    """

    name: str
    f: Curve
    T: Curve
    price: Curve
    best: Curve

    def bound(self, v_p: Tensor, v_q: Tensor) -> Tensor:
        """Return E_p T - E_q f*(T) for what a critic says at data and at fakes: ()."""
        return self.T(v_p).mean() - self.price(v_q).mean()


def u_log_u(u: Tensor) -> Tensor:
    """Return u log u, which is 0 at 0."""
    return torch.xlogy(u, u)


KL = Divergence(
    "KL(p || q)",
    u_log_u,
    lambda v: v,
    lambda v: torch.exp(v - 1),
    lambda r: 1 + r,
)
REVERSE_KL = Divergence(
    "KL(q || p)",
    lambda u: -u.log(),
    lambda v: -torch.exp(-v),
    lambda v: v - 1,
    lambda r: -torch.exp(-r),
)
PEARSON = Divergence(
    "Pearson chi^2",
    lambda u: (u - 1) ** 2,
    lambda v: v,
    lambda v: v**2 / 4 + v,
    lambda r: 2 * torch.expm1(r),
)
HELLINGER = Divergence(
    "squared Hellinger",
    lambda u: (u.sqrt() - 1) ** 2,
    lambda v: -torch.expm1(-v),
    torch.expm1,
    lambda r: -torch.expm1(-r / 2),
)
JENSEN_SHANNON = Divergence(
    "2 JS",
    lambda u: u_log_u(u) - (1 + u) * torch.log((1 + u) / 2),
    lambda v: LOG2 - softplus(-v),
    lambda v: softplus(v) - LOG2,
    lambda r: LOG2 - softplus(-r),
)
GAN_GAME = Divergence(
    "GAN: 2 JS - 2 log 2",
    lambda u: u_log_u(u) - (1 + u) * torch.log(1 + u),
    lambda v: -softplus(-v),
    softplus,
    lambda r: -softplus(-r),
)
TOTAL_VARIATION = Divergence(
    "total variation",
    lambda u: (u - 1).abs() / 2,
    lambda v: torch.tanh(v) / 2,
    lambda v: torch.tanh(v) / 2,
    lambda r: r.sign() / 2,
)
DIVERGENCES = (
    KL,
    REVERSE_KL,
    PEARSON,
    HELLINGER,
    JENSEN_SHANNON,
    GAN_GAME,
    TOTAL_VARIATION,
)


class FGAN(GAN):
    """D raises the bound on an f-divergence, G lowers it. With `GAN_GAME` this is a GAN.

    Args:
        D: dimension of a point.
        divergence: what the bound is of.
        more: Z, hidden, depth, r1, r2, pack, as of `GAN`.
    """

    def __init__(self, D: int = 2, divergence: Divergence = JENSEN_SHANNON, **more):
        super().__init__(D, **more)
        self.divergence = divergence

    def bound(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the bound, estimated from samples of p and q: (B, D), (C, D) -> ().

        Take points on which the critic was not trained: on its own it may lie above.
        """
        y = validate.points(y, self.shape, self, name="y")
        return self.divergence.bound(self.discriminate(x), self.discriminate(y))

    def critic_objective(self, d_real: Tensor, d_fake: Tensor) -> Tensor:
        """Return minus the bound."""
        return -self.divergence.bound(d_real, d_fake)

    def generator_objective(self, d_real: Tensor, d_fake: Tensor) -> Tensor:
        """Return the part of the bound that G can change, -E_q f*(T)."""
        return -self.divergence.price(d_fake).mean()
