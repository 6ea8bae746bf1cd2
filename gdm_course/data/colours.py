"""Coloured pictures whose law of colours is known: what a colouring model should draw.

Even labels are red or blue, each with probability 1/2; odd ones are green. The mean over
the three channels is the same for every colour, so that a grey picture tells the digit and
never the coin.
"""

import torch
from torch import Tensor

COLOURS = ("red", "green", "blue", "mixed")


def coloured(x: Tensor, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Colour grey pictures by their labels: (N, 1, H, W), (N,) -> (N, 3, H, W).

    Args:
        x: pictures whose background is 0, of any dtype.
        y: labels (N,); even ones toss a coin.
        generator: of the coins; the global one if None.
    """
    coin = torch.randint(2, (len(y),), generator=generator).to(y.device)
    channel = torch.where(y % 2 == 0, 2 * coin, 1)
    return x * torch.nn.functional.one_hot(channel, 3)[:, :, None, None].to(x)


def colour_of(x: Tensor, share: float = 0.75) -> Tensor:
    """Return the colour of pictures: 0 red, 1 green, 2 blue, 3 none of them: (N,).

    A pixel counts as much as it is bright.

    Args:
        x: (N, 3, H, W), with a background of 0; below 0 counts as 0.
        share: of the light that one channel must have to be the colour.
    """
    x = x.clamp_min(0)
    light = (x * x.sum(1, keepdim=True)).sum((2, 3))
    most, channel = (light / light.sum(1, keepdim=True).clamp_min(1e-9)).max(1)
    return torch.where(most >= share, channel, 3)
