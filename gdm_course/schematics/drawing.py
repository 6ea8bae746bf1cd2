"""A drawing as its author describes it: boxes in columns and rows, and arrows between."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from gdm_course.schematics.parts import Arrow, Box, Cell, Frame, image_of, shape_of
from gdm_course.schematics.show import Shown


class Drawing(Shown):
    """Boxes and arrows; as the last line of a cell it shows itself, and says itself."""

    def box(self, text: str, at: Cell, kind: str = "tensor", **how: Any) -> Box:
        """Put a `Box` into a cell; the shape of a tensor `of` becomes its note."""
        if (of := how.pop("of", None)) is not None:
            how["note"] = shape_of(of, self.batch)
        self.boxes.append(Box(text, at, kind, **how))
        return self.boxes[-1]

    def network(self, module: nn.Module, text: str, at: Cell, **how: Any) -> Box:
        """Put a box for a learned module, and count its parameters under its name."""
        note = f"{sum(p.numel() for p in module.parameters()):,} parameters"
        return self.box(text, at, "network", note=note, **how)

    def picture(self, x: Tensor, text: str, at: Cell) -> Box:
        """Show the first image of a tensor (B, C, H, W), or a plain box if it is none."""
        kind = "tensor" if (image := image_of(x)) is None else "picture"
        return self.box(text, at, kind, of=x, picture=image)

    def arrow(self, start: Box, end: Box, label="", of=None, **how: Any) -> Arrow:
        """Draw an `Arrow`; the shape of the tensor `of`, which passed there, is written."""
        shape = "" if of is None else shape_of(of, self.batch)
        self.arrows.append(Arrow(start, end, label, shape, **how))
        return self.arrows[-1]

    def way(self, *boxes: Box) -> None:
        """Draw bare arrows from each box to the next."""
        self.arrows += [Arrow(*pair) for pair in pairwise(boxes)]

    def frame(self, boxes: Sequence[Box], text: str) -> Frame:
        """Draw a dashed line around boxes that belong together."""
        self.frames.append(Frame(boxes, text))
        return self.frames[-1]
