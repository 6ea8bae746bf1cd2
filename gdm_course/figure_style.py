"""The look of the course's figures: colours, fonts, how to put them on and off, gaps, ink.

The colours are Okabe and Ito's, which colour-blind readers can tell apart.
"""

from collections.abc import Sequence
from contextlib import ExitStack

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from torch import Tensor

BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, YELLOW, BLACK, GREY = "#CC79A7", "#56B4E9", "#F0E442", "#000000", "#8C8C8C"
COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, BLACK)
DENSITY = "Blues"  # white where nothing is: the density reads as ink

HOUSE = {
    "axes.prop_cycle": matplotlib.cycler(color=COLOURS),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "axes.axisbelow": True,
    "axes.grid": False,
    "figure.constrained_layout.use": True,
    "figure.dpi": 110,
    "figure.facecolor": "white",
    "font.size": 10,
    "image.cmap": DENSITY,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "savefig.facecolor": "white",
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
}


class Restore(ExitStack):
    """Gives the old look back when a `with` ends; a notebook prints nothing for it."""

    def _ipython_display_(self) -> None:
        pass


def style() -> Restore:
    """Put the course's look on all figures from now on; as `with style():` only inside."""
    before = {key: matplotlib.rcParams[key] for key in HOUSE}
    matplotlib.rcParams.update(HOUSE)
    restore = Restore()
    restore.callback(matplotlib.rcParams.update, before)
    return restore


def to_numpy(x: Tensor | np.ndarray | Sequence[float]) -> np.ndarray:
    """Detach a tensor, of any device, into an array; lists become arrays too."""
    return x.detach().float().cpu().numpy() if isinstance(x, Tensor) else np.asarray(x)


def drawable(values: np.ndarray, ax: Axes) -> np.ndarray:
    """Return values as floats, NaN for all that are not finite; the axes says how many.

    Matplotlib leaves NaN out, but an infinite value or a scale made of NaN stops it.
    """
    values = np.asarray(values, dtype=float)
    finite = np.isfinite(values)
    if not finite.all():
        said = sum("not finite" in text.get_text() for text in ax.texts)
        text = f"{(~finite).sum():,} of {finite.size:,} values are not finite"
        place = {"x": 0.02, "y": 0.02 + 0.07 * said, "transform": ax.transAxes}
        ax.text(s=text, color=RED, fontsize=8, **place)
    return np.where(finite, values, np.nan)


def highest(values: np.ndarray, otherwise: float = 1.0) -> float:
    """Return the largest finite value, another one if there is none."""
    return max(values[np.isfinite(values)], default=otherwise)


def log_ink(
    p: np.ndarray, extent: Sequence[float], top: float, floor: float, ax: Axes
) -> Axes:
    """Draw densities per unit of area as logarithmic ink, with a bar that states its ends.

    Args:
        p: values (rows, columns) from below upwards; cells are not blurred into each other.
        extent: the rectangle (left, right, below, above).
        top: value of the darkest ink.
        floor: what is below `floor * top` is white.
        ax: where to draw.

    Raises:
        ValueError: `floor` is no fraction.
    """
    if not 0 < floor < 1:
        raise ValueError(f"floor={floor}: expected a fraction of the darkest ink, as 1e-4")
    top = top if top > 0 else 1.0  # nothing to see
    norm, ink = LogNorm(floor * top, top), matplotlib.colormaps[DENSITY]
    white = ink.with_extremes(under="white", bad="white")
    image = ax.imshow(p, origin="lower", extent=extent, norm=norm, cmap=white)
    image.set_interpolation("nearest")
    said = f"density per unit of area\n(log scale, white below {floor * top:.1e})"
    ax.figure.colorbar(image, ax=ax, extend="min", label=said)
    return ax
