"""The two players for images: convolutions that double the picture, and that halve it.

Pictures are real numbers in [-1, 1]. The loss is the relativistic one with R1 and R2; there
is no normalisation layer, unless it is asked for to see what it does.

References:
    Radford, Metz, Chintala (2016). Unsupervised representation learning with deep
        convolutional generative adversarial networks. arXiv:1511.06434.
    Huang, Gokaslan, Kuleshov, Tompkin (2024). The GAN is dead; long live the GAN! A modern
        GAN baseline. arXiv:2501.05441. Residual blocks that begin as nothing.
"""

import math
from collections.abc import Sequence

from torch import nn

from gdm_course import validate
from gdm_course.gan.gan import RelativisticGAN
from gdm_course.gan.players import Players
from gdm_course.nets import ResidualConv


def doubling(
    shape: Sequence[int], Z: int, *, width=32, halvings=2, blocks=0, hidden=0, norm=False
) -> nn.Sequential:
    """Build a generator: a small picture from z, doubled `halvings` times.

    Args:
        shape: of the picture, (C, H, W).
        Z: numbers that it reads.
        width: channels at half of the full size, twice as many at each smaller one.
        halvings: how often the picture is doubled.
        blocks: residual blocks at every size.
        hidden: features of a layer between z and the smallest picture; 0: no such layer.
        norm: whether to normalise over the batch at every size.

    Returns:
        A module (B, Z) -> (B, C, H, W), with values in (-1, 1).
    """
    small = halved(shape, width, halvings, blocks)
    layers = [*dense(Z, hidden, math.prod(small)), nn.Unflatten(1, small)]
    for k in reversed(range(halvings)):
        F, out = width * 2**k, width * 2 ** (k - 1) if k else shape[0]
        layers += [nn.BatchNorm2d(F)] if norm else []
        layers += [*(ResidualConv(F) for _ in range(blocks)), nn.SiLU()]
        layers += [nn.ConvTranspose2d(F, out, 4, stride=2, padding=1)]
    return nn.Sequential(*layers, nn.Tanh())


def halving(
    shape: Sequence[int], outputs: int, *, width=32, halvings=2, blocks=0, hidden=0
) -> nn.Sequential:
    """Build a discriminator: the generator's way back, to so many numbers per picture.

    Without `hidden` each is a sum over places: parts are judged, and hardly the whole.

    Returns:
        A module (B, C, H, W) -> (B, outputs).
    """
    small, layers = halved(shape, width, halvings, blocks), []
    for k in range(halvings):
        wide = width * 2 ** (k - 1) if k else shape[0]
        layers += [nn.Conv2d(wide, width * 2**k, 4, stride=2, padding=1)]
        layers += [ResidualConv(width * 2**k) for _ in range(blocks)]
        layers += [nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Flatten(), *dense(math.prod(small), hidden, outputs))


def dense(i: int, hidden: int, o: int) -> nn.Sequential:
    """Return a linear layer from i to o features; with hidden ones between them, two."""
    validate.at_least(0, hidden=hidden)
    first = [nn.Linear(i, hidden), nn.SiLU()] if hidden else []
    return nn.Sequential(*first, nn.Linear(hidden or i, o))


def halved(
    shape: Sequence[int], width: int, halvings: int, blocks: int
) -> tuple[int, int, int]:
    """Return the shape of the smallest picture, or raise ValueError if there is none."""
    validate.at_least(1, shape=[*shape], width=width, halvings=halvings)
    validate.at_least(0, blocks=blocks)
    if len(shape) != 3 or any(size % 2**halvings for size in shape[1:]):
        raise ValueError(
            f"images of shape {tuple(shape)} cannot be halved {halvings} times: expected "
            f"(C, H, W) with H and W multiples of {2**halvings}; pad them, or halve less"
        )
    _, H, W = shape
    return width * 2 ** (halvings - 1), H // 2**halvings, W // 2**halvings


class DCGAN(RelativisticGAN):
    """Two convolutional players for images (B, C, H, W) in [-1, 1].

    Args:
        shape: (C, H, W); H and W multiples of 2^halvings.
        Z: dimension of the noise.
        r1, r2: weights of the penalties on data and on fakes, see `Players`.
        norm: whether the generator has batch normalisation.
        size: width, halvings, blocks and hidden of both players, see `doubling`.

    Raises:
        ValueError: the height or the width cannot be halved so often.
    """

    def __init__(
        self, shape: Sequence[int], *, Z=64, r1=1.0, r2=1.0, norm: bool = False, **size: int
    ):
        validate.at_least(1, Z=Z)
        generator = doubling(shape, Z, norm=norm, **size)
        critic = nn.Sequential(halving(shape, 1, **size), nn.Flatten(0))
        Players.__init__(self, shape, Z, generator, critic, r1=r1, r2=r2)
