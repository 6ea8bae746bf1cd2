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


def models() -> dict[str, Example]:
    """Return a small one of every model, for the sweep of tests and the taxonomy."""
    from gdm_course.vae import decoders
    from gdm_course.vae.beta_vae import BetaVAE, ConvBetaVAE
    from gdm_course.vae.conv import ConvVAE
    from gdm_course.vae.info_vae import InfoVAE
    from gdm_course.vae.vae import VAE, StandardNormal

    small, D, shape = {"latent": 2, "hidden": (6,)}, 4, (1, 4, 4)
    vae, image = partial(VAE, D, **small), {"latent": 2, "features": 4}
    grey = decoders.LogisticPixels(9)
    return {
        "StandardNormal": Example(partial(StandardNormal, 2), (2,)),
        "VAE": Example(vae, (D,), K=2),
        "VAE of real numbers": Example(
            lambda: vae(observation=decoders.GaussianPixels()), (D,)
        ),
        "VAE of grey values": Example(partial(vae, observation=grey), (D,), K=9),
        "VAE with a chain": Example(
            lambda: vae(observation=decoders.AutoregressivePixels(D)), (D,), K=2
        ),
        "BetaVAE": Example(partial(BetaVAE, D, **small), (D,), K=2),
        "InfoVAE": Example(partial(InfoVAE, D, **small), (D,), K=2),
        "ConvVAE": Example(partial(ConvVAE, shape, **image), shape, K=2),
        "ConvBetaVAE": Example(partial(ConvBetaVAE, shape, **image), shape, K=2),
        **other_losses(),
        **of_codes(),
    }


def other_losses() -> dict[str, Example]:
    """Return what trains another model in its own way, and the bases with any networks."""
    from gdm_course.nets import mlp
    from gdm_course.vae import objectives, vae, vqvae
    from gdm_course.vae.beta_vae import BetaTC
    from gdm_course.vae.decoders import BernoulliPixels
    from gdm_course.vae.quantise import VectorQuantiser

    def bare(kind: type) -> nn.Module:
        decoder = nn.Sequential(mlp((2, 4)), nn.Unflatten(-1, (1, 4)))
        return kind((4,), mlp((4, 4)), decoder, BernoulliPixels(), vae.StandardNormal(2))

    def any_networks() -> nn.Module:
        codes, sizes = VectorQuantiser(5, 2), (4, 0, 1)
        ends = vqvae.grid_encoder(1, 2, *sizes), vqvae.grid_decoder(1, 2, *sizes)
        return vqvae.CodedAutoencoder(ends[0], codes, ends[1], BernoulliPixels())

    def around(train: Callable, **options) -> Example:
        model = partial(vae.VAE, 4, latent=2, hidden=(6,))
        return Example(lambda: train(model(), **options), (4,), K=2)

    return {
        "EncoderDecoder": Example(partial(bare, vae.EncoderDecoder), (4,), K=2),
        "LatentModel": Example(partial(bare, vae.LatentModel), (4,), K=2),
        "CodedAutoencoder": Example(any_networks, (1, 4, 4), K=2, any_length=True),
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

    shape, grid, K, scalars = (1, 4, 4), (2, 2), 5, fsq.FiniteScalarQuantiser((3, 3))

    def book() -> nn.Module:
        words = VectorQuantiser(K, 3)
        return vqvae.VQVAE(shape, quantiser=words, features=4, halvings=1)

    def arranged() -> nn.Module:
        return coded.Arranged(GPT(K, 4, layers=1, heads=2, width=8), (4,), grid)

    finite = partial(vqvae.VQVAE, shape, quantiser=scalars, features=4, halvings=1)
    digits = partial(PixelCNN, (2, 2, 2), 3, features=4, layers=1)
    return {
        "VQVAE": Example(book, shape, K=2),
        "VQVAE of finite scalars": Example(finite, shape, K=2),
        "UniformCodes": Example(partial(coded.UniformCodes, grid, K), grid, K=K),
        "Arranged": Example(arranged, grid, K=K),
        "Spelt": Example(lambda: coded.Spelt(digits(), scalars), grid, K=9),
        "CodedModel": Example(lambda: coded.CodedModel(book(), arranged()), shape, K=2),
    }
