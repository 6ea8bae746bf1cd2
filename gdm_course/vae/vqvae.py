"""VQ-VAE: a picture becomes a small grid of codes, and codes become a picture again.

Numbered equations are those of the lecture vae/vqvae.

References:
    van den Oord, Vinyals, Kavukcuoglu (2017). Neural discrete representation learning.
        arXiv:1711.00937.
    Razavi, van den Oord, Vinyals (2019). Generating diverse high-fidelity images with
        VQ-VAE-2. arXiv:1906.00446.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.distributions import Independent

from gdm_course import validate
from gdm_course.nets import ResidualConv
from gdm_course.vae.decoders import BernoulliPixels, shown
from gdm_course.vae.quantise import Quantised, VectorQuantiser


def grid_encoder(C: int, D: int, features: int, blocks: int, halvings: int) -> nn.Module:
    """Build a network from images to a grid of vectors, halving the sides each time.

    Returns:
        A module (B, C, H, W) -> (B, D, H / 2^halvings, W / 2^halvings).
    """
    layers: list[nn.Module] = [nn.Conv2d(C, features, 3, padding=1)]
    for _ in range(halvings):
        layers += [nn.SiLU(), nn.Conv2d(features, features, 4, stride=2, padding=1)]
        layers += [ResidualConv(features) for _ in range(blocks)]
    return nn.Sequential(*layers, nn.SiLU(), nn.Conv2d(features, D, 1))


def grid_decoder(C: int, D: int, features: int, blocks: int, halvings: int) -> nn.Module:
    """Build the way back: (B, D, h, w) -> (B, C, h * 2^halvings, w * 2^halvings)."""
    layers: list[nn.Module] = [nn.Conv2d(D, features, 3, padding=1)]
    for _ in range(halvings):
        layers += [ResidualConv(features) for _ in range(blocks)]
        up = nn.ConvTranspose2d(features, features, 4, stride=2, padding=1)
        layers += [nn.SiLU(), up]
    return nn.Sequential(*layers, nn.SiLU(), nn.Conv2d(features, C, 3, padding=1))


def grid_of(shape: Sequence[int], halvings: int) -> tuple[int, int]:
    """Return the height and width (h, w) of the grid of codes, or say what does not fit."""
    _, H, W = shape
    if H % 2**halvings or W % 2**halvings:
        raise ValueError(
            f"images of shape {tuple(shape)} cannot be halved {halvings} times: H and W "
            f"have to be multiples of {2**halvings}; pad them, or give fewer halvings"
        )
    return H >> halvings, W >> halvings


def look_up(codes: Tensor, model: nn.Module) -> Tensor:
    """Return the vectors of a grid of codes that fits the model: (B, h, w, D)."""
    return model.quantiser.lookup(validate.shaped(codes, model.grid, "codes", least=0))


class CodedAutoencoder(nn.Module):
    """x -> codes -> p(x | codes): all that a VQ-VAE does, for any networks and codes."""

    def __init__(self, encoder, quantiser, decoder, observation):
        super().__init__()
        self.shape, self.grid = ("C", "H", "W"), ("h", "w")  # any: a subclass knows
        self.encoder, self.quantiser, self.decoder = encoder, quantiser, decoder
        self.observation = observation  # what the decoder's numbers mean

    def quantise(self, x: Tensor) -> Quantised:
        """Return vectors (B, h, w, D), codes (B, h, w) and the penalty (B, h, w)."""
        return self.quantiser(self.encoder(shown(x, self)).movedim(1, -1))

    def encode(self, x: Tensor) -> Tensor:
        """Return the codes c(x): (B, C, H, W) -> (B, h, w)."""
        return self.quantise(x)[1]

    def read(self, q: Tensor) -> Independent:
        """Return p(x | q) of vectors (B, h, w, D): event shape (C, H, W)."""
        numbers = self.decoder(q.movedim(-1, 1)).to(q.dtype)  # float32, if a GPU used less
        parts = numbers.unflatten(1, (self.observation.outputs, -1)).unbind(1)
        return Independent(self.observation(*parts), 3, False)

    def decode(self, codes: Tensor) -> Independent:
        """Return p(x | codes) of codes (B, h, w): event shape (C, H, W)."""
        return self.read(look_up(codes, self))

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return log p(x | c(x)) (B,), the codes (B, h, w) and the penalty (B,)."""
        q, codes, penalty = self.quantise(x)
        return self.read(q).log_prob(x.to(q.dtype)), codes, penalty.flatten(1).sum(1)

    def loss(self, x: Tensor) -> Tensor:
        """Return the mean of -log p(x | c(x)) plus the commitment, in nats: (5)."""
        log_p, _, penalty = self.parts(x)
        return (penalty - log_p).mean()

    def reconstruct(self, x: Tensor) -> Tensor:
        """Return the mean of p(x | c(x)): (B, C, H, W) -> (B, C, H, W)."""
        return self.decode(self.encode(x)).mean


class VQVAE(CodedAutoencoder):
    """Vector quantised autoencoder of images, with convolutions each way.

    Args:
        shape: (C, H, W); H and W multiples of 2^halvings.
        quantiser: the codes; a `VectorQuantiser` of 64 codes of 16 numbers if None.
        features, blocks: channels, and residual blocks at every size.
        halvings: how often the sides are halved on the way to the grid (h, w) of codes.
        observation: p(x | codes), from vae/decoders; bits if None.

    Raises:
        ValueError: the height or the width cannot be halved so often.
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        quantiser: nn.Module | None = None,
        features: int = 64,
        blocks: int = 1,
        halvings: int = 2,
        observation: nn.Module | None = None,
    ):
        validate.at_least(1, shape=shape, features=features)
        validate.at_least(0, blocks=blocks, halvings=halvings)
        grid = grid_of(shape, halvings)
        quantiser = quantiser or VectorQuantiser(64, 16)
        observation = observation or BernoulliPixels()
        sizes = quantiser.D, features, blocks, halvings
        encoder = grid_encoder(shape[0], *sizes)
        decoder = grid_decoder(observation.outputs * shape[0], *sizes)
        super().__init__(encoder, quantiser, decoder, observation)
        self.shape, self.grid = tuple(shape), grid
