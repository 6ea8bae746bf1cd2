"""Shortcut models: two half jumps are the target of a whole one.

Numbered equations are those of the lecture diffusion/few_step.

References:
    Frans, Hafner, Levine, Abbeel (2025). One step diffusion via shortcut models.
        arXiv:2410.12557.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gdm_course import validate
from gdm_course.diffusion.mean_velocity import MeanVelocity
from gdm_course.diffusion.schedule import noise_like, rowwise


def dyadic(B: int, K: int) -> tuple[Tensor, Tensor]:
    """Draw B jumps of length d = 1, 1/2, ..., 2^(1-K) and a start t = d, 2 d, ..., 1."""
    pieces = 2.0 ** torch.randint(K, (B,))
    return 1 / pieces, ((torch.rand(B) * pieces).floor() + 1) / pieces


class Shortcut(MeanVelocity):
    """A mean velocity that teaches itself: a jump is the mean of its two halves.

    Args:
        net: (z, t, r) -> u, see `MeanVelocity`.
        shape: of one example.
        K: the shortest jump that is taught by halves is 2^(1-K); its halves are taken as
            short as can be, with the velocity itself.
        share: of a batch that learns from halves; the rest learns the velocity.
    """

    def __init__(
        self, net: nn.Module, shape: Sequence[int], *, K: int = 6, share: float = 0.25
    ):
        super().__init__(net, shape)
        validate.at_least(1, K=K)
        if not 0 <= share <= 1:
            raise ValueError(f"share is {share}: expected a number from 0 to 1")
        self.K, self.share = K, share

    @torch.no_grad()
    def halves(self, z: Tensor, t: Tensor, d: Tensor) -> Tensor:
        """Return the mean of u over two half jumps, equation (6): (B, *D)."""
        half = d / 2
        asked = half.where(half > 2.0**-self.K, 0)  # the shortest: the velocity
        first = self.net(z, t, t - asked)
        there = z - rowwise(half, z) * first
        return (first + self.net(there, t - half, t - half - asked)) / 2

    def loss(self, x: Tensor) -> Tensor:
        """Return the mean squared error of velocities and of jumps: (B, *D) -> ()."""
        x, eps = validate.points(x, self.shape, self), noise_like(x)
        n = round(self.share * len(x))
        d, t = (
            torch.cat([v, w]).to(x) for v, w in zip(dyadic(n, self.K), rest(len(x) - n))
        )
        z, target = x + rowwise(t, x) * (eps - x), eps - x
        target = torch.cat([self.halves(z[:n], t[:n], d[:n]), target[n:]])
        return (self.net(z, t, t - d) - target).square().mean()


def rest(B: int) -> tuple[Tensor, Tensor]:
    """Return B jumps of length 0, and uniform times for them."""
    return torch.zeros(B), torch.rand(B)
