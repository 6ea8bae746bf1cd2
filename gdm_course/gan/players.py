"""What every GAN is made of: two networks, the noise between them, and who learns when.

The discriminator answers with logits (B,), positive where it takes a point for data; no
probability and no label is ever computed.

References:
    Mescheder, Geiger, Nowozin (2018). Which training methods for GANs do actually converge?
        arXiv:1801.04406. They call the mean squared slope R1 on data and R2 on fakes.
    Lin, Khetan, Fanti, Oh (2018). PacGAN: the power of two samples in generative
        adversarial networks. arXiv:1712.04086.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from gdm_course import validate
from gdm_course.learning import evaluating
from gdm_course.nets import precise


@contextmanager
def frozen(player: nn.Module) -> Iterator[None]:
    """Let no gradient reach a player's weights; it still passes through to the input."""
    weights = [(p, p.requires_grad) for p in player.parameters()]
    player.requires_grad_(False)
    try:
        yield
    finally:
        for p, learns in weights:
            p.requires_grad_(learns)


def slope_squared(logits: Tensor, x: Tensor) -> Tensor:
    """Return |dD/dx|^2 of every row, summed over all that is not the batch: (B,).

    Args:
        logits: D(x), (B,), computed from x row by row.
        x: (B, *D), which requires a gradient.

    Returns:
        The squares (B,), differentiable once more, so that they may be part of a loss.
    """
    (slope,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    return slope.flatten(1).square().sum(1)


def judged(
    critic: Callable[[Tensor], Tensor], x: Tensor, gamma: float
) -> tuple[Tensor, Tensor | float]:
    """Return the logits of points, and gamma / 2 times their mean squared slope.

    Args:
        critic: (B, *D) -> (B,).
        x: data or fakes (B, *D); who made them learns nothing here.
        gamma: weight of the penalty; 0 leaves it out, with its cost.

    Returns:
        Logits (B,), and the penalty ().
    """
    x = x.detach().requires_grad_(gamma > 0)
    logits = precise(critic(x))
    return logits, gamma / 2 * slope_squared(logits, x).mean() if gamma else 0.0


def packed(x: Tensor, m: int) -> Tensor:
    """Put every point beside the m - 1 that follow it: (B, C, *) -> (B, m C, *).

    After the last row comes the first; of fewer than m rows some stand there twice.
    """
    return torch.cat([x.roll(-k, 0) for k in range(m)], 1) if m > 1 else x


class Players(nn.Module):
    """Two networks and the noise between them: all of a GAN but its losses.

    Args:
        shape: of one point, (D,) or (C, H, W).
        Z: dimension of the noise z ~ N(0, I).
        generator: (B, Z) -> (B, *shape).
        discriminator: (B, pack * first, *rest of the shape) -> (B,) logits.
        r1, r2: weights gamma of E |dD/dx|^2 / 2 on data and on fakes, in D's loss.
        pack: how many points the discriminator sees at once.
    """

    def __init__(
        self, shape: Sequence[int], Z: int, generator: nn.Module, discriminator: nn.Module,
        *, r1: float = 0.0, r2: float = 0.0, pack: int = 1,
    ):  # fmt: skip
        super().__init__()
        validate.at_least(1, shape=[*shape], Z=Z, pack=pack)
        self.shape, self.Z, self.pack = tuple(shape), Z, pack
        self.r1, self.r2 = weight(r1, "r1"), weight(r2, "r2")
        self.generator, self.discriminator = generator, discriminator

    def fake(self, n: int) -> Tensor:
        """Draw n points that the generator can learn from: (n, *D)."""
        like = next(self.generator.parameters())
        return precise(self.generator(like.new_empty(n, self.Z).normal_()))

    def sample(self, n: int) -> Tensor:
        """Draw n points (n, *D): noise, and one pass through the generator."""
        with torch.no_grad(), evaluating(self):
            return self.fake(validate.count(n))

    def discriminate(self, x: Tensor) -> Tensor:
        """Return the logits of points, positive for "data": (B, *D) -> (B,)."""
        x = validate.points(x, self.shape, self)
        return precise(self.discriminator(packed(x, self.pack)))

    def constrain(self) -> None:
        """Do what a variant has to do after each step of its D: here nothing."""


def weight(gamma: float, name: str) -> float:
    """Return the weight of a penalty, or raise ValueError if it is no number from 0 on."""
    if not 0 <= gamma < math.inf:
        raise ValueError(f"{name} is {gamma}: expected the weight of a penalty, 0 or more")
    return gamma
