"""One model of every family for 64 codes of 17 levels, small enough for seconds of a CPU.

Rates and sizes were tried in runs of six CPU seconds and judged on validation digits, a few
each. With more time, other sizes would win.
"""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn

from gdm_course.autoregressive.gated_pixelcnn import GatedPixelCNN
from gdm_course.challenges.contest import Contestant, Fall
from gdm_course.challenges.mixture import CodeMixture, em
from gdm_course.diffusion.ddim import ddim
from gdm_course.diffusion.unet import ImageDDPM
from gdm_course.energy.langevin import PersistentEnergyModel, run
from gdm_course.energy.network import FittedBowl
from gdm_course.flows.dequantisation import Dequantised
from gdm_course.flows.realnvp import RealNVP
from gdm_course.gan.dcgan import DCGAN
from gdm_course.gan.gan import train_gan
from gdm_course.training import forever, train
from gdm_course.vae.decoders import LogisticPixels
from gdm_course.vae.vae import VAE

D, LEVELS, SHAPE = 64, 17, (1, 8, 8)
ENDLESS = 10**9  # steps: the clock ends a training


def as_is(x: Tensor) -> Tensor:
    """Codes (B, 64) as they are, for models of vectors of codes."""
    return x


def picture(x: Tensor) -> Tensor:
    """Codes (B, 64) as pictures (B, 1, 8, 8)."""
    return x.unflatten(1, SHAPE)


def signed(x: Tensor) -> Tensor:
    """Codes as numbers from -1 to 1."""
    return x.float() / 8 - 1


def unsigned(x: Tensor) -> Tensor:
    """Numbers from -1 to 1 as codes (B, 64), not yet rounded."""
    return (x.flatten(1) + 1) * 8


def minimised(
    model: nn.Module, shown: Callable, lr: float, *, B: int = 64, clip: float | None = None
) -> Callable[[Tensor, Fall], Iterator]:
    """Return the loop of a model with one loss: Adam, whose rate falls."""

    def loop(x: Tensor, fall: Fall) -> Iterator:
        rate = lambda step: lr * fall(step)  # noqa: E731
        return train(model, forever(shown(x), B), ENDLESS, rate, clip=clip)

    return loop


def floor() -> Contestant:
    """Ten Gaussians by EM, which stops by itself: what a deep model has to beat."""
    model = CodeMixture(D, LEVELS, K=10)
    loop = lambda x, _fall: em(model, x, 30)  # noqa: E731
    return Contestant("mixture", model, loop, as_is, model.sample, as_is, draws=16)


def autoregressive() -> Contestant:
    """A gated PixelCNN: all conditionals in one pass, a pass for every pixel to draw."""
    model = GatedPixelCNN(
        SHAPE, LEVELS, features=32, dilations=(1, 2, 1), size=5, dropout=0.1
    )
    loop = minimised(model, picture, 1e-2, clip=1.0)
    ear = ((model, "distribution"),)
    return Contestant(
        "autoregressive",
        model,
        loop,
        picture,
        model.sample,
        lambda x: x.flatten(1),
        ear=ear,
    )


def flow() -> Contestant:
    """RealNVP of codes with uniform noise: the density is exact, of codes it is a bound."""
    model = Dequantised(RealNVP(D, layers=8, hidden=64), LEVELS)
    loop, net = minimised(model, as_is, 4e-3, clip=50.0), model.flow.layers[1].net
    ear = ((net, "forward"),)  # the first of eight couplings: one pass through all
    return Contestant("flow", model, loop, as_is, model.sample, as_is, 16, ear)


def vae() -> Contestant:
    """Sixteen latent numbers, and a discretised logistic for every pixel."""
    model = VAE(D, latent=16, hidden=(256,), observation=LogisticPixels(LEVELS))
    loop = minimised(model, as_is, 3e-3)
    ear = ((model.encoder, "forward"), (model.decoder, "forward"))
    return Contestant("vae", model, loop, as_is, model.sample, as_is, 64, ear)


def energy(x: Tensor) -> Contestant:
    """A deep energy around the Gaussian that is fitted to codes x (N, 64).

    It learns with persistent chains from data with noise of 0.15, which its samples keep.
    They are 100 steps of Langevin from that Gaussian.
    """
    noise, bowl = 0.15, FittedBowl(signed(x), noise=0.15)
    net = {"bowl": bowl, "waves": 0, "hidden": (128, 128)}
    model = PersistentEnergyModel(D, k=5, eps=(0.8 * noise) ** 2, **net)

    def loop(x: Tensor, fall: Fall) -> Iterator:
        noisy = (rows + noise * torch.randn_like(rows) for rows in forever(signed(x), 64))
        return train(model, noisy, ENDLESS, lambda step: 3e-3 * fall(step))

    draw = lambda n: run(model.energy, model.bowl.sample(n), model.eps, 100)  # noqa: E731
    ear = ((model.f, "forward"),)
    return Contestant("energy", model, loop, signed, draw, unsigned, ear=ear)


def gan() -> Contestant:
    """Two small convolutional players; the average of the generator draws."""
    model = DCGAN(SHAPE, Z=32, width=16, r1=0.1, r2=0.1)
    average = DCGAN(SHAPE, Z=32, width=16).generator
    average.load_state_dict(model.generator.state_dict())

    def loop(x: Tensor, fall: Fall) -> Iterator:
        rate, batches = lambda step: 3e-3 * fall(step), forever(signed(picture(x)), 32)
        return train_gan(model, batches, ENDLESS, lr=rate, average=average)

    def settle() -> None:
        model.generator.load_state_dict(average.state_dict())

    shown = lambda x: signed(picture(x))  # noqa: E731
    ear = ((model.generator, "forward"),)
    return Contestant(
        "gan", model, loop, shown, model.sample, unsigned, ear=ear, after=settle
    )


def diffusion() -> Contestant:
    """A U-Net and a chain of 200 steps; 25 steps of DDIM draw."""
    model = ImageDDPM(SHAPE, LEVELS, T=200, high=8.0, low=-8.0, width=16)
    loop, ear = minimised(model, picture, 5e-3, B=32, clip=1.0), ((model.net, "forward"),)
    draw = partial(ddim, model, steps=25)
    return Contestant(
        "diffusion", model, loop, picture, draw, lambda x: x.flatten(1), 20, ear
    )


def everybody(x: Tensor) -> list[Contestant]:
    """Build the floor and one model of each family, for codes like x (N, 64)."""
    first = [floor(), autoregressive(), flow(), vae()]
    return [*first, energy(x), gan(), diffusion()]
