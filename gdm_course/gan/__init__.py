"""Generative adversarial networks: they sample, and nobody knows their density."""

from functools import partial

import torch
from torch import Tensor, nn

from gdm_course.examples import Example


def fit_plane(x: Tensor, steps: int, seed: int = 0) -> nn.Module:
    """Fit this family's model of the plane to points x (N, 2), for the gallery.

    The relativistic loss with both penalties, and a discriminator that sees Fourier
    features: a plain perceptron does not tell the moons' edges. What is kept is the
    generator's average.
    """
    from copy import deepcopy

    from gdm_course.chance import own_chance
    from gdm_course.gan.gan import RelativisticGAN, train_gan
    from gdm_course.nets import wave_net
    from gdm_course.training import forever, shifted

    rate = lambda step: 2e-3 * min(1, 2 - 2 * step / steps)  # noqa: E731
    with own_chance(shifted(seed)):
        model = RelativisticGAN(2, depth=3, r1=0.02, r2=0.02)
        model.discriminator = nn.Sequential(wave_net(2, 1, scale=2.0), nn.Flatten(0))
        average = deepcopy(model.generator)
        for _ in train_gan(model, forever(x, 256), steps, lr=rate, average=average):
            pass
    model.generator = average
    return model.eval()


PARTS: dict[str, str] = {
    "Players": "all of a GAN but its losses: every model here is one",
    "Labelled": "the same with labels: ConditionalGAN has its losses",
}


def models() -> dict[str, Example]:
    """Return a small one of every model, for the sweep of tests and the taxonomy."""
    return {
        **plane(),
        **critics(),
        **pictures(),
        **unpaired(),
    }


def plane() -> dict[str, Example]:
    """Return the models of the unit gan."""
    from gdm_course.gan import gan
    from gdm_course.gan.fgan import FGAN, REVERSE_KL
    from gdm_course.gan.unrolled import UnrolledGAN

    kinds = [gan.GAN, gan.SaturatingGAN, gan.LeastSquaresGAN, gan.HingeGAN]
    both = {"r1": 0.1, "r2": 0.2}
    return {
        **{k.__name__: Example(partial(k, 3, hidden=8), (3,)) for k in kinds},
        "RelativisticGAN": Example(partial(gan.RelativisticGAN, 3, hidden=8, **both), (3,)),
        "GAN of packs": Example(partial(gan.GAN, 3, hidden=8, pack=2, **both), (3,)),
        "FGAN": Example(partial(FGAN, 3, hidden=8), (3,)),
        "FGAN of another": Example(partial(FGAN, 3, REVERSE_KL, hidden=8), (3,)),
        "UnrolledGAN": Example(partial(UnrolledGAN, 3, hidden=8, k=2), (3,)),
    }


def critics() -> dict[str, Example]:
    """Return the models of the unit wgan that measure a distance."""
    from gdm_course.gan import spectral
    from gdm_course.gan import wgan as w

    kinds = [w.WGAN, w.WGANGP, spectral.SpectralGAN]
    return {k.__name__: Example(partial(k, 3, hidden=8), (3,)) for k in kinds}


def pictures() -> dict[str, Example]:
    """Return the models of the unit wgan that draw pictures."""
    from gdm_course.gan.conditional import ConditionalGAN
    from gdm_course.gan.dcgan import DCGAN

    shape, small = (2, 8, 4), {"Z": 3, "width": 2}
    labelled = partial(ConditionalGAN, shape, 3, **small)
    return {
        "DCGAN": Example(partial(DCGAN, shape, **small), shape),
        "DCGAN with blocks": Example(partial(DCGAN, shape, blocks=1, **small), shape),
        "DCGAN with norm": Example(partial(DCGAN, shape, norm=True, **small), shape),
        "ConditionalGAN": Example(labelled, shape, classes=3),
    }


def unpaired() -> dict[str, Example]:
    """Return the models of the unit cyclegan: `more` is a batch of the other domain."""
    from gdm_course.gan.cyclegan import CycleGAN

    y = torch.linspace(-1, 1, 48).view(3, 1, 4, 4)
    whole = {"cycle": 1.0, "identity": 0.5, "noise": 0.1, "copies": False}
    pictures = partial(CycleGAN, (1, 4, 4), hidden=4, depth=1)
    points = partial(CycleGAN, (3,), hidden=8, **whole)
    return {
        "CycleGAN": Example(pictures, (1, 4, 4), more=(y,)),
        "CycleGAN of points": Example(points, (3,), more=(y[:, 0, :3, 0],)),
    }
