"""The two players for images: convolutions that double the picture, and that halve it.

Pictures are real numbers in [-1, 1]. The loss is the relativistic one with R1 and R2; there
is no normalisation layer, unless it is asked for to see what it does.

References:
    Radford, Metz, Chintala (2016). Unsupervised representation learning with deep
        convolutional generative adversarial networks. arXiv:1511.06434.
    Huang, Gokaslan, Kuleshov, Tompkin (2024). The GAN is dead; long live the GAN! A modern
        GAN baseline. arXiv:2501.05441. Residual blocks that begin as nothing.
"""

from collections.abc import Sequence

from torch import nn

from gdm_course import validate
from gdm_course.gan.gan import RelativisticGAN
from gdm_course.gan.players import Players
from gdm_course.nets import ResidualConv


def doubling(
    shape: Sequence[int], Z: int, width: int, halvings: int, blocks: int, norm: bool
) -> nn.Sequential:
    """Build a generator: a small picture from z, doubled `halvings` times.

    Channels halve as the picture doubles. Each size has `blocks` residual blocks, and with
    `norm` a batch normalisation. The last layer is tanh.

    Returns:
        A module (B, Z) -> (B, C, H, W).
    """
    (C, H, W), F = shape, width * 2 ** (halvings - 1)
    small = (F, H // 2**halvings, W // 2**halvings)
    layers: list[nn.Module] = [nn.Linear(Z, small[0] * small[1] * small[2])]
    layers += [nn.Unflatten(1, small)]
    for k in range(halvings):
        last, out = k == halvings - 1, C if k == halvings - 1 else F // 2
        layers += [nn.BatchNorm2d(F)] if norm else []
        layers += [*(ResidualConv(F) for _ in range(blocks)), nn.SiLU()]
        layers += [nn.ConvTranspose2d(F, out, 4, stride=2, padding=1)]
        F = F if last else F // 2
    return nn.Sequential(*layers, nn.Tanh())


def halving(
    shape: Sequence[int], outputs: int, width: int, halvings: int, blocks: int
) -> nn.Sequential:
    """Build a discriminator: the generator's way back, to so many numbers per picture.

    Returns:
        A module (B, C, H, W) -> (B, outputs).
    """
    (F, H, W), layers = shape, []
    for k in range(halvings):
        layers += [nn.Conv2d(F, width * 2**k, 4, stride=2, padding=1)]
        F = width * 2**k
        layers += [*(ResidualConv(F) for _ in range(blocks)), nn.LeakyReLU(0.2)]
    size = F * (H // 2**halvings) * (W // 2**halvings)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(size, outputs))


def check_shape(shape: Sequence[int], halvings: int) -> None:
    """Refuse what is no shape of an image that can be halved so often."""
    if len(shape) != 3 or any(size % 2**halvings for size in shape[1:]):
        raise ValueError(
            f"images of shape {tuple(shape)} cannot be halved {halvings} times: expected "
            f"(C, H, W) with H and W multiples of {2**halvings}; pad them, or halve less"
        )


class DCGAN(RelativisticGAN):
    """Two convolutional players for images (B, C, H, W) in [-1, 1].

    Args:
        shape: (C, H, W); H and W multiples of 2^halvings.
        Z: dimension of the noise.
        width: channels at the largest size.
        halvings: how often the discriminator halves the picture.
        blocks: residual blocks at every size, none by default.
        r1, r2: weights of the penalties on data and on fakes, see `Players`.
        norm: whether the generator has batch normalisation.

    Raises:
        ValueError: the height or the width cannot be halved so often.
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        Z: int = 64,
        width: int = 32,
        halvings: int = 2,
        blocks: int = 0,
        r1: float = 1.0,
        r2: float = 1.0,
        norm: bool = False,
    ):
        validate.at_least(1, shape=[*shape], Z=Z, width=width, halvings=halvings)
        validate.at_least(0, blocks=blocks)
        check_shape(shape, halvings)
        generator = doubling(shape, Z, width, halvings, blocks, norm)
        critic = nn.Sequential(halving(shape, 1, width, halvings, blocks), nn.Flatten(0))
        Players.__init__(self, shape, Z, generator, critic, r1=r1, r2=r2)
