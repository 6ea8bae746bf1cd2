"""Inductive moment matching: two jumps to one time are to have the same law.

References:
    Zhou, Ermon, Song (2025). Inductive moment matching. arXiv:2503.07565.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gdm_course import validate
from gdm_course.diffusion.mean_velocity import MeanVelocity
from gdm_course.diffusion.schedule import noise_like, rowwise


class MomentMatching(MeanVelocity):
    """A mean velocity whose jumps from t and from a little earlier agree in law.

    Groups of M points share their times r <= m < t. Jumps t -> r and m -> r of the same
    data and noise are compared as two clouds, by the energy distance. With M = 1 only the
    distance of the pair is left: a consistency model.

    Args:
        net: (z, t, r) -> u, see `MeanVelocity`.
        shape: of one example.
        M: points of a group.
        gap: from m to t, if r is not in between.
    """

    def __init__(
        self, net: nn.Module, shape: Sequence[int], *, M: int = 8, gap: float = 0.05
    ):
        super().__init__(net, shape)
        validate.at_least(1, M=M)
        if not 0 < gap <= 1:
            raise ValueError(f"gap is {gap}: expected a number above 0, at most 1")
        self.M, self.gap = M, gap

    def loss(self, x: Tensor) -> Tensor:
        """Return the mean energy distance of the groups' clouds, per gap: (B, *D) -> ()."""
        x = validate.points(x, self.shape, self)
        M = min(self.M, len(x))
        x = x[: len(x) // M * M]  # whole groups
        r, t = torch.rand(2, len(x) // M, 1).sort(0).values.to(x)
        m, eps = torch.maximum(r, t - self.gap), noise_like(x)
        late, middle, early = (v.expand(-1, M).flatten() for v in (t, m, r))
        a = self.jump(x + rowwise(late, x) * (eps - x), late, early)
        with torch.no_grad():
            b = self.jump(x + rowwise(middle, x) * (eps - x), middle, early)
        return (
            energy(a.view(-1, M, x[0].numel()), b.view(-1, M, x[0].numel()))
            / (t - m).clamp(min=1e-3)[:, 0]
        ).mean()


def energy(a: Tensor, b: Tensor) -> Tensor:
    """Return 2 E|a - b| - E|a - a'| - E|b - b'| of clouds: (G, M, D), (G, M, D) -> (G,)."""
    return 2 * spread(a, b) - spread(a, a) - spread(b, b)


def spread(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean distance of all pairs, smooth at 0: (G, M, D), (G, M, D) -> (G,)."""
    gaps = (a[:, :, None] - b[:, None]).square().sum(-1)
    return (gaps + 1e-6).sqrt().mean((1, 2))
