"""Palettes that a recipe can build, their data, and what their draws are worth."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from gdm_course.diffusion import damage
from gdm_course.diffusion.decoders import LevelDecoder
from gdm_course.diffusion.palette import Palette, PixelNet, restore
from gdm_course.diffusion.unet import UNet
from gdm_course.evaluation.likelihood import Estimate, device_of, estimate
from gdm_course.evaluation.restoration import calibration_ratio
from gdm_course.learning import evaluating
from gdm_course.scale.data import Splits

WAYS = {way.__name__: way for way in (damage.inpaint_box, damage.uncrop_frame)}
WAYS["to_grey"] = damage.to_grey


def damaged(ways: Sequence[str]) -> partial:
    """Return what damages a picture in one of several ways, by their names."""
    return partial(damage.one_of, ways=tuple(WAYS[way] for way in ways))


class PixelPalette(Palette):
    """A Palette of small pictures of codes, by a perceptron.

    Args:
        shape: (C, H, W); `levels`: number of values of a pixel.
        ways: names of what damages a picture: inpaint_box, uncrop_frame, to_grey.
        net: more about the network, see `PixelNet`.
    """

    def __init__(
        self,
        shape: Sequence[int],
        levels: int,
        *,
        ways: Sequence[str] = ("inpaint_box",),
        **net,
    ):
        codes = LevelDecoder(levels)
        net = PixelNet(shape, **net)
        super().__init__(net, shape, degrade=damaged(ways), decoder=codes)


class UNetPalette(Palette):
    """A Palette of pictures of codes, by a U-Net.

    Args:
        shape, levels, ways: as of `PixelPalette`.
        net: more about the network, see `UNet`.
    """

    def __init__(
        self,
        shape: Sequence[int],
        levels: int,
        *,
        ways: Sequence[str] = ("inpaint_box",),
        **net,
    ):
        net = UNet(shape[0], C_condition=shape[0] + 1, **net)
        codes = LevelDecoder(levels)
        super().__init__(net, shape, degrade=damaged(ways), decoder=codes)


def coloured(name: str, copies: int = 4, seed: int = 0) -> Splits:
    """Colour pictures by the law of `data.colours`: uint8 codes (N, 3, H, W).

    Args:
        name: of grey images with labels.
        copies: of the training images, each with coins of its own; seed: of all coins.
    """
    from gdm_course.data import colours, images

    data, g = images.load(name), torch.Generator().manual_seed(seed)
    draw = lambda x, y: colours.coloured(x, y, g)  # noqa: E731
    train = torch.cat([draw(data.x_train, data.y_train) for _ in range(copies)])
    valid, test = draw(data.x_valid, data.y_valid), draw(data.x_test, data.y_test)
    return Splits(train, valid, test, f"{data.source}, coloured by gdm_course.data.colours")


@torch.no_grad()
def restored(model: Palette, x: Tensor, K: int) -> tuple[Tensor, Tensor, Tensor]:
    """Damage pictures and restore them K times: draws (K, N, ...), truth, missing.

    Of the first 1,000 pictures: each costs 25 evaluations of the network a draw.
    """
    x0 = model.embed(x[:1000].to(device_of(model)))
    seen, known = model.degrade(x0)
    draws = torch.stack([restore(model, seen, known) for _ in range(K)])
    return draws, x0, (known == 0).to(x0)


def calibration(model: Palette, x: Tensor) -> Estimate:
    """Return the calibration ratio of 8 draws: 1.78 is right, 1 is always the same draw."""
    return calibration_ratio(*restored(model, x, 8))


def mean_error(model: Palette, x: Tensor) -> Estimate:
    """Return the mean squared error of the mean of 8 draws, per missing number."""
    draws, x0, missing = restored(model, x, 8)
    error = (draws.mean(0) - x0).square() * missing
    share = missing.expand_as(x0).mean()
    return estimate(error.flatten(1).mean(1) / share)


@torch.no_grad()
def denoising_error(model: Palette, x: Tensor, times: int = 20) -> Estimate:
    """Return the loss in evaluation mode, averaged over draws of damage and noise."""
    x = x[:1000].to(device_of(model))
    with evaluating(model):
        return estimate(torch.stack([model.loss(x) for _ in range(times)]))


def wrong_colours(model: Palette, x: Tensor) -> Estimate:
    """Return the share of grey digits that get a colour which their class never has."""
    from gdm_course.data.colours import colour_of

    draws, x0, _ = restored(model, x, 1)
    green, drawn = (colour_of((part + 1) / 2) for part in (x0, draws[0]))
    right = torch.where(green == 1, drawn == 1, (drawn == 0) | (drawn == 2))
    return estimate((~right).float())


def uneven_coin(model: Palette, x: Tensor) -> Estimate:
    """Return how far the share of red is from 1/2, where it is red or blue by a coin."""
    from gdm_course.data.colours import colour_of

    draws, x0, _ = restored(model, x, 8)
    even = colour_of((x0 + 1) / 2) != 1
    drawn = torch.stack([colour_of((part[even] + 1) / 2) for part in draws])
    coins = drawn[drawn != 3] == 0
    value, error = estimate(coins.float())
    return Estimate(abs(value - 0.5), error)
