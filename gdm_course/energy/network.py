"""A neural network as an energy: any function of the points will do.

References:
    LeCun, Chopra, Hadsell, Ranzato, Huang (2006). A tutorial on energy-based learning.
"""

import torch
from torch import Tensor, nn

from gdm_course import validate
from gdm_course.nets import wave_net, zero_last


class EnergyNet(nn.Module):
    """E(x) = f(x) + |x|^2 / (2 width^2): a network in a wide bowl.

    Low is likely. The bowl makes Z finite, whatever the network says far away.

    Args:
        D: dimension of a point.
        width: standard deviation of the bowl, wider than the data.
        net: more about the network, see `nets.wave_net`: hidden, waves, scale.
    """

    def __init__(self, D: int, *, width: float = 3.0, **net):
        super().__init__()
        validate.at_least(1, D=D)
        self.f = zero_last(wave_net(D, 1, **net))
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
