"""Ink for a laid out drawing, in the course's colours, on a white card.

Every kind of box has a form of its own; colours, which repeat it, are Okabe and Ito's.
"""

import itertools

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, Polygon, Rectangle

from gdm_course.figure_style import BLACK, BLUE, GREEN, ORANGE, PURPLE, RED
from gdm_course.schematics.layout import (
    MARGIN,
    PICTURE,
    SHEET,
    SMALL,
    TEXT,
    Layout,
    framed,
    laid_out,
    measured,
)
from gdm_course.schematics.parts import Arrow, Box, Frame, Sheet

INK, PALE = "#444444", "#555555"
INSIDE = {"tensor": "#E8F2F9", "network": "#FDF1D8", "term": "#E0F4ED", "chance": "#FBEEF5"}
EDGE = {"tensor": BLUE, "network": ORANGE, "term": GREEN, "chance": PURPLE}
HEAD = 7.0  # length of an arrow's head in points


def paint(drawing: Sheet) -> Figure:
    """Draw everything into a new figure, one data unit a point."""
    layout = laid_out(drawing)
    figure = Figure(facecolor="white", dpi=110, layout="none")
    FigureCanvasAgg(figure)
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set_axis_off()
    for frame in drawing.frames:
        draw_frame(ax, layout, frame)
    for arrow in drawing.arrows:
        draw_arrow(ax, layout, arrow)
    for box in drawing.boxes:
        draw_box(ax, layout, box)
    fit(ax, drawing, layout)
    return figure


def fit(ax: Axes, drawing: Sheet, layout: Layout) -> None:
    """Make the page as large as what is on it, and write the title above."""
    left, top, right, bottom = page(ax, layout)
    w, h = measured(drawing.title, TEXT + 1, "bold")
    ax.text(left, top - 10, drawing.title, size=TEXT + 1, weight="bold", va="bottom")
    left, right = left - MARGIN, max(right, left + w) + MARGIN
    top, bottom = top - 10 - h - MARGIN, bottom + MARGIN
    ax.set(xlim=(left, right), ylim=(bottom, top))
    ax.figure.set_size_inches((right - left) / 72, (bottom - top) / 72)


def page(ax: Axes, layout: Layout) -> tuple[float, float, float, float]:
    """Return the left, top, right and bottom of all that is drawn."""
    extents = [layout.extent(box) for box in layout.sizes]
    for line in ax.lines:
        x, y = line.get_data()
        extents.append((min(x), min(y), max(x), max(y)))
    for text in ax.texts:
        (x, y), (w, h) = text.get_position(), measured(text.get_text(), text.get_size())
        across = {"left": 0, "center": w / 2, "right": w}[text.get_ha()]
        up = {"bottom": h, "center": h / 2, "top": 0}[text.get_va()]
        extents.append((x - across, y - up, x - across + w, y - up + h))
    corners = np.array(extents)
    return (*corners[:, :2].min(0), *corners[:, 2:].max(0))


def draw_frame(ax: Axes, layout: Layout, frame: Frame) -> None:
    """Draw a dashed line around boxes, and its name above the upper right corner."""
    left, top, right, bottom = framed(layout, frame)
    x, y = [left, right, right, left, left], [top, top, bottom, bottom, top]
    ax.plot(x, y, color=PALE, lw=0.9, ls=(0, (5, 3)), gid="frame")
    style = {"size": SMALL, "color": PALE, "ha": "right", "va": "bottom"}
    ax.text(right - 3, top - 3, frame.text, **style)


def draw_box(ax: Axes, layout: Layout, box: Box) -> None:
    """Draw a box in the form of its kind, and write what it says."""
    left, top, right, bottom = layout.extent(box)
    if box.picture is not None:
        draw_picture(ax, box, (left + right) / 2, top)
    elif box.kind != "text":
        sheets = 2 if box.stack else 0  # the front one is lower left
        right, top = right - sheets * SHEET, top + sheets * SHEET
        for k in range(sheets, -1, -1):
            at = left + k * SHEET, top - k * SHEET
            ax.add_patch(form(box, *at, right - left, bottom - top))
    note_h = measured(box.note, SMALL)[1]
    middle, y = (left + right) / 2, (top + bottom) / 2
    if box.picture is not None:
        y = bottom - 4 - measured(box.text, TEXT)[1] / 2 - (note_h + 2 if box.note else 0)
    elif box.note:
        y -= (note_h + 2) / 2
    style = {"ha": "center", "va": "center", "linespacing": 1.15, "zorder": 4}
    ax.text(middle, y, box.text, size=TEXT, color=BLACK, **style)
    if box.note:
        y += measured(box.text, TEXT)[1] / 2 + 2 + note_h / 2
        ax.text(middle, y, box.note, size=SMALL, color=PALE, **style)


def form(box: Box, x: float, y: float, w: float, h: float):
    """Return the outline of a box: each kind has its own."""
    colour = {"fc": INSIDE.get(box.kind, "white"), "ec": EDGE.get(box.kind, INK)}
    look = {**colour, "lw": 1.4, "zorder": 3}
    if box.kind == "unit":
        return Circle((x + w / 2, y + h / 2), w / 2, **look)
    if box.kind == "network":
        return Rectangle((x, y), w, h, **{**look, "lw": 2.0})
    if box.kind == "term":
        cut = min(h / 3, 7)
        across, down = [x, x + cut, x + w - cut, x + w], [y, y + cut, y + h - cut, y + h]
        (a, b, c, d), (e, f, g, i) = across, down
        corners = [(b, e), (c, e), (d, f), (d, g), (c, i), (b, i), (a, g), (a, f)]
        return Polygon(corners, closed=True, **look)
    round_ = h / 2 if box.kind == "operation" else 6
    if box.kind == "chance":
        look["linestyle"] = (0, (2, 1.5))
    return FancyBboxPatch((x, y), w, h, f"round,pad=0,rounding_size={round_}", **look)


def draw_picture(ax: Axes, box: Box, middle: float, top: float) -> None:
    """Draw a small picture, grey or of three colours, dark and light as its values are."""
    rows, columns = box.picture.shape[:2]
    half = PICTURE * columns / rows / 2
    extent = (middle - half, middle + half, top + PICTURE, top)
    ax.imshow(box.picture, cmap="gray", extent=extent, aspect="auto", zorder=3)
    frame = Rectangle((middle - half, top), 2 * half, PICTURE, fc="none", ec=BLUE, lw=1.4)
    frame.set_zorder(4)
    ax.add_patch(frame)


def draw_arrow(ax: Axes, layout: Layout, arrow: Arrow) -> None:
    """Draw the line, its head, and name and shape beside its longest part."""
    path = np.array(layout.path(arrow))
    if arrow.plain:
        ax.plot(*path.T, color="#777777", lw=0.8, zorder=1, gid="plain")
        return
    colour = RED if arrow.struck else PURPLE if arrow.dashed else INK
    step = path[-1] - path[-2]
    step = step / max(np.hypot(*step), 1e-9)
    tip, back = path[-1], path[-1] - HEAD * step
    across = np.array([-step[1], step[0]]) * HEAD * 0.42
    head = Polygon([tip, back + across, back - across], closed=True, fc=colour, ec="none")
    head.set_zorder(2)
    ax.add_patch(head)
    path[-1] = back + step
    style = {"ls": (0, (4, 2.5)) if arrow.dashed else "-", "solid_joinstyle": "round"}
    ax.plot(*path.T, color=colour, lw=1.3, zorder=2, gid="arrow", **style)
    write_label(ax, path, arrow)
    if arrow.struck:
        strike(ax, path, colour)


def part(path: np.ndarray, leg: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of one part of a path, the longest if none is said."""
    parts = [*itertools.pairwise(path)]
    lengths = np.hypot(*np.diff(path, axis=0).T)
    return parts[int(lengths.argmax()) if leg is None else leg]


def write_label(ax: Axes, path: np.ndarray, arrow: Arrow) -> None:
    """Write the name above a level line and its shape below, or both right of others."""
    first, last = part(path, arrow.leg)
    x, y = (first + last) / 2
    if abs(first[1] - last[1]) < 1:
        ax.text(x, y - 3, arrow.label, size=SMALL, ha="center", va="bottom", zorder=4)
        ax.text(x, y + 3, arrow.shape, size=SMALL, ha="center", va="top", zorder=4)
    else:
        both = " ".join(filter(None, [arrow.label, arrow.shape]))
        ax.text(x + 5, y, both, size=SMALL, ha="left", va="center", zorder=4)


def strike(ax: Axes, path: np.ndarray, colour: str) -> None:
    """Cross a line out in the middle of its longest part."""
    x, y = sum(part(path, None)) / 2
    for sign in (-1, 1):
        ax.plot([x - 6, x + 6], [y - 6 * sign, y + 6 * sign], color=colour, lw=2, zorder=4)
