"""Drawings of autoregressive models of images, bits and text.

schematics.gated_stacks(gated_pixelcnn, x)          # the vertical and the horizontal stack
"""

from torch import Tensor, nn

from gdm_course.schematics.drawing import Box, Drawing
from gdm_course.schematics.trace import Call, trace


def gated_stacks(model: nn.Module, x: Tensor, y: Tensor | None = None) -> Drawing:
    """Draw the two stacks of a gated PixelCNN for codes (B, C, H, W), and one layer.

    The vertical stack sees the rows above and tells the horizontal one, which sees the row
    up to the pixel. Nothing goes the other way.
    """
    seen, name = trace(model.conditionals, x, y), type(model).__name__
    title = f"{name}: a stack for the rows above, a stack for the row itself"
    words = "The vertical stack v tells the horizontal stack h; nothing goes the other way."
    d, call = Drawing(title, words, len(x)), seen.first(model.layers[0])
    image = d.picture(x, "$x$", (0, 2))
    v, h = (
        d.box("$v$", (1, 1), of=call.given["v"]),
        d.box("$h$", (1, 3), of=call.given["h"]),
    )
    for conv, text, stack in (
        (model.above, "rows above", v),
        (model.left, "left of it", h),
    ):
        first = _conv(d, conv, text, (0, stack.at[1]))
        d.arrow(image, first), d.arrow(first, stack)
    gates, end = _gated_layer(d, call, model.layers[0], v, h)
    d.frame([box for box in d.boxes if box.at[0] > 0], f"one layer of {len(model.layers)}")
    if y is not None:
        d.arrow(d.box("label $y$", (3, -1), of=y), gates)
    head = d.network(model.head, "head", (7, 3))
    d.arrow(end, head)
    d.arrow(head, d.box("parameters", (7, 4), of=seen.first(model).result))
    return d


def _gated_layer(
    d: Drawing, call: Call, layer: nn.Module, v: Box, h: Box
) -> tuple[Box, Box]:
    """Draw what a gated layer does to both stacks; return v's gates, and h's end."""
    down, right = (
        _conv(d, layer.down, "down", (2, 1)),
        _conv(d, layer.right, "right", (2, 3)),
    )
    gates, plus = (
        d.box("$v$ gates", (3, 1), of=call["v_gates"]),
        d.box("+", (3, 3), "operation"),
    )
    across = _conv(d, layer.across, "across", (3, 2))
    gate_v, gate_h = (d.box("tanh · σ", (4, row), "operation") for row in (1, 3))
    merge = _conv(d, layer.merge, "merge", (5, 3))
    sums = [d.box("+", (6, row), "operation") for row in (1, 3)]
    ways = [(v, down), (down, gates), (gates, gate_v), (gates, across), (across, plus)]
    ways += [(h, right), (right, plus), (plus, gate_h), (gate_v, sums[0]), (merge, sums[1])]
    for here, there in ways:
        d.arrow(here, there)
    d.arrow(gate_h, merge, "", call["h_new"])
    for stack, end, lane in zip((v, h), sums, (0, 4)):
        d.arrow(stack, end, "", via=[(1, lane), (6, lane)])
    return gates, sums[1]


def _conv(d: Drawing, conv: nn.Module, text: str, at: tuple[int, int]) -> Box:
    """Draw a convolution with the size of its kernel."""
    return d.box(text, at, "network", note=" × ".join(map(str, conv.kernel_size)))
