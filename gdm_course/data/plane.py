"""The shapes of the toy densities: each function returns a law and its bounds.

Its docstring is the density's description.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from gdm_course.data.laws import Cells, Chain, Mixture

Bounds = tuple[tuple[float, float], tuple[float, float]]


def along(curve: Tensor, sigma: float | Tensor) -> Mixture:
    """Put equal round Gaussians of width `sigma` on the points (K, 2) of a curve."""
    K = len(curve)
    sigmas = torch.as_tensor(sigma, dtype=torch.float64).expand(K)
    return Mixture(curve, sigmas, torch.full((K,), 1 / K, dtype=torch.float64))


def polar(r: Tensor | float, angle: Tensor) -> Tensor:
    """Turn radius and angle (K,) into points (K, 2)."""
    return torch.stack([r * angle.cos(), r * angle.sin()], -1)


def steps(low: float, high: float, K: int) -> Tensor:
    """Return the K midpoints of equal parts of [low, high]."""
    return low + (torch.arange(K, dtype=torch.float64) + 0.5) * (high - low) / K


def square(half: float) -> Bounds:
    """Return the bounds of a square around the origin."""
    return ((-half, half), (-half, half))


def eight_gaussians() -> tuple[Mixture, Bounds]:
    """Eight round Gaussians (0.2 wide) on a circle of radius 2."""
    return along(polar(2.0, steps(0, 2 * math.pi, 8)), 0.2), square(2.9)


def grid() -> tuple[Mixture, Bounds]:
    """Twenty-five round Gaussians (0.1 wide) on a 5 x 5 grid with spacing 1."""
    line = torch.arange(-2.0, 3.0, dtype=torch.float64)
    return along(torch.cartesian_prod(line, line), 0.1), square(2.5)


def ring() -> tuple[Mixture, Bounds]:
    """A circle of radius 2, blurred by a Gaussian 0.15 wide."""
    return along(polar(2.0, steps(0, 2 * math.pi, 96)), 0.15), square(2.6)


def two_moons() -> tuple[Mixture, Bounds]:
    """scikit-learn's two half circles (`make_moons`), blurred by a Gaussian 0.05 wide."""
    upper = polar(1.0, steps(0, math.pi, 72))
    lower = torch.tensor([1.0, 0.5], dtype=torch.float64) - upper
    return along(torch.cat([upper, lower]), 0.05), ((-1.25, 2.25), (-0.75, 1.25))


def pinwheel() -> tuple[Mixture, Bounds]:
    """Five bent blades that widen from the middle to the rim."""
    r = steps(0.3, 2.4, 32)
    blades = [polar(r, 2 * math.pi * k / 5 + 0.6 * r) for k in range(5)]
    return along(torch.cat(blades), (0.04 + 0.06 * r).repeat(5)), square(2.9)


def spirals() -> tuple[Mixture, Bounds]:
    """Two interleaved spirals, evenly covered, blurred by a Gaussian 0.1 wide."""
    # the arc length of r = angle / pi grows like angle^2: equal steps of the square root
    angle = 3 * math.pi * steps(0.02, 1, 110).sqrt()
    arms = [polar(angle / math.pi, angle + turn) for turn in (0.0, math.pi)]
    return along(torch.cat(arms), 0.1), square(3.3)


def banana() -> tuple[Chain, Bounds]:
    """A Gaussian bent along a parabola: x2 = (x1^2 - 1) / 2 + 0.3 eps."""
    law = Chain(
        1.0, lambda a: (a.square() - 1) / 2, lambda a: torch.full_like(a, math.log(0.3))
    )
    return law, ((-4.2, 4.2), (-1.6, 8.2))


def funnel() -> tuple[Chain, Bounds]:
    """Neal's funnel lying down: the width of x2 is e^(x1 / 2), from needle to cloud."""
    return Chain(1.0, torch.zeros_like, lambda a: a / 2), ((-4.5, 4.5), (-12.0, 12.0))


def bitmap(rows: str, side: float, sigma: float) -> tuple[Cells, Bounds]:
    """Make a density from a picture: every `#` of the text is a filled square.

    Args:
        rows: lines of equal length, the top one first.
        side: of a square; the picture is centred on the origin.
        sigma: standard deviation of the blur.
    """
    lines = rows.split()
    height, width = len(lines), len(lines[0])
    filled = [
        (side * (j - (width - 1) / 2), side * ((height - 1) / 2 - i))
        for i, line in enumerate(lines)
        for j, mark in enumerate(line)
        if mark == "#"
    ]
    x, y = side * width / 2 + 4.5 * sigma, side * height / 2 + 4.5 * sigma
    return Cells(torch.tensor(filled, dtype=torch.float64), side, sigma), ((-x, x), (-y, y))


def checkerboard() -> tuple[Cells, Bounds]:
    """The eight dark squares of a 4 x 4 board, with edges blurred by 0.04."""
    return bitmap(".#.# #.#. .#.# #.#.", side=1.0, sigma=0.04)


def word() -> tuple[Cells, Bounds]:
    """The letters GDM, drawn in small squares with blurred edges."""
    rows = """
    .###..####..#...#
    #...#.#...#.##.##
    #.....#...#.#.#.#
    #.###.#...#.#.#.#
    #...#.#...#.#...#
    #...#.#...#.#...#
    .####.####..#...#
    """
    return bitmap(rows, side=0.25, sigma=0.05)


def face() -> tuple[Cells, Bounds]:
    """A smiling face, drawn in squares with blurred edges."""
    rows = """
    ...#####...
    ..#.....#..
    .#.......#.
    #..#...#..#
    #..#...#..#
    #.........#
    #.#.....#.#
    #..#...#..#
    .#..###..#.
    ..#.....#..
    ...#####...
    """
    return bitmap(rows, side=0.4, sigma=0.08)


MAKERS: dict[str, Callable[[], tuple[Mixture | Chain | Cells, Bounds]]] = {
    make.__name__: make
    for make in (
        eight_gaussians,
        ring,
        two_moons,
        pinwheel,
        spirals,
        grid,
        banana,
        checkerboard,
        funnel,
        word,
        face,
    )
}
