"""MeanFlow: the mean velocity from an identity in place of small steps.

Numbered equations are those of the lecture diffusion/few_step.

References:
    Geng, Deng, Bai, Kolter, He (2025). Mean flows for one-step generative modeling.
        arXiv:2505.13447.
    Geng et al. (2025). Improved mean flows: on the challenges of fastforward generative
        models. arXiv:2512.02012.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import jvp

from gdm_course import validate
from gdm_course.diffusion.mean_velocity import MeanVelocity
from gdm_course.diffusion.schedule import noise_like, rowwise


def mean_and_slope(
    net: nn.Module, z: Tensor, t: Tensor, r: Tensor, v: Tensor
) -> tuple[Tensor, Tensor]:
    """Return u(z, r, t) and its slope du/dt while z moves with v and r stands still.

    One pass forward gives both: the direction is v for z, 1 for t and 0 for r.
    """
    with torch.autocast(z.device.type, enabled=False):  # convolutions have no jvp under it
        return jvp(net, (z, t, r), (v, torch.ones_like(t), torch.zeros_like(r)))


class MeanFlow(MeanVelocity):
    """A mean velocity that obeys u = v - (t - r) du/dt, equation (8).

    Args:
        net: (z, t, r) -> u, see `MeanVelocity`.
        shape: of one example.
        same: share of a batch with r = t, where (8) is flow matching.
        power: the mean square q of a point's error is weighted by 1 / (q + 0.01)^power,
            after the paper, which takes 1 for ImageNet; 0 is least squares.
    """

    def __init__(
        self, net: nn.Module, shape: Sequence[int], *, same: float = 0.5, power=1.0
    ):
        super().__init__(net, shape)
        if not 0 <= same <= 1:
            raise ValueError(f"same is {same}: expected a number from 0 to 1")
        self.same, self.power = same, power

    def error(self, z: Tensor, t: Tensor, r: Tensor, v: Tensor) -> Tensor:
        """Return u - (v - (t - r) du/dt), the target without a gradient: (B, *D)."""
        u, slope = mean_and_slope(self.net, z, t, r, v)
        return u - (v - rowwise(t - r, z) * slope).detach()

    def loss(self, x: Tensor) -> Tensor:
        """Return the weighted squared error of (8), at times drawn anew: (B, *D) -> ()."""
        x, eps = validate.points(x, self.shape, self), noise_like(x)
        t, r = (v.to(x) for v in times(len(x), self.same))
        z, v = x + rowwise(t, x) * (eps - x), eps - x
        squares = self.error(z, t, r, v).square().flatten(1).mean(1)
        return (squares / (squares.detach() + 0.01) ** self.power).mean()


class ImprovedMeanFlow(MeanFlow):
    """MeanFlow as a regression of v: u + (t - r) du/dt is to be eps - x0.

    du/dt is along the network's own velocity u(z, t, t), not along one pair's eps - x0.
    """

    def error(self, z: Tensor, t: Tensor, r: Tensor, v: Tensor) -> Tensor:
        """Return u + (t - r) du/dt - v, the slope without a gradient: (B, *D)."""
        with torch.no_grad():
            own = self.net(z, t, t).to(z)  # not in the half precision of autocast
        u, slope = mean_and_slope(self.net, z, t, r, own)
        return (u + rowwise(t - r, z) * slope.detach() - v).double()  # no overflow far out

    def loss(self, x: Tensor) -> Tensor:
        """Return the weighted squared error, as of `MeanFlow`: (B, *D) -> ()."""
        return super().loss(x).to(x)


def times(B: int, same: float) -> tuple[Tensor, Tensor]:
    """Draw B pairs of times r <= t from [0, 1], a share of them with r = t: (B,), (B,)."""
    r, t = torch.rand(2, B).sort(0).values
    return t, r.where(torch.rand(B) >= same, t)
