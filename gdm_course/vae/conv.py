"""The same model with convolutions: `ConvVAE((C, H, W))`."""

from collections.abc import Sequence

from torch import nn

from gdm_course import validate
from gdm_course.nets import ResidualConv
from gdm_course.vae.decoders import BernoulliPixels
from gdm_course.vae.vae import LatentModel, StandardNormal


def conv_encoder(shape: Sequence[int], latent: int, features: int, blocks: int):
    """Build a network from images to 2 K numbers, halving the picture twice.

    Returns:
        A module (B, C, H, W) -> (B, 2 latent).
    """
    (C, H, W), F = shape, features
    layers: list[nn.Module] = [nn.Conv2d(C, F, 3, padding=1)]
    layers += [nn.SiLU(), nn.Conv2d(F, 2 * F, 4, stride=2, padding=1)]
    layers += [ResidualConv(2 * F) for _ in range(blocks)]
    layers += [nn.SiLU(), nn.Conv2d(2 * F, 2 * F, 4, stride=2, padding=1)]
    layers += [ResidualConv(2 * F) for _ in range(blocks)]
    size = 2 * F * (H // 4) * (W // 4)
    return nn.Sequential(*layers, nn.SiLU(), nn.Flatten(), nn.Linear(size, 2 * latent))


def conv_decoder(
    shape: Sequence[int], latent: int, features: int, blocks: int, outputs: int
):
    """Build a network from z to images, doubling the picture twice.

    Returns:
        A module (B, latent) -> (B, outputs, C, H, W).
    """
    (C, H, W), F = shape, features
    small = (2 * F, H // 4, W // 4)
    layers: list[nn.Module] = [nn.Linear(latent, 2 * F * (H // 4) * (W // 4))]
    layers += [nn.Unflatten(-1, small), *(ResidualConv(2 * F) for _ in range(blocks))]
    layers += [nn.SiLU(), nn.ConvTranspose2d(2 * F, 2 * F, 4, stride=2, padding=1)]
    layers += [ResidualConv(2 * F) for _ in range(blocks)]
    layers += [nn.SiLU(), nn.ConvTranspose2d(2 * F, F, 4, stride=2, padding=1)]
    layers += [nn.SiLU(), nn.Conv2d(F, outputs * C, 3, padding=1)]
    return nn.Sequential(*layers, nn.Unflatten(1, (outputs, C)))


class ConvVAE(LatentModel):
    """Variational autoencoder of images (B, C, H, W) with convolutions each way.

    Args:
        shape: (C, H, W); H and W multiples of 4.
        latent: number K of dimensions of z.
        features: channels of the first layer; the others have twice as many.
        blocks: residual blocks at every size.
        observation: p(x | z); bits if None.
        prior: p(z); standard normal if None.

    Raises:
        ValueError: the height or the width is no multiple of 4.
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        latent: int = 32,
        features: int = 32,
        blocks: int = 1,
        observation: nn.Module | None = None,
        prior: nn.Module | None = None,
    ):
        validate.at_least(1, shape=shape, latent=latent, features=features)
        validate.at_least(0, blocks=blocks)
        if len(shape) != 3 or shape[1] % 4 or shape[2] % 4:
            raise ValueError(
                f"images of shape {tuple(shape)} cannot be halved twice: expected "
                "(C, H, W) with H and W multiples of 4; pad them first"
            )
        observation = observation or BernoulliPixels()
        encoder = conv_encoder(shape, latent, features, blocks)
        decoder = conv_decoder(shape, latent, features, blocks, observation.outputs)
        prior = prior or StandardNormal(latent)
        super().__init__(shape, encoder, decoder, observation, prior)
        self.latent = latent
