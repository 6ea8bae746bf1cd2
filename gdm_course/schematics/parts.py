"""What a drawing is made of: boxes, arrows, frames, and the same in words."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

Cell = tuple[float, float]  # column, row: from the left and from the top
# What a box stands for: its form says it, and its colour says it again.
KINDS = {
    "tensor": "a tensor",
    "network": "a network, learned",
    "operation": "an operation",
    "chance": "drawn at random",
    "term": "a term of the loss",
    "picture": "a picture",
    "unit": "a unit",
    "text": "a remark",
}


def spoken(text: str) -> str:
    """Write mathtext as words: `$\\mu_d$` becomes mu_d; line ends become blanks."""
    return re.sub(r"\s+", " ", re.sub(r"[${}\\]", "", text)).strip()


def shape_of(x: Tensor, batch: int = -1) -> str:
    """Write the shape of a tensor, its first size as B if it is that of the batch.

    A weight has no batch: whoever draws one gives none, lest a size is B by accident.

    Raises:
        TypeError: x is no tensor: nobody makes a shape up.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"a shape is read off a tensor, not off a {type(x).__name__}")
    sizes = [*map(str, x.shape)]
    if x.ndim and len(x) == batch:
        sizes[0] = "B"
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


def image_of(x: Tensor) -> np.ndarray | None:
    """Return the first image of (B, C, H, W), values 0 to 1, or None if there is none."""
    if x.ndim != 4 or x.shape[1] not in (1, 3):
        return None
    image = x[0].float().movedim(0, -1).numpy(force=True)
    image = (image - image.min()) / (float(image.max() - image.min()) or 1.0)
    return image[..., 0] if image.shape[-1] == 1 else image


@dataclass(eq=False)
class Box:
    """A part of a drawing, in the middle of a cell of its grid.

    Attributes:
        text: its name; `$...$` is mathematics.
        at: column and row; halves lie between.
        kind: one of KINDS.
        note: a small line under the name.
        stack: draw it as several sheets, for there are more of its kind.
        picture: grey (H, W) or coloured (H, W, 3), values 0 to 1, above the name.
    """

    text: str
    at: Cell
    kind: str = "tensor"
    note: str = ""
    stack: bool = False
    picture: np.ndarray | None = None

    def __post_init__(self):
        if self.kind not in KINDS:
            known = ", ".join(KINDS)
            raise ValueError(f"kind is {self.kind!r}: expected one of {known}")

    def words(self) -> str:
        """Say what is written in the box, and what it stands for."""
        written = f"{self.text}, {self.note}" if self.note else self.text
        return f"{spoken(written)}: {KINDS[self.kind]}"


@dataclass(eq=False)
class Arrow:
    """A way from one box to another, with what passes along it.

    Attributes:
        start, end: boxes.
        label, shape: written beside it.
        via: corners as (column, row). Without any, a bent arrow first goes along its row.
        leg: which of its parts has the label, -1 the last; None: the longest.
        dashed, struck: no ordinary way: a gradient's, say, or one that is closed.
        plain: a thin line without a head, which the words leave out.
    """

    start: Box
    end: Box
    label: str = ""
    shape: str = ""
    via: Sequence[Cell] = ()
    leg: int | None = None
    dashed: bool = False
    struck: bool = False
    plain: bool = False

    def words(self) -> str:
        """Say from where to where it goes, and what it carries."""
        ends = [spoken(box.text) or KINDS[box.kind] for box in (self.start, self.end)]
        carried = " ".join(filter(None, [spoken(self.label), self.shape]))
        way = f"{'dashed: ' * self.dashed}{ends[0]} to {ends[1]}"
        if self.struck:
            return f"struck out, for nothing passes: {way}"
        return f"{way} carries {carried}" if carried else way


@dataclass(eq=False)
class Frame:
    """A dashed line around boxes that belong together, with a name."""

    boxes: Sequence[Box]
    text: str


@dataclass
class Sheet:
    """All parts of a drawing, and the drawing in words.

    Args:
        title: above the drawing, and the first words for those who do not see it.
        summary: what it shows, in a sentence or two, for the same readers.
        batch: size of the batch that was traced: a shape writes it as B.
    """

    title: str
    summary: str = ""
    batch: int = -1
    boxes: list[Box] = field(default_factory=list)
    arrows: list[Arrow] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)

    @property
    def alt(self) -> str:
        """The drawing in words: its sentence, its boxes, what its arrows carry."""
        boxes = [box.words() for box in self.boxes if box.kind != "unit"]
        units = [box.text for box in self.boxes if box.kind == "unit" and box.text]
        boxes += [f"units: {', '.join(units)}"] if units else []
        arrows = [arrow.words() for arrow in self.arrows if not arrow.plain]
        parts = [f"{spoken(self.title)}.", spoken(self.summary)]
        parts += [f"Boxes: {'; '.join(boxes)}."]
        parts += [f"Arrows: {'; '.join(arrows)}."] if arrows else []
        parts += [f"Together: {spoken(frame.text)}." for frame in self.frames]
        return " ".join(filter(None, parts))
