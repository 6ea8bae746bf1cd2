"""The look of the course's figures: colours, fonts, how to put them on and off, and gaps.

The colours are Okabe and Ito's, which colour-blind readers can tell apart.
"""

from contextlib import ExitStack

import matplotlib
import numpy as np
from matplotlib.axes import Axes

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
