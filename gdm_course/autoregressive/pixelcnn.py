"""PixelCNN: images as raster sequences, one convolution shared by all conditionals.

References:
    van den Oord, Kalchbrenner, Kavukcuoglu (2016). Pixel recurrent neural networks.
        arXiv:1601.06759.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution

from gdm_course import validate
from gdm_course.autoregressive.pixelcnn_sampling import PixelRows, fill_raster
from gdm_course.nets import precise


def channel_groups(n: int, C: int) -> Tensor:
    """Deal n channels out to the C colours in ordered shares: (n,), values 0..C-1."""
    return torch.arange(n) * C // n


def colour_mask(inputs: Tensor, outputs: Tensor, own: bool) -> Tensor:
    """Say at one pixel which colours see which, (out, in): earlier ones, or also their own.

    Args:
        inputs, outputs: the colour that each channel belongs to, (in,) and (out,).
        own: mask B, which sees its own colour; else mask A, which does not.
    """
    return outputs[:, None] >= inputs if own else outputs[:, None] > inputs


def raster_mask(inputs: Tensor, outputs: Tensor, size: int, own: bool) -> Tensor:
    """Return the mask (out, in, size, size) of a convolution that only looks back: (2)."""
    middle = size // 2
    mask = torch.zeros(len(outputs), len(inputs), size, size, dtype=torch.bool)
    mask[:, :, :middle] = True  # the rows above
    mask[:, :, middle, :middle] = True  # the same row, to the left
    mask[:, :, middle, middle] = colour_mask(inputs, outputs, own)
    return mask


class MaskedConv(nn.Conv2d):
    """A square convolution under the mask A (own=False) or B (own=True) of (2)."""

    def __init__(self, inputs: int, outputs: int, size: int, C: int, *, own: bool = True):
        super().__init__(inputs, outputs, size, padding=size // 2)
        groups = channel_groups(inputs, C), channel_groups(outputs, C)
        self.register_buffer("mask", raster_mask(*groups, size, own), persistent=False)

    def masked_weight(self) -> Tensor:
        """Return the weight with everything forbidden set to 0."""
        return self.weight * self.mask

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, looking back only: (B, in, H, W) -> (B, out, H, W)."""
        return F.conv2d(x, self.masked_weight(), self.bias, padding=self.padding)


class ResidualBlock(nn.Module):
    """h + (1x1 after 3x3 after 1x1)(h), half as wide inside, every convolution masked."""

    def __init__(self, features: int, C: int):
        super().__init__()
        inside = max(features // 2, C)
        self.squeeze = MaskedConv(features, inside, 1, C)
        self.look = MaskedConv(inside, inside, 3, C)
        self.widen = MaskedConv(inside, features, 1, C)

    def forward(self, h: Tensor) -> Tensor:
        """Add what the neighbours say: (B, F, H, W) -> (B, F, H, W)."""
        return h + self.widen(F.relu(self.look(F.relu(self.squeeze(F.relu(h))))))


def output_head(features: int, outputs: int, C: int) -> nn.Sequential:
    """Two masked 1x1 convolutions: from features to `outputs` numbers per colour."""
    hidden = MaskedConv(features, features, 1, C)
    return nn.Sequential(
        nn.ReLU(), hidden, nn.ReLU(), MaskedConv(features, C * outputs, 1, C)
    )


def by_colour(parameters: Tensor, C: int) -> Tensor:
    """Sort (B, C P, H, W) into (B, C, H, W, P), in float32 even where a GPU used less."""
    P = parameters.shape[1] // C
    return precise(parameters).unflatten(1, (C, P)).movedim(2, -1)


def of_images(shape: Sequence[int], K: int) -> tuple[tuple[int, ...], int]:
    """Return shape (C, H, W) and number of values of images, or say what does not fit."""
    validate.at_least(1, shape=shape, axes_of_shape=len(shape) - 2)
    validate.at_least(2, K=K)
    return tuple(shape), K


def first_rows(model: nn.Module, n: int, given: Tensor | None) -> Tensor:
    """Return what is given of n images, if it fits: codes (n, C, R, W), at first none."""
    C, H, W = model.shape
    if given is None:
        return torch.zeros(n, C, 0, W)
    given = validate.codes(given, model.K, (C, "R", W), name="given", least=0)
    if len(given) != n or given.shape[2] > H:
        raise ValueError(
            f"given has shape {tuple(given.shape)}: expected the first rows of n = {n} "
            f"images, ({n}, {C}, R, {W}) with R up to {H}"
        )
    return given


class RasterDensity(nn.Module):
    """All of a PixelCNN but its network: codes 0..K-1, images (B, C, H, W), chain rule (1).

    A subclass maps scaled images and labels to parameters (B, C, H, W, P) in `forward`,
    and does the same pixel by pixel in the object that its `rows(n, y)` returns.
    """

    def __init__(self, shape: Sequence[int], K: int):
        super().__init__()
        self.shape, self.K = of_images(shape, K)

    @property
    def outputs(self) -> int:
        """How many numbers P the network gives per conditional."""
        return self.K

    def distribution(self, parameters: Tensor) -> Distribution:
        """Read (..., K) numbers as the logits of a softmax over the K values."""
        return Categorical(logits=parameters, validate_args=False)

    def conditionals(self, x: Tensor, y: Tensor | None = None) -> Distribution:
        """Return p(x_d | x_<d, y) for all d in one pass: batch shape (B, C, H, W)."""
        return self.distribution(self(scaled(x, self), y))

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return log p(x) or log p(x | y) in nats: (B, C, H, W) -> (B,)."""
        return self.conditionals(x, y).log_prob(x).flatten(1).sum(1)

    def loss(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return the mean negative log-likelihood in nats per image."""
        return -self.log_prob(x, y).mean()

    @torch.no_grad()
    def sample(self, n: int, y: Tensor | None = None, given: Tensor | None = None):
        """Draw n images (n, C, H, W), with labels y (n,) if the model has classes.

        `given` are codes (n, C, R, W) of the first R rows, which are kept: in-painting.
        """
        given = first_rows(self, validate.count(n), given)
        return fill_raster(self, self.rows(n, y), given)


def scaled(x: Tensor, model: RasterDensity) -> Tensor:
    """Map codes 0..K-1 to [-1, 1] as the network wants them, after a look at them."""
    x, weight = validate.codes(x, model.K, model.shape), next(model.parameters())
    return x.to(weight.device, weight.dtype) * (2 / (model.K - 1)) - 1


class PixelCNN(RasterDensity):
    """Masked convolutions: one A, then residual blocks of B. It has a blind spot.

    Args:
        shape: (C, H, W) of an image.
        K: number of values of a pixel.
        features: channels inside; layers: residual blocks; size: of the first convolution.
        peek: a bug on purpose: the first mask is B, so that a pixel sees itself.

    References:
        van den Oord, Kalchbrenner, Kavukcuoglu (2016). arXiv:1601.06759.
    """

    def __init__(self, shape, K=256, *, features=64, layers=5, size=7, peek=False):
        super().__init__(shape, K)
        validate.at_least(1, features=features, size=size)
        validate.at_least(1, layers=layers)
        C = self.shape[0]
        self.first = MaskedConv(C, features, size, C, own=peek)
        self.blocks = nn.ModuleList(ResidualBlock(features, C) for _ in range(layers))
        self.head = output_head(features, self.outputs, C)

    def forward(self, x: Tensor, y: None = None) -> Tensor:
        """Return the parameters of all conditionals: (B, C, H, W) -> (B, C, H, W, P)."""
        validate.labels(y, 0, len(x))  # it takes none
        h = self.first(validate.points(x, self.shape, self))
        for block in self.blocks:
            h = block(h)
        return by_colour(self.head(h), self.shape[0])

    def rows(self, n: int, y: None = None) -> PixelRows:
        """Return the cache that computes `forward` one pixel at a time."""
        validate.labels(y, 0, n)
        return PixelRows(self, n)
