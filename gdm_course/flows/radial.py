"""Radial flows: push points away from a centre or pull them in, with formulas both ways.

References:
    Rezende, Mohamed (2015). Variational inference with normalizing flows. arXiv:1505.05770.
"""

import torch
from torch import Tensor, nn

from gdm_course import validate
from gdm_course.flows.flow import Flow
from gdm_course.flows.planar import Affine, growth


def radius(far: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """Solve r + beta r / (alpha + r) = far for r >= 0, without cancellation: (14).

    It is r^2 + p r - alpha far = 0 with p = alpha + beta - far.

    Args:
        far: distances from the centre after the step (B,).
        alpha, beta: of the step, alpha > 0 and beta > -alpha.
    """
    p = alpha + beta - far
    q = (p.abs() + (p * p + 4 * alpha * far).sqrt()) / 2  # one root is q, or product / q
    return torch.where(p > 0, alpha * far / q, q)


def push(r: Tensor, alpha: Tensor, beta: Tensor, D: int) -> tuple[Tensor, Tensor]:
    """Return h = beta / (alpha + r) and log |det dx/dz| in D dimensions, both (B,)."""
    h = beta / (alpha + r)  # 1 + h stretches the D - 1 directions around
    along = alpha * h / (alpha + r)  # and 1 + this the one outwards
    return h, (D - 1) * torch.log1p(h) + torch.log1p(along)


class Radial(nn.Module):
    """x = z + beta (z - c) / (alpha + r), r = |z - c|: push away from a centre, or pull.

    With alpha > 0 it is invertible for beta > -alpha, (13), so beta is alpha (growth - 1).
    The way back is the root of a quadratic equation, (14).

    Args:
        D: number of dimensions.

    References:
        Rezende, Mohamed (2015). Variational inference with normalizing flows.
    """

    def __init__(self, D: int):
        super().__init__()
        self.c = nn.Parameter(torch.randn(validate.count(D, "D", 1)))
        self.log_alpha = nn.Parameter(torch.zeros(()))
        self.free = nn.Parameter(torch.randn(()) * 0.1)  # 0 would be the identity

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Noise to data: z (B, D) -> x (B, D) and log |det dx/dz| (B,)."""
        alpha, beta = self.shape()
        away = validate.points(z, len(self.c), self.c, name="z", least=0) - self.c
        r = torch.linalg.vector_norm(away, dim=1)  # (B,)
        h, log_det = push(r, alpha, beta, len(self.c))
        return torch.addcmul(z, h[:, None], away), log_det

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Data to noise: x (B, D) -> z (B, D) and log |det dz/dx| (B,)."""
        alpha, beta = self.shape()
        away = validate.points(x, len(self.c), self.c) - self.c
        far = torch.linalg.vector_norm(away, dim=1)
        h, log_det = push(radius(far, alpha, beta), alpha, beta, len(self.c))
        return self.c + away / (1 + h)[:, None], -log_det

    def shape(self) -> tuple[Tensor, Tensor]:
        """Return alpha > 0 and beta > -alpha."""
        alpha = self.log_alpha.exp()
        return alpha, alpha * (growth(self.free) - 1)


class RadialFlow(Flow):
    """A Gaussian with its own mean and widths, then radial steps: formulas both ways.

    Args:
        D: number of dimensions.
        layers: number of radial steps; with 0 only the Gaussian is left.
    """

    def __init__(self, D: int, *, layers: int = 16):
        validate.at_least(0, layers=layers)
        super().__init__([*(Radial(D) for _ in range(layers)), Affine(D)], (D,))
