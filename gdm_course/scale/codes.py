"""Whole models of pictures over codes, for recipes: an autoencoder and a prior in one.

The prior comes from the autoregressive family. No family owns such a composition, so it is
made here, from numbers that a recipe can hold.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gdm_course import validate
from gdm_course.autoregressive.gated_pixelcnn import GatedPixelCNN
from gdm_course.autoregressive.gpt import GPT
from gdm_course.evaluation.likelihood import (
    Estimate,
    bits_per_dim,
    device_of,
    estimate,
    portions,
)
from gdm_course.learning import evaluating
from gdm_course.nets import mlp
from gdm_course.vae.coded import Arranged, CodedModel, Spelt
from gdm_course.vae.decoders import BernoulliPixels, LogisticPixels
from gdm_course.vae.fsq import FiniteScalarQuantiser
from gdm_course.vae.quantise import VectorQuantiser
from gdm_course.vae.vqvae import VQVAE, CodedAutoencoder


def pixels(levels: int) -> nn.Module:
    """Return what a picture of codes 0..levels - 1 is: bits, or grey values."""
    return BernoulliPixels() if levels == 2 else LogisticPixels(levels)


class SentenceModel(CodedModel):
    """A VQ-VAE whose codes, row by row, are the tokens of a GPT.

    Args:
        shape: (C, H, W); `levels`: number of values of a pixel.
        K, D: codes of a codebook, and numbers per vector.
        features, blocks, halvings: of the autoencoder.
        layers, heads, width, dropout: of the GPT.
    """

    def __init__(
        self,
        shape: Sequence[int],
        levels: int,
        *,
        K: int = 64,
        D: int = 16,
        features: int = 64,
        blocks: int = 1,
        halvings: int = 2,
        layers: int = 4,
        heads: int = 4,
        width: int = 128,
        dropout: float = 0.0,
    ):
        sizes = {"features": features, "blocks": blocks, "halvings": halvings}
        codes = VectorQuantiser(K, D)
        vqvae = VQVAE(shape, quantiser=codes, observation=pixels(levels), **sizes)
        T = vqvae.grid[0] * vqvae.grid[1]
        gpt = GPT(K, T, layers=layers, heads=heads, width=width, dropout=dropout)
        super().__init__(vqvae, Arranged(gpt, (T,), vqvae.grid))


def dense(
    shape: Sequence[int], codes: nn.Module, words: int, hidden: Sequence[int], levels: int
) -> CodedAutoencoder:
    """Make an autoencoder of perceptrons, each of whose words sees the whole picture."""
    validate.at_least(1, shape=shape, words=words, hidden=hidden)
    (C, H, W), seen = shape, pixels(levels)
    inside = words * codes.D
    encoder = mlp((C * H * W, *hidden, inside))
    decoder = mlp((inside, *reversed(hidden), seen.outputs * C * H * W))
    model = CodedAutoencoder(
        nn.Sequential(nn.Flatten(), encoder, nn.Unflatten(1, (codes.D, 1, words))),
        codes,
        nn.Sequential(nn.Flatten(), decoder, nn.Unflatten(1, (seen.outputs * C, H, W))),
        seen,
    )
    model.shape, model.grid = (C, H, W), (1, words)
    return model


class DenseSentenceModel(CodedModel):
    """A few words for a whole picture, by perceptrons, and a GPT for the sentences.

    Args:
        shape: (C, H, W); `levels`: number of values of a pixel.
        words: in a sentence; K, D: codes of a codebook, and numbers per vector.
        hidden: units of the encoder's hidden layers; the decoder has them in reverse.
        layers, heads, width, dropout: of the GPT.
    """

    def __init__(
        self,
        shape: Sequence[int],
        levels: int,
        *,
        words: int = 16,
        K: int = 64,
        D: int = 16,
        hidden: Sequence[int] = (500,),
        layers: int = 2,
        heads: int = 4,
        width: int = 64,
        dropout: float = 0.0,
    ):
        codes = dense(shape, VectorQuantiser(K, D), words, hidden, levels)
        gpt = GPT(K, words, layers=layers, heads=heads, width=width, dropout=dropout)
        super().__init__(codes, Arranged(gpt, (words,), (1, words)))
        self.shape = tuple(shape)


class DigitModel(CodedModel):
    """Finite scalar quantisation whose digits are the colours of a gated PixelCNN.

    Args:
        shape: (C, H, W); `levels`: number of values of a pixel.
        digits, values: a code has so many digits, each with so many values.
        features, blocks, halvings: of the autoencoder.
        channels, dilations, dropout: of the PixelCNN.
    """

    def __init__(
        self,
        shape: Sequence[int],
        levels: int,
        *,
        digits: int = 4,
        values: int = 5,
        features: int = 64,
        blocks: int = 1,
        halvings: int = 2,
        channels: int = 64,
        dilations: Sequence[int] = (1, 2, 1, 2),
        dropout: float = 0.0,
    ):
        sizes = {"features": features, "blocks": blocks, "halvings": halvings}
        codes = FiniteScalarQuantiser((values,) * validate.count(digits, "digits", 1))
        vqvae = VQVAE(shape, quantiser=codes, observation=pixels(levels), **sizes)
        options = {"features": channels, "dilations": dilations, "dropout": dropout}
        pixelcnn = GatedPixelCNN((digits, *vqvae.grid), values, **options)
        super().__init__(vqvae, Spelt(pixelcnn, codes))


@torch.no_grad()
def terms(model: CodedModel, x: Tensor, batch: int = 250) -> Tensor:
    """Return distortion and rate of every picture in nats, in evaluation mode: (2, N)."""
    device = device_of(model)
    with evaluating(model):
        parts = [torch.stack(model.terms(*rows)) for rows in portions(x, batch, device)]
    return -torch.cat(parts, dim=1).double().cpu()


def bound_nats(model: CodedModel, x: Tensor) -> Estimate:
    """Return the mean of -elbo, distortion plus rate, in nats per picture."""
    return estimate(terms(model, x).sum(0))


def bound_bits(model: CodedModel, x: Tensor) -> Estimate:
    """Return the mean of -elbo, distortion plus rate, in bits per dimension."""
    return estimate(bits_per_dim(terms(model, x).sum(0), x[0].numel()))


def rate_bits(model: CodedModel, x: Tensor) -> Estimate:
    """Return the rate alone, -log p(c(x)), in bits per dimension of the picture."""
    return estimate(bits_per_dim(terms(model, x)[1], x[0].numel()))


def rate_nats(model: CodedModel, x: Tensor) -> Estimate:
    """Return the rate alone, -log p(c(x)), in nats per picture."""
    return estimate(terms(model, x)[1])
