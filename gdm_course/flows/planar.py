"""Planar flows: many small steps from noise to data.

The closed form runs from noise to data, as in the paper: `inverse(z) -> x`. The way back,
`forward(x) -> z`, is one root per layer and point.

References:
    Rezende, Mohamed (2015). Variational inference with normalizing flows. arXiv:1505.05770.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdm_course import validate
from gdm_course.flows.flow import Flow


class Affine(nn.Module):
    """The first step after the noise: x = m + e^s z in every dimension on its own.

    Args:
        D: number of dimensions.
    """

    def __init__(self, D: int):
        super().__init__()
        validate.at_least(1, D=D)
        self.m = nn.Parameter(torch.zeros(D))
        self.s = nn.Parameter(torch.zeros(D))  # the log-determinant is its sum

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Standardise: x (B, D) -> z (B, D) and log |det dz/dx| (B,)."""
        x = validate.points(x, len(self.m), self.m)
        return (x - self.m) * torch.exp(-self.s), -self.s.sum().expand(len(x))

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Shift and stretch: z (B, D) -> x (B, D) and log |det dx/dz| (B,)."""
        z = validate.points(z, len(self.m), self.m, name="z", least=0)
        return self.m + self.s.exp() * z, self.s.sum().expand(len(z))


def growth(s: Tensor) -> Tensor:
    """Return softplus(s + log(e - 1)), which is positive, and 1 at s = 0: (8)."""
    return F.softplus(s + math.log(math.e - 1))


def allowed(u: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Change u along w so that the layer is invertible, whatever u and w are: (8).

    u_hat = u + (g - 1 - w.u) w / |w|^2,  g = growth(w.u),  so that 1 + w.u_hat = g > 0.

    Args:
        u, w: any two vectors (D,), w not 0.

    Returns:
        u_hat (D,) and g ().
    """
    s = w @ u
    g = growth(s)
    return u + (g - 1 - s) / (w @ w) * w, g


def newton(y: Tensor, g: Tensor, most: int = 60) -> Tensor:
    """Solve a + (g - 1) tanh(a) = y for a: (9). The answer has the sign of y.

    For a >= 0 the left side bends one way only, and the start lies on the side of the root
    from which Newton's steps never cross it: they cannot miss.

    Args:
        y: right sides (B,).
        g: the slope at 0, positive ().
        most: number of steps after which to give up; 2 to 10 are used, 20 if g is tiny.
    """
    size = y.abs()
    bounds = size + 1 - g, size / g  # both above the root if g < 1, both below if g > 1
    a = torch.where(g > 1, torch.maximum(*bounds), torch.minimum(*bounds))
    enough = 4 * torch.finfo(y.dtype).eps  # of rounding, which no step can take away
    for _ in range(most):
        t = a.tanh()
        excess = a - t + g * t - size
        a = a - excess / (t * t + g * (1 - t * t))
        if (excess.abs() <= enough * (a + size)).all():
            break
    return a.copysign(y)


class Root(torch.autograd.Function):
    """`newton` with the derivatives of the root, (11), however many steps it took.

    From a + (g - 1) tanh(a) = y:  da/dy = 1 / slope,  da/dg = -tanh(a) / slope,
    slope = tanh(a)^2 + g (1 - tanh(a)^2).
    """

    @staticmethod
    def forward(ctx, y: Tensor, g: Tensor) -> Tensor:
        """Find the roots: y (B,), g () -> a (B,)."""
        a = newton(y, g)
        ctx.save_for_backward(a, g)
        return a

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Apply (11), itself differentiable: grad (B,) -> gradients of y (B,) and g ()."""
        a, g = ctx.saved_tensors
        t = a.tanh()
        grad = grad / (t * t + g * (1 - t * t))
        return grad, -(grad * t).sum()


class Planar(nn.Module):
    """x = z + u_hat tanh(w.z + b): stretch or squeeze across one plane, (6) to (9).

    log |det dx/dz| = log(1 + tanh'(w.z + b) w.u_hat).

    Args:
        D: number of dimensions.

    References:
        Rezende, Mohamed (2015). Variational inference with normalizing flows.
    """

    def __init__(self, D: int):
        super().__init__()
        validate.at_least(1, D=D)
        self.w = nn.Parameter(torch.randn(D) * (2 / D) ** 0.5)  # w.z of size 1
        self.u = nn.Parameter(torch.randn(D) * 0.1)
        self.b = nn.Parameter(torch.randn(()))

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Noise to data, a formula: z (B, D) -> x (B, D) and log |det dx/dz| (B,)."""
        z = validate.points(z, len(self.w), self.w, name="z", least=0)
        u, g = allowed(self.u, self.w)
        t = torch.tanh(z @ self.w + self.b)  # (B,)
        return torch.addcmul(z, t[:, None], u), torch.log(g + (1 - g) * t * t)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Data to noise, a root: x (B, D) -> z (B, D) and log |det dz/dx| (B,)."""
        x = validate.points(x, len(self.w), self.w)
        u, g = allowed(self.u, self.w)
        y = x @ self.w + self.b
        t = torch.tanh(Root.apply(y, g))  # w.z + b solves (9)
        return torch.addcmul(x, t[:, None], u, value=-1), -torch.log(g + (1 - g) * t * t)


class PlanarFlow(Flow):
    """A Gaussian with its own mean and widths, then planar steps.

    `sample` and everything from noise to data costs one product per step; `log_prob` and
    training on data find one root per step and point.

    Args:
        D: number of dimensions.
        layers: number of planar steps; with 0 only the Gaussian is left.
    """

    def __init__(self, D: int, *, layers: int = 16):
        validate.at_least(0, layers=layers)
        super().__init__([*(Planar(D) for _ in range(layers)), Affine(D)], (D,))
