"""Drawings of models of sound: WaveNet and WaveRNN.

A lecture calls them with its own model and batch:

    schematics.dilated_stack(wavenet, x)                # one block, and the way to codes
    schematics.dilated_tree(wavenet, x)                 # who sees whom; a small WaveNet
    schematics.two_halves(wavernn, x)                   # one step of a WaveRNN
"""

from torch import Tensor, nn

from gdm_course.schematics.drawing import Box, Drawing
from gdm_course.schematics.tracing import Call, Trace, trace


def dilated_stack(model: nn.Module, x: Tensor, y: Tensor | None = None) -> Drawing:
    """Draw a WaveNet for codes (B, T): the shift of its input, one block, the head."""
    seen, net = trace(model.conditionals, x, y), model.net
    call, delays = seen.first(net.blocks[0]), [str(c.given["d"]) for c in seen.all("shift")]
    words = "A block adds what it finds to its input, and hands a skip to the end."
    d = Drawing(f"{type(model).__name__}: a stack of dilated, gated blocks", words, len(x))
    late, embed = (
        d.box("delay by 1", (1, 0), "operation"),
        d.network(net.embed, "embed", (2, 0)),
    )
    h = d.box("$h$", (0, 3), of=call.given["h"])
    d.way(d.box("$x$", (0, 0), of=x), late, embed)
    d.arrow(embed, h, via=[(2, 1), (-1, 1), (-1, 3)])
    plus, out = _block(d, call, net.blocks[0], h)
    inside = [box for box in d.boxes if box.at[1] > 2]
    d.frame(inside, f"one block of {len(net.blocks)}; they delay by {', '.join(delays)}")
    if y is not None:
        d.arrow(d.box("label $y$", (3, 0), of=y), plus)
    total = d.box("+ over blocks", (5, 5), "operation")
    d.arrow(out, total, "skip", call.result[1])
    head = d.network(net.head, "head", (3, 5))
    d.way(total, head, d.box("parameters", (1, 5), of=seen.first(net).result))
    return d


def _block(d: Drawing, call: Call, block: nn.Module, h: Box) -> tuple[Box, Box]:
    """Draw a gated block; return the sum before its gate, and the layer with two ways."""
    now, past = d.network(block.now, "now", (1, 3)), d.network(block.past, "past", (1, 4))
    late = d.box(f"delay by {block.dilation}", (2, 4), "operation")
    plus, end = (d.box("+", (column, 3), "operation") for column in (3, 6))
    gate, out = d.box("tanh · σ", (4, 3), "operation"), d.network(block.out, "out", (5, 3))
    d.way(h, now)
    d.arrow(now, plus, "", call["a"])
    d.arrow(h, past, via=[(0, 4)])
    d.way(past, late, plus)
    d.way(plus, gate, out, end)
    d.arrow(h, end, via=[(0, 2), (6, 2)])
    return plus, out


def dilated_tree(model: nn.Module, x: Tensor) -> Drawing:
    """Draw which inputs reach the last output of a small WaveNet, by its traced delays."""
    delays = [call.given["d"] for call in trace(model.conditionals, x).all("shift")]
    width, top = 1 + sum(delays), len(delays)
    if width > 20:
        raise ValueError(
            f"the last output sees {width} inputs: draw a small WaveNet that sees at most "
            "20, such as WaveNet(16, dilations=(1, 2, 4, 8))"
        )
    words = "Each layer sees the layer below now, and once more a delay ago."
    d = Drawing(f"{width} inputs reach one output of {top} blocks", words, len(x))
    above = {width - 1: d.box("", (width - 1, 0), "unit")}
    for row, delay in enumerate(reversed(delays), start=1):
        d.box(f"delay by {delay}", (-1, row - 0.5), "text")
        times = sorted({t - back for t in above for back in (0, delay)})
        below = {t: d.box("", (t, row), "unit") for t in times}
        for t, unit in above.items():
            d.arrow(below[t], unit, plain=True)
            d.arrow(below[t - delay], unit, plain=True)
        above = below
    d.box(f"$x_{{t-{width}}}$", (0, top + 1), "text")
    d.box("$x_{t-1}$", (width - 1, top + 1), "text")
    d.box("to $x_t$", (width, 0), "text")
    return d


def two_halves(model: nn.Module, x: Tensor) -> Drawing:
    """Draw one step of a WaveRNN for codes (B, T): coarse byte first, then the fine one."""
    seen, net = trace(model.scan, x), model.net
    scan, name = seen.first("scan"), type(model).__name__
    words = (
        "Half of the units choose the coarse byte; the others are told which, and go on."
    )
    title = f"{name}: the second half of the units waits for the coarse byte"
    d = Drawing(title, words, len(x))
    cut = _heard(d, seen, net, x)
    first = d.box("first half", (2, 0), of=scan["first"])
    second = d.box("second half", (4, 4), of=scan["second"])
    d.arrow(cut, first, via=[(2, 2)])
    d.arrow(cut, second, via=[(2, 2), (2, 4)])
    coarse = d.box("logits of $c_t$", (4, 0), of=seen.first(net.say_coarse).result)
    fine = d.box("logits of $f_t$", (5, 2), of=seen.first(net.say_fine).result)
    d.way(first, d.network(net.say_coarse, "say coarse", (3, 0)), coarse)
    present = d.network(net.present, "present", (4, 2))
    d.arrow(coarse, present, "the byte $c_t$")
    d.arrow(present, second, "", seen.first("unroll")["told"])
    d.way(second, d.network(net.say_fine, "say fine", (5, 4)), fine)
    return d


def _heard(d: Drawing, seen: Trace, net: nn.Module, x: Tensor) -> Box:
    """Draw what all units hear of the last code and of the old state, cut in two."""
    last, old = (
        d.box("$x_{t-1}$", (0, 0), of=x),
        d.box("$h_{t-1}$", (0, 4), of=seen.first("recur").given["h"]),
    )
    past, recurrent = (
        d.network(net.past, "past", (0, 1)),
        d.network(net.recurrent, "recurrent", (0, 3)),
    )
    cut = d.box("cut", (1, 2), "operation")
    d.way(last, past)
    d.way(old, recurrent)
    d.arrow(past, cut, "", seen.first("hear").result)
    d.arrow(recurrent, cut, "", seen.first("recur").result)
    return cut
