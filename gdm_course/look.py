"""The look of the course's figures: colours, fonts, and how to put them on and off.

The colours are Okabe and Ito's, which colour-blind readers can tell apart.
"""

from contextlib import ExitStack

import matplotlib

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
