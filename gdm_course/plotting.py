"""The course's figures: one look, and one short function for each kind of picture.

Every function draws into `ax` (a new one if None) and returns it, so figures compose:

    from gdm_course import plotting as plot

    plot.style()                                            # once per notebook
    truth, model = plot.panels("truth", "model")            # two axes side by side
    plot.density(toy.log_prob, toy.bounds, ax=truth)
    plot.density(rnade.log_prob, toy.bounds, ax=model)
    plot.scatter(rnade.sample(500), ax=model, color=plot.ORANGE)
    plot.curves({"training": losses, "validation": valid}, ylabel="nats")
"""

import math
from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from gdm_course.figure_style import (  # noqa: F401
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    YELLOW,
    drawable,
    highest,
    log_ink,
    style,
    to_numpy,
)
from gdm_course.training import budget

Interval = tuple[float, float]


def panels(
    *titles: str, columns: int = 4, width: float = 3.2, height: float = 3.0
) -> list[Axes]:
    """Make one figure with an axes per title, `columns` in a row; sizes in inches."""
    columns = min(columns, len(titles))
    rows = math.ceil(len(titles) / columns)
    _, grid = plt.subplots(
        rows, columns, figsize=(width * columns, height * rows), squeeze=False
    )
    axes = list(grid.flat)
    for ax in axes[len(titles) :]:
        ax.remove()
    for ax, title in zip(axes, titles):
        ax.set_title(title, loc="left")
    return axes[: len(titles)]


def mesh(bounds: tuple[Interval, Interval], n: int) -> Tensor:
    """Return the centres of n x n cells of a rectangle, (n * n, 2); x varies fastest."""
    at = (torch.arange(n) + 0.5) / n
    x, y = (lo + (hi - lo) * at for lo, hi in bounds)
    return torch.cartesian_prod(y, x).flip(1)


def plane(bounds: tuple[Interval, Interval], ax: Axes) -> Axes:
    """Frame a rectangle of the plane with equal scales and without ticks."""
    ax.set(xlim=bounds[0], ylim=bounds[1], aspect="equal", xticks=[], yticks=[])
    ax.spines[:].set_visible(True)
    ax.spines[:].set_color("#CCCCCC")
    return ax


def scatter(
    x: Tensor,
    ax: Axes | None = None,
    bounds: tuple[Interval, Interval] | None = None,
    color: str = BLUE,
    label: str | None = None,
    size: float = 4.0,
) -> Axes:
    """Draw points of the plane, (N, 2); `bounds` fixes the frame."""
    ax = ax or panels("")[0]
    x = drawable(to_numpy(x), ax)
    alpha = float(np.clip(30 / max(len(x), 1) ** 0.5, 0.15, 0.8))  # many points: paler ones
    ax.scatter(*x.T, s=size, color=color, alpha=alpha, linewidths=0, label=label)
    ax.set_aspect("equal")
    return plane(bounds, ax) if bounds else ax


@torch.no_grad()
def density(
    log_prob: Callable[[Tensor], Tensor],
    bounds: tuple[Interval, Interval],
    ax: Axes | None = None,
    n: int = 150,
    vmax: float | None = None,
    log: bool = False,
    floor: float = 1e-4,
) -> Axes:
    """Draw a density of the plane as ink: exp(log_prob) on n x n cells.

    With `log`, ink is logarithmic, and a bar beside the picture says from where: so a cloud
    can be seen beside a needle a thousand times as dense.

    Args:
        log_prob: (B, 2) -> (B,) in nats.
        bounds: the rectangle ((x_lo, x_hi), (y_lo, y_hi)).
        ax: where to draw.
        n: cells along a side; a smoke run draws 40 at most.
        vmax: density (per unit of area) of the darkest ink: give panels that are to be
            compared the same one; None takes the largest value on the grid.
        log: whether equal steps of ink are equal factors.
        floor: with `log`, what is below this fraction of the darkest ink is white.
    """
    ax = ax or panels("")[0]
    n = budget(n, min(n, 40))
    p = drawable(to_numpy(log_prob(mesh(bounds, n)).exp()), ax).reshape(n, n)
    extent = (*bounds[0], *bounds[1])
    vmax = highest(np.asarray([vmax])) if vmax is not None else highest(p)
    if log:
        return plane(bounds, log_ink(p, extent, vmax, floor, ax))
    ax.imshow(p, origin="lower", extent=extent, vmin=0, vmax=vmax, interpolation="bilinear")
    return plane(bounds, ax)


@torch.no_grad()
def density_1d(
    log_prob: Callable[[Tensor], Tensor],
    bounds: Interval,
    ax: Axes | None = None,
    color: str | None = None,
    label: str | None = None,
    fill: bool = True,
    n: int = 400,
) -> Axes:
    """Draw a density of the line as a curve: exp(log_prob) at n points, (n,) -> (n,)."""
    ax = ax or panels("")[0]
    x = torch.linspace(*bounds, n)
    p = drawable(to_numpy(log_prob(x).exp()), ax)
    (line,) = ax.plot(to_numpy(x), p, color=color, label=label)
    if fill:
        ax.fill_between(to_numpy(x), p, color=line.get_color(), alpha=0.15, linewidth=0)
    top = highest(np.concatenate([drawn.get_ydata() for drawn in ax.lines]))
    ax.set(xlim=bounds, ylim=(0, 1.05 * top), xlabel="x", ylabel="density")
    return ax


def curves(
    series: Mapping[str, Tensor | Sequence[float]],
    ax: Axes | None = None,
    x: Tensor | Sequence[float] | None = None,
    xlabel: str = "step",
    ylabel: str = "loss (nats)",
) -> Axes:
    """Draw named curves over common abscissae (1, 2, ... if None), with a legend."""
    ax = ax or panels("", width=5)[0]
    for name, values in series.items():
        values = drawable(to_numpy(values), ax)
        ax.plot(
            np.arange(1, len(values) + 1) if x is None else to_numpy(x), values, label=name
        )
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.grid(axis="y", color="#EEEEEE")
    if len(series) > 1:
        ax.legend()
    return ax


def vector_field(
    field: Callable[[Tensor], Tensor],
    bounds: tuple[Interval, Interval],
    ax: Axes | None = None,
    n: int = 20,
    color: str = BLACK,
) -> Axes:
    """Draw arrows of a field (B, 2) -> (B, 2), such as a score, on an n x n grid.

    Directions are exact; lengths are shrunk to |v|^(1/2), so that the small stay visible.
    """
    ax = ax or panels("")[0]
    at = mesh(bounds, n)
    v = field(at).detach()
    v = drawable(to_numpy(v / v.norm(dim=1, keepdim=True).clamp_min(1e-12).sqrt()), ax)
    whole = np.isfinite(v).all(1)
    arrows = to_numpy(at)[whole], v[whole]
    if whole.any():
        ax.quiver(*arrows[0].T, *arrows[1].T, color=color, alpha=0.7, width=0.004)
    return plane(bounds, ax)


def image_grid(
    x: Tensor, ax: Axes | None = None, columns: int | None = None, vmax: float | None = None
) -> Axes:
    """Draw images (N, H, W) or (N, C, H, W), C = 1 or 3, as one tile picture.

    Integers are scaled by 255 and floats by 1, unless `vmax` says what is white.
    """
    x = x[:, None] if x.ndim == 3 else x
    columns = columns or math.ceil(len(x) ** 0.5)
    ax = (
        ax
        or panels(
            "", width=min(0.8 * columns, 9), height=0.8 * math.ceil(len(x) / columns)
        )[0]
    )
    top = vmax or (1.0 if x.is_floating_point() or x.dtype == torch.bool else 255.0)
    x = np.nan_to_num(drawable(to_numpy(x), ax) / top, nan=0.5)
    N, C, H, W = x.shape
    tiles = np.ones((math.ceil(N / columns) * columns, C, H + 1, W + 1), dtype=x.dtype)
    tiles[:N] = 0.5  # a grey line between images: white digits must not grow together
    tiles[:N, :, :H, :W] = x.clip(0, 1)
    rows = tiles.reshape(-1, columns, C, H + 1, W + 1).transpose(0, 3, 1, 4, 2)
    whole = rows.reshape(-1, columns * (W + 1), C)[:-1, :-1]
    ax.imshow(whole.squeeze(-1) if C == 1 else whole, cmap="gray", vmin=0, vmax=1)
    ax.set_axis_off()
    return ax
