"""Pictures of one coloured shape whose factors are known: made on the spot, no download.

    x, factors = shapes.draw_some(1000)      # (1000, 3, 32, 32) in [0, 1], (1000, 6)
    shapes.draw(factors)                     # the same pictures again

The six factors are independent and every combination gives another picture, so whatever a
model learns about them can be measured. In the spirit of dSprites (Matthey, Higgins,
Hassabis, Lerchner, 2017), with a colour, and drawn here.
"""

import math

import torch
from torch import Tensor

SHAPES = ("square", "ellipse", "triangle")
FACTORS = {
    "shape": 3,
    "colour": 4,
    "scale": 4,
    "rotation": 8,
    "x": 8,
    "y": 8,
}  # values each
COLOURS = (
    torch.tensor(  # blue, orange, green and white: also told apart by the colour-blind
        [[0.34, 0.71, 0.91], [0.90, 0.62, 0.00], [0.00, 0.62, 0.45], [1.0, 1.0, 1.0]]
    )
)


def every() -> Tensor:
    """Return all combinations of factors, int64 (24576, 6); the last varies fastest."""
    return torch.cartesian_prod(*(torch.arange(n) for n in FACTORS.values()))


def levels(u: Tensor, v: Tensor) -> Tensor:
    """Return how far outside each shape a point is, in units of its size: (*B) -> (*B, 3).

    Negative inside. The shapes have no common symmetry, so that all are told apart at every
    rotation below 90 degrees.
    """
    square = torch.maximum(u.abs(), v.abs()) - 0.8
    ellipse = torch.hypot(u, 2 * v) - 1
    edges = [u * math.cos(a) + v * math.sin(a) for a in (-0.5, 1.5944, 3.6888)]
    triangle = torch.stack(edges).amax(0) - 0.55
    return torch.stack([square, ellipse, triangle], dim=-1)


def draw(factors: Tensor, size: int = 32) -> Tensor:
    """Draw pictures with smooth edges: factors int64 (N, 6) -> float32 (N, 3, size, size).

    Raises:
        ValueError: the factors have another shape, or lie out of range.
    """
    counts = torch.tensor([*FACTORS.values()])
    if factors.ndim != 2 or factors.shape[1] != len(counts):
        raise ValueError(f"expected factors (N, {len(counts)}), got {tuple(factors.shape)}")
    if (factors < 0).any() or (factors >= counts).any():
        raise ValueError(f"the factors are counted from 0; their numbers are {FACTORS}")
    shape, colour, *rest = factors.long().unbind(1)
    scale, turn, x, y = (f[:, None, None] for f in rest)
    radius = 0.26 + 0.07 * scale  # half a picture is 1
    angle = turn * (math.pi / 2 / FACTORS["rotation"])
    line = (torch.arange(size) + 0.5) * 2 / size - 1
    across, down = line - (x - 3.5) * 0.125, line[:, None] - (y - 3.5) * 0.125
    u = (across * angle.cos() + down * angle.sin()) / radius
    v = (down * angle.cos() - across * angle.sin()) / radius
    which = shape[:, None, None, None].expand(-1, size, size, 1)
    level = levels(u, v).gather(-1, which)[..., 0]  # (N, size, size)
    ink = (0.5 - level * radius * size / 2).clamp(0, 1)  # one pixel from outside to inside
    return COLOURS[colour][:, :, None, None] * ink[:, None]


def draw_some(n: int, size: int = 32, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Draw n pictures with factors drawn at random, independent and uniform.

    Args:
        n: how many pictures.
        size: of a picture's side, in pixels.
        seed: of the factors.

    Returns:
        Pictures float32 (n, 3, size, size) in [0, 1], and their factors int64 (n, 6).
    """
    g = torch.Generator().manual_seed(seed)
    factors = torch.stack(
        [torch.randint(count, (n,), generator=g) for count in FACTORS.values()], dim=1
    )
    return draw(factors, size), factors


def to_bits(x: Tensor) -> Tensor:
    """Turn pictures into zeros and ones in which all four colours still differ.

    A pixel is set in the bright channels of the shape's colour, if it is half ink or more.

    Args:
        x: (N, 3, H, W), as `draw` makes them.

    Returns:
        float32 (N, 3, H, W).
    """
    colour = x.amax((2, 3), keepdim=True)  # every shape has a pixel full of ink
    ink = (x / colour.amax(1, keepdim=True)).amax(1, keepdim=True)  # (N, 1, H, W)
    return ((ink >= 0.5) & (colour > 0.5)).float()
