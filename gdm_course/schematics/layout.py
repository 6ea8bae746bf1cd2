"""Where everything goes: columns and rows as wide as their contents ask, in points."""

import itertools
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gdm_course.schematics.parts import Arrow, Box, Cell, Frame, Sheet

TEXT, SMALL = 10.0, 8.5  # sizes of type in points
PAD, GAP, MARGIN = 7.0, 20.0, 14.0  # in a box, between boxes, around everything
UNIT = 20.0  # diameter of a unit
PICTURE = 52.0  # height of a picture
SHEET = 3.0  # by how much the sheets of a stack stick out
Size = Point = tuple[float, float]
Sides = tuple[float, float, float, float]  # left, top, right, bottom


@lru_cache(maxsize=4096)
def measured(text: str, size: float, weight: str = "normal") -> Size:
    """Return the width and height of a text in points, as the renderer draws it."""
    if not text:
        return 0.0, 0.0
    figure = Figure(figsize=(1, 1), dpi=72, layout="none")
    canvas = FigureCanvasAgg(figure)
    drawn = figure.text(0, 0, text, size=size, weight=weight, linespacing=1.15)
    extent = drawn.get_window_extent(canvas.get_renderer())
    return float(extent.width), float(extent.height)


def box_size(box: Box) -> Size:
    """Return the width and height of a box in points."""
    (w, h), (note_w, note_h) = measured(box.text, TEXT), measured(box.note, SMALL)
    sheets = 2 * SHEET if box.stack else 0
    w, h = max(w, note_w) + sheets, h + note_h + (2 if box.note else 0) + sheets
    if box.kind == "unit":
        return max(UNIT, w + 6), max(UNIT, w + 6)
    if box.picture is not None:
        rows, columns = box.picture.shape[:2]
        return max(PICTURE * columns / rows, w), PICTURE + h + 7
    if box.kind == "text":
        return w, h
    if box.kind == "operation":  # a circle, or a pill if there is more to say
        return max(w + 2 * PAD, 24.0), max(h + PAD, 24.0)
    return w + 2 * PAD, h + 2 * PAD


@dataclass
class Layout:
    """Centres of the columns and of the rows, and the size of every box, in points."""

    columns: dict[int, float]
    rows: dict[int, float]
    sizes: dict[Box, Size]
    arrows: list[Arrow]

    def point(self, at: Cell) -> Point:
        """Return where a cell's middle is; y grows downwards, as rows do."""
        x, y = (
            np.interp(v, list(track), list(track.values()))
            for v, track in zip(at, (self.columns, self.rows))
        )
        return float(x), float(y)

    def extent(self, box: Box) -> Sides:
        """Return the left, top, right and bottom of a box."""
        (x, y), (w, h) = self.point(box.at), self.sizes[box]
        return x - w / 2, y - h / 2, x + w / 2, y + h / 2

    def path(self, arrow: Arrow) -> list[Point]:
        """Return the corners of an arrow, from the edge of a box to the edge of another."""
        inner = [self.point(at) for at in corners(arrow)]
        first, last = self.point(arrow.start.at), self.point(arrow.end.at)
        points = [first, *inner, last]
        points[0] = edge(self, arrow.start, points[1])
        points[-1] = edge(self, arrow.end, points[-2])
        return points


def framed(layout: Layout, frame: Frame) -> Sides:
    """Return the sides of a frame: around its boxes, and the arrows between them."""
    corners = [layout.extent(box) for box in frame.boxes]
    for a in layout.arrows:
        if a.start in frame.boxes and a.end in frame.boxes:
            below = 4 + measured(a.shape, SMALL)[1]  # where a shape is written
            corners += [(x, y, x, y + below) for x, y in layout.path(a)]
    sides, room = np.array(corners), 1.3 * PAD
    return (*(sides[:, :2].min(0) - room), *(sides[:, 2:].max(0) + room))


def edge(layout: Layout, box: Box, towards: Point) -> Point:
    """Return where the line from a box's middle to a point leaves the box."""
    (x, y), (w, h) = layout.point(box.at), layout.sizes[box]
    dx, dy = towards[0] - x, towards[1] - y
    if box.kind == "unit" or (box.kind == "operation" and w == h):
        share = w / 2 / max(np.hypot(dx, dy), 1e-9)
    else:
        share = min(w / 2 / max(abs(dx), 1e-9), h / 2 / max(abs(dy), 1e-9))
    return x + share * dx, y + share * dy


def corners(arrow: Arrow) -> list[Cell]:
    """Return the corners that an arrow has between its boxes, as cells."""
    (c, r), (c_end, r_end) = arrow.start.at, arrow.end.at
    if arrow.via or arrow.plain or c == c_end or r == r_end:
        return list(arrow.via)
    return [(c_end, r)]


def label_size(arrow: Arrow) -> Size:
    """Return the room that an arrow's name and shape take beside each other's line."""
    (w, h), (shape_w, shape_h) = measured(arrow.label, SMALL), measured(arrow.shape, SMALL)
    return max(w, shape_w), h + shape_h


def gaps(drawing: Sheet, axis: int) -> dict[int, float]:
    """Return how much room the labels need between a column (or row) and the next."""
    room: dict[int, float] = {}
    for arrow in drawing.arrows:
        points = [arrow.start.at, *corners(arrow), arrow.end.at]
        for here, there in itertools.pairwise(points):
            low, high = sorted((here[axis], there[axis]))
            if high - low == 1 and low == int(low) and here[1 - axis] == there[1 - axis]:
                need = label_size(arrow)[axis] + (15 if axis == 0 else 12)
                room[int(low)] = max(room.get(int(low), GAP), need)
    return room


def tracks(drawing: Sheet, axis: int, sizes: dict[Box, Size]) -> dict[int, float]:
    """Return the centres of all columns (axis 0) or rows (axis 1)."""
    used = [box.at[axis] for box in drawing.boxes]
    used += [at[axis] for arrow in drawing.arrows for at in arrow.via]
    first, last = int(np.floor(min(used))), int(np.ceil(max(used)))
    wide = {i: 8.0 for i in range(first, last + 1)}
    for box in drawing.boxes:
        if box.at[axis] in wide:
            wide[int(box.at[axis])] = max(wide[int(box.at[axis])], sizes[box][axis])
    room, at, centres = gaps(drawing, axis), 0.0, {}
    for i, size in wide.items():
        centres[i] = at + size / 2
        at += size + room.get(i, GAP)
    return centres


def laid_out(drawing: Sheet) -> Layout:
    """Find a place for everything."""
    sizes = {box: box_size(box) for box in drawing.boxes}
    columns, rows = (tracks(drawing, axis, sizes) for axis in (0, 1))
    return Layout(columns, rows, sizes, drawing.arrows)
