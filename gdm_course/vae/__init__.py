"""Variational autoencoders: a latent variable, a bound on the evidence, two networks."""

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from gdm_course.examples import Example


def fit_plane(x: Tensor, steps: int, seed: int = 0) -> nn.Module:
    """Fit this family's model of the plane to points x (N, 2), for the gallery."""
    from gdm_course.chance import own_chance
    from gdm_course.training import forever, shifted, train
    from gdm_course.vae.decoders import GaussianPixels
    from gdm_course.vae.vae import VAE

    steps *= 2  # they are cheap; and at a lower rate, one latent number may stay silent
    rate = lambda step: 1e-2 * (1 - step / steps)  # noqa: E731
    with own_chance(shifted(seed)):
        model = VAE(2, latent=2, hidden=(128, 128), observation=GaussianPixels(0.5))
        for _ in train(model, forever(x, 256), steps, rate):
            pass
    return model.eval()


PARTS = {
    "ChainedBernoulli": "a distribution of bits, what AutoregressivePixels makes of it",
    "DiscretisedLogistic": "a distribution of codes, what LogisticPixels makes of it",
    "Mixture": "a frozen record of three tensors for EM, no module",
}
SMALL = {"latent": 2, "hidden": (6,)}


def models() -> dict[str, Example]:
    """Return a small one of every model, for the sweep of tests and the taxonomy."""
    from gdm_course.vae.beta_vae import BetaVAE, ConvBetaVAE
    from gdm_course.vae.conv import ConvVAE
    from gdm_course.vae.info_vae import InfoVAE
    from gdm_course.vae.vae import StandardNormal

    small, shape, image = SMALL, (1, 4, 4), {"latent": 2, "features": 4}
    return {
        "StandardNormal": Example(partial(StandardNormal, 2), (2,)),
        **observations(),
        "BetaVAE": Example(partial(BetaVAE, 4, **small), (4,), K=2),
        "InfoVAE": Example(partial(InfoVAE, 4, **small), (4,), K=2),
        "ConvVAE": Example(partial(ConvVAE, shape, **image), shape, K=2),
        "ConvBetaVAE": Example(partial(ConvBetaVAE, shape, **image), shape, K=2),
        **bases(),
        **other_losses(),
        **of_codes(),
    }


def observations() -> dict[str, Example]:
    """Return a VAE for every kind of data."""
    from gdm_course.vae import decoders
    from gdm_course.vae.vae import VAE

    def seeing(observe: Callable, *sizes: int) -> Callable[[], nn.Module]:
        return lambda: VAE(4, observation=observe(*sizes), **SMALL)

    return {
        "VAE": Example(partial(VAE, 4, **SMALL), (4,), K=2),
        "VAE of real numbers": Example(seeing(decoders.GaussianPixels), (4,)),
        "VAE of grey values": Example(seeing(decoders.LogisticPixels, 9), (4,), K=9),
        "VAE of chained bits": Example(seeing(decoders.AutoregressivePixels, 4), (4,), K=2),
    }


def bases() -> dict[str, Example]:
    """Return the classes that take any networks."""
    from gdm_course.nets import mlp
    from gdm_course.vae import vae, vqvae
    from gdm_course.vae.decoders import BernoulliPixels
    from gdm_course.vae.quantise import VectorQuantiser

    def bare(kind: type) -> nn.Module:
        decoder = nn.Sequential(mlp((2, 4)), nn.Unflatten(-1, (1, 4)))
        return kind((4,), mlp((4, 4)), decoder, BernoulliPixels(), vae.StandardNormal(2))

    def coded() -> nn.Module:
        codes, sizes = VectorQuantiser(5, 2), (4, 0, 1)
        ends = vqvae.grid_encoder(1, 2, *sizes), vqvae.grid_decoder(1, 2, *sizes)
        return vqvae.CodedAutoencoder(ends[0], codes, ends[1], BernoulliPixels())

    return {
        "EncoderDecoder": Example(partial(bare, vae.EncoderDecoder), (4,), K=2),
        "LatentModel": Example(partial(bare, vae.LatentModel), (4,), K=2),
        "CodedAutoencoder": Example(coded, (1, 4, 4), K=2, any_length=True),
    }


def other_losses() -> dict[str, Example]:
    """Return what trains another model in its own way."""
    from gdm_course.vae import objectives
    from gdm_course.vae.beta_vae import BetaTC
    from gdm_course.vae.vae import VAE

    def around(train: Callable, **options) -> Example:
        return Example(lambda: train(VAE(4, **SMALL), **options), (4,), K=2)

    return {
        "BetaTC": around(BetaTC, N=10),
        "FreeBits": around(objectives.FreeBits),
        "ImportanceWeighted": around(objectives.ImportanceWeighted),
        "WarmUp": around(objectives.WarmUp),
    }


def of_codes() -> dict[str, Example]:
    """Return the autoencoders of codes, and the priors over codes."""
    from gdm_course.autoregressive.gpt import GPT
    from gdm_course.autoregressive.pixelcnn import PixelCNN
    from gdm_course.vae import coded, fsq, vqvae
    from gdm_course.vae.quantise import VectorQuantiser

    shape, grid, K = (1, 4, 4), (2, 2), 5
    scalars = partial(fsq.FiniteScalarQuantiser, (3, 3))

    def made(codes: Callable, *sizes: int) -> nn.Module:
        return vqvae.VQVAE(shape, quantiser=codes(*sizes), features=4, halvings=1)

    def arranged() -> nn.Module:
        return coded.Arranged(GPT(K, 4, layers=1, heads=2, width=8), (4,), grid)

    book = partial(made, VectorQuantiser, K, 3)
    digits = partial(PixelCNN, (2, 2, 2), 3, features=4, layers=1)
    return {
        "VQVAE": Example(book, shape, K=2),
        "VQVAE of finite scalars": Example(partial(made, scalars), shape, K=2),
        "UniformCodes": Example(partial(coded.UniformCodes, grid, K), grid, K=K),
        "Arranged": Example(arranged, grid, K=K),
        "Spelt": Example(lambda: coded.Spelt(digits(), scalars()), grid, K=9),
        "CodedModel": Example(lambda: coded.CodedModel(book(), arranged()), shape, K=2),
    }
