"""A neural network as an energy: any function of the points will do.

References:
    LeCun, Chopra, Hadsell, Ranzato, Huang (2006). A tutorial on energy-based learning.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gdm_course import validate
from gdm_course.nets import FourierFeatures, mlp, zero_last


class EnergyNet(nn.Module):
    """E(x) = f(x) + |x|^2 / (2 width^2): a network in a wide bowl.

    Low is likely. The bowl makes Z finite, whatever the network says far away.

    Args:
        D: dimension of a point.
        hidden: features of the hidden layers.
        waves: Fourier features of the points; 0 shows the points themselves.
        scale: of the waves' frequencies, in radians per unit of x.
        width: standard deviation of the bowl, wider than the data.
    """

    def __init__(
        self,
        D: int,
        *,
        hidden: Sequence[int] = (64, 64),
        waves: int = 32,
        scale: float = 1.0,
        width: float = 3.0,
    ):
        super().__init__()
        validate.at_least(1, D=D, hidden=hidden)
        validate.at_least(0, waves=waves)
        front = FourierFeatures(D, waves, scale) if waves else nn.Identity()
        self.f = nn.Sequential(front, zero_last(mlp((2 * waves or D, *hidden, 1))))
        self.D, self.width = D, width

    def energy(self, x: Tensor) -> Tensor:
        """Return E(x) in nats, known but for a constant: (B, D) -> (B,)."""
        x = validate.points(x, self.D, self)
        return self.f(x).squeeze(1) + x.square().sum(1) / (2 * self.width**2)

    def score(self, x: Tensor) -> Tensor:
        """Return grad log p(x) = -grad E(x), where Z is gone: (B, D) -> (B, D).

        Differentiable in the parameters, and in x again.
        """
        with torch.enable_grad():
            x = x if x.requires_grad else x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.energy(x).sum(), x, create_graph=True)
        return -slope
