"""Drawings of autoregressive models of bits and of images.

A lecture calls them with its own model and batch:

    schematics.masked_network(made, x)                  # its degrees, and who sees whom
    schematics.gated_stacks(gated_pixelcnn, x)          # two stacks, for rows and row
"""

from functools import reduce

from torch import Tensor, nn

from gdm_course.schematics.drawing import Box, Drawing
from gdm_course.schematics.parts import shape_of
from gdm_course.schematics.tracing import Call, trace


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
        d.way(image, first, stack)
    d.arrow(h, v, struck=True)
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
    d.way(v, down, gates, gate_v, sums[0])
    d.way(h, right, plus, gate_h)
    d.way(gates, across, plus)
    d.arrow(gate_h, merge, "", call["h_new"])
    d.way(merge, sums[1])
    for stack, end, lane in zip((v, h), sums, (0, 4)):
        d.arrow(stack, end, "", via=[(1, lane), (6, lane)])
    return gates, sums[1]


def _conv(d: Drawing, conv: nn.Module, text: str, at: tuple[int, int]) -> Box:
    """Draw a convolution with the size of its kernel."""
    return d.box(text, at, "network", note=" × ".join(map(str, conv.kernel_size)))


def masked_network(model: nn.Module, x: Tensor) -> Drawing:
    """Draw every unit of a small MADE for bits (B, D) with its degree, and its masks.

    A line is a weight that its mask keeps. Beside an output stands what reaches it.
    """
    model.get_submodule("net").known = ()  # so that it makes its masks anew
    seen = trace(model.conditionals, x)
    m, masks = seen.first("degrees").result, seen.first("masks").result
    columns, most = [*m, m[0]], max(map(len, m))
    if most > 12:
        raise ValueError(
            f"a layer has {most} units: draw a small MADE with at most 12 in a layer, such "
            "as MADE(4, hidden=(6,))"
        )
    words = "A unit looks at units of its own degree or less, an output only at lower ones."
    d = Drawing(f"{type(model).__name__}: degrees, and who may look at whom", words, len(x))
    layers = [_units(d, degrees, k, most) for k, degrees in enumerate(columns)]
    for k, mask in enumerate(masks):
        for i, j in mask.nonzero().tolist():
            d.arrow(layers[k][j], layers[k + 1][i], plain=True)
        picture = {"picture": mask.float().numpy(force=True), "note": shape_of(mask)}
        d.box("mask, white = 1", (2 * k + 1, most), "picture", **picture)
    _laws(d, layers[0], masks)
    d.box("inputs", (0, -1), "text", of=seen.first(model.net).given["x"])
    d.box("outputs", (2 * len(masks), -1), "text", of=seen.first(model.net).result)
    return d


def _laws(d: Drawing, inputs: list[Box], masks: list[Tensor]) -> None:
    """Write the inputs' names, and at the outputs what reaches them: masks, multiplied."""
    reach = reduce(lambda below, mask: mask.float() @ below, masks[1:], masks[0].float())
    for i, sees in enumerate(reach > 0):
        row = inputs[i].at[1]
        d.box(f"$x_{i + 1}$", (-1, row), "text")
        given = ", ".join(f"x_{j + 1}" for j in sees.nonzero().flatten().tolist())
        law = f"$p(x_{i + 1}{' | ' * bool(given)}{given})$"
        d.box(law, (2 * len(masks) + 1, row), "text")


def _units(d: Drawing, degrees: Tensor, k: int, most: int) -> list[Box]:
    """Draw one layer of units, in the middle of as many rows as the largest layer has."""
    first = (most - len(degrees)) / 2
    places = [(2 * k, first + i) for i in range(len(degrees))]
    return [d.box(str(int(m)), at, "unit") for m, at in zip(degrees, places)]
