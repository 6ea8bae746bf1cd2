"""Ways to damage a picture: holes, a lost frame, lost colours.

A damaged picture is a pair: `seen` (B, C, H, W), what is left to see, and `known`
(B, 1, H, W), 1 where a pixel of it is that of the clean picture itself, 0 where it is
missing. Grey pictures show something of every pixel, and know none.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Damaged = tuple[Tensor, Tensor]


def hide(x: Tensor, missing: Tensor) -> Damaged:
    """Return what is left of x (B, C, H, W) where pixels are missing (B, 1, H, W) bool."""
    known = (~missing).to(x)
    return x * known, known


def inpaint_box(x: Tensor) -> Damaged:
    """Hide a box: half of the rows or half of the columns, at a random place."""
    B, _, H, W = x.shape
    rows = torch.rand(B, 1, 1, 1, device=x.device) < 0.5
    place = torch.rand(B, 1, 1, 1, device=x.device)

    def band(n: int, view: tuple) -> Tensor:
        at, half = torch.arange(n, device=x.device).view(view), (n + 1) // 2
        first = (place * (n - half + 1)).floor()
        return (at >= first) & (at < first + half)

    return hide(x, torch.where(rows, band(H, (1, 1, H, 1)), band(W, (1, 1, 1, W))))


def uncrop_frame(x: Tensor) -> Damaged:
    """Leave the middle, half as high and half as wide: the frame around it is missing."""
    _, _, H, W = x.shape
    missing = torch.ones(len(x), 1, H, W, dtype=torch.bool, device=x.device)
    missing[:, :, H // 4 : H - H // 4, W // 4 : W - W // 4] = False
    return hide(x, missing)


def to_grey(x: Tensor) -> Damaged:
    """Show the mean of the channels in every channel, and know no pixel."""
    return x.mean(1, keepdim=True).expand_as(x), torch.zeros_like(x[:, :1])


def one_of(x: Tensor, ways: Sequence[Callable[[Tensor], Damaged]]) -> Damaged:
    """Damage every picture in one of several ways, at random: one network for all."""
    which = torch.randint(len(ways), (len(x), 1, 1, 1), device=x.device)
    seen, known = ways[0](x)
    for k, way in enumerate(ways[1:], 1):
        other, here = way(x), which == k
        seen, known = torch.where(here, other[0], seen), torch.where(here, other[1], known)
    return seen, known
