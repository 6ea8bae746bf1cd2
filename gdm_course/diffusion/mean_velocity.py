"""Jumps along a flow: a network of the mean velocity over a stretch of time.

Data at t = 0, noise at t = 1, z_t = (1 - t) x0 + t eps, velocity v = E[eps - x0 | z_t].
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from gdm_course import validate
from gdm_course.diffusion.denoiser import ToldLinear, Waves
from gdm_course.diffusion.schedule import rowwise
from gdm_course.diffusion.score_sde import noise_for
from gdm_course.diffusion.unet import UNet
from gdm_course.learning import evaluating
from gdm_course.nets import FourierFeatures, precise


class JumpNet(nn.Module):
    """A perceptron that sees a point, the time and how far to jump: (z, t, r) -> (B, D).

    Args:
        D: dimensions of a point.
        hidden, depth: units in each hidden layer, and number of them.
        waves: how many random waves of z it sees beside z, see `nets.FourierFeatures`.
        rate: how quickly the waves of the time go: the network's slope in t has this scale.
    """

    def __init__(
        self, D: int, *, hidden: int = 128, depth: int = 3, waves: int = 32, rate=2.0
    ):
        super().__init__()
        validate.at_least(1, D=D, hidden=hidden, depth=depth)
        validate.at_least(0, waves=waves)
        self.D, self.rate, self.times = D, rate, Waves(8)
        self.waves = FourierFeatures(D, waves, (8 / D) ** 0.5) if waves else None
        sizes = [D + 2 * waves, *[hidden] * depth]
        self.layers = nn.ModuleList(ToldLinear(i, o, 32) for i, o in pairwise(sizes))
        self.out = nn.Linear(hidden, D)

    def forward(self, z: Tensor, t: Tensor, r: Tensor) -> Tensor:
        """Return the mean velocity between the times r <= t: (B, D), (B,), (B,)."""
        z = validate.points(z, self.D, self.out, name="z", least=0)
        now, far = (2 * t.to(z) - 1) * self.rate, (t - r).to(z) * self.rate
        e = torch.cat([self.times(now), self.times(far)], 1)
        h = z if self.waves is None else torch.cat([z, self.waves(z)], 1)
        for layer in self.layers:
            h = layer(h, e)
        return self.out(h)


class JumpUNet(nn.Module):
    """A U-Net that is told how far to jump by one more plane: (z, t, r) -> like z.

    Args:
        C: channels of the picture.
        net: more about the network, see `UNet`: width, mult, attention, ...
    """

    def __init__(self, C: int, **net):
        super().__init__()
        self.net = UNet(C, C_condition=1, **net)

    def forward(self, z: Tensor, t: Tensor, r: Tensor) -> Tensor:
        """Return the mean velocity between the times r <= t: (B, C, H, W), (B,), (B,)."""
        far = rowwise(t - r, z).expand(len(z), 1, *z.shape[2:])
        return self.net(z, 20 * t.to(z) - 10, condition=far)


class MeanVelocity(nn.Module):
    """A network u(z, r, t), the mean velocity of the path through z between r and t.

    The point at the time r is z_r = z_t - (t - r) u(z_t, r, t), equation (5).

    Args:
        net: (z, t, r) -> u, as z, for times (B,), 0 <= r <= t <= 1.
        shape: of one example.
    """

    def __init__(self, net: nn.Module, shape: Sequence[int]):
        super().__init__()
        validate.at_least(1, shape=tuple(shape))
        self.net, self.shape = net, tuple(shape)

    def jump(self, z: Tensor, t: Tensor | float, r: Tensor | float) -> Tensor:
        """Go from the time t to the time r <= t at once: (B, *D) -> (B, *D)."""
        z = validate.points(z, self.shape, self, name="z", least=0)
        t, r = (torch.as_tensor(v).to(z).expand(len(z)) for v in (t, r))
        return z - rowwise(t - r, z) * precise(self.net(z, t, r))

    @torch.no_grad()
    def walk(self, eps: Tensor, steps: int = 1) -> Tensor:
        """Go from noise to data in so many equal jumps: (B, *D) -> (B, *D)."""
        n = validate.count(steps, "steps", 1)
        with evaluating(self):
            for k in range(n, 0, -1):
                eps = self.jump(eps, k / n, (k - 1) / n)
        return eps

    def sample(self, n: int, steps: int = 1) -> Tensor:
        """Draw noise, and `walk`: (n, *D)."""
        return self.walk(noise_for(self, n, self.shape), steps)
