"""A drawing as its author describes it: boxes in columns and rows, and arrows between."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor, nn

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


@dataclass(eq=False)
class Box:
    """A part of a drawing, in the middle of a cell of its grid."""

    text: str
    at: Cell
    kind: str
    note: str = ""
    stack: bool = False  # drawn as several sheets: there are more of its kind
    picture: np.ndarray | None = None

    def words(self) -> str:
        """Say what is written in the box, and what it stands for."""
        written = spoken(f"{self.text} ({self.note})" if self.note else self.text)
        return f"{written}: {KINDS[self.kind]}"


@dataclass(eq=False)
class Arrow:
    """A way from one box to another, with what passes along it."""

    start: Box
    end: Box
    label: str = ""
    shape: str = ""
    via: Sequence[Cell] = ()
    dashed: bool = False
    struck: bool = False
    plain: bool = False  # a thin line without a head, left out of the words
    leg: int | None = None  # which part of it has the label; None is the longest

    def words(self) -> str:
        """Say from where to where it goes, and what it carries."""
        ends = [spoken(box.text) or KINDS[box.kind] for box in (self.start, self.end)]
        carried = " ".join(filter(None, [spoken(self.label), self.shape]))
        kind = "dashed " * self.dashed + "struck out " * self.struck
        return f"{kind}{ends[0]} to {ends[1]}" + (f" carries {carried}" if carried else "")


@dataclass(eq=False)
class Frame:
    """A dashed line around boxes that belong together, with a name."""

    boxes: Sequence[Box]
    text: str


@dataclass
class Drawing:
    """Boxes and arrows; as the last line of a cell it shows itself, and says itself.

    Args:
        title: above the drawing, and the first words for those who do not see it.
        words: what it shows, in a sentence or two, for the same readers.
        batch: size of the batch that was traced: a shape writes it as B.
    """

    title: str
    words: str = ""
    batch: int = -1
    boxes: list[Box] = field(default_factory=list)
    arrows: list[Arrow] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)

    def box(self, text: str, at: Cell, kind: str = "tensor", **how: Any) -> Box:
        """Put a box into a cell (column, row) and return it.

        Args:
            text: its name; `$...$` is mathematics.
            at: column and row; halves lie between.
            kind: one of KINDS.
            how: `note`, a small line under the text; `stack`; `picture`, an array; `of`, a
                tensor whose shape is noted.
        """
        if kind not in KINDS:
            raise ValueError(f"kind is {kind!r}: expected one of {', '.join(KINDS)}")
        if (of := how.pop("of", None)) is not None:
            how["note"] = "\n".join(filter(None, [how.get("note"), self.shape(of)]))
        self.boxes.append(Box(text, at, kind, **how))
        return self.boxes[-1]

    def network(self, module: nn.Module, text: str, at: Cell, **how: Any) -> Box:
        """Put a box for a learned module, and count its parameters under its name."""
        count = sum(p.numel() for p in module.parameters())
        note = "\n".join(filter(None, [how.pop("note", ""), f"{count:,} parameters"]))
        return self.box(text, at, "network", note=note, **how)

    def picture(self, x: Tensor, text: str, at: Cell) -> Box:
        """Show the first image of a tensor (B, C, H, W), or a plain box if it is none."""
        if x.ndim != 4 or x.shape[1] not in (1, 3):
            return self.box(text, at, of=x)
        image = x[0].float().movedim(0, -1).numpy(force=True)
        scale = float(image.max() - image.min()) or 1.0
        image = (image - image.min()) / scale
        image = image[..., 0] if image.shape[-1] == 1 else image
        return self.box(text, at, "picture", picture=image, of=x)

    def arrow(
        self, start: Box, end: Box, label: str = "", of: Tensor | None = None, **how: Any
    ) -> Arrow:
        """Draw an arrow; `of` is the tensor that passed there, whose shape is written.

        Args:
            start, end: boxes.
            label: a name beside it.
            of: a tensor of a traced call. There is no other way to write a shape.
            how: `via`, corners as (column, row); without, a bent arrow first goes along
                its row. `dashed`, `struck` (out), `plain` (a thin line), `leg` (which
                part has the label; -1 is the last; the longest if not said).
        """
        shape = "" if of is None else self.shape(of)
        self.arrows.append(Arrow(start, end, label, shape, **how))
        return self.arrows[-1]

    def frame(self, boxes: Sequence[Box], text: str) -> Frame:
        """Draw a dashed line around boxes that belong together."""
        self.frames.append(Frame(boxes, text))
        return self.frames[-1]

    def shape(self, x: Tensor) -> str:
        """Write the shape of a tensor, its first size as B if that is the batch."""
        if not isinstance(x, Tensor):
            raise TypeError(f"a shape is read off a tensor, not off a {type(x).__name__}")
        sizes = [*map(str, x.shape)]
        if x.ndim and len(x) == self.batch:
            sizes[0] = "B"
        return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"

    @property
    def alt(self) -> str:
        """The drawing in words: its sentence, its boxes, what its arrows carry."""
        boxes = [box.words() for box in self.boxes if box.text]
        arrows = [arrow.words() for arrow in self.arrows if not arrow.plain]
        parts = [
            f"{spoken(self.title)}.",
            spoken(self.words),
            f"Boxes: {'; '.join(boxes)}.",
        ]
        parts += [f"Arrows: {'; '.join(arrows)}."] if arrows else []
        parts += [f"Together: {spoken(frame.text)}." for frame in self.frames]
        return " ".join(filter(None, parts))

    def figure(self) -> Figure:
        """Return the drawing as a figure, on a white card."""
        from gdm_course.schematics.paint import paint

        return paint(self)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple:
        from gdm_course.schematics.show import bundle

        return bundle(self)
