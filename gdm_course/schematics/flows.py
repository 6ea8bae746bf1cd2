"""Drawings of coupling layers. A lecture calls them with a layer and a batch of its own:

schematics.coupling(flow.layers[1], x)              # forward
schematics.coupling_inverse(flow.layers[1], z)
"""

from torch import Tensor, nn

from gdm_course.schematics.drawing import Box, Drawing
from gdm_course.schematics.tracing import Call, Trace, trace


def coupling(layer: nn.Module, x: Tensor) -> Drawing:
    """Draw a coupling layer from x (B, D, ...) to z, with the shapes of this very pass."""
    seen = trace(layer, x)
    call, name = seen.first(layer), type(layer).__name__
    does = "scale and shift" if _scales(layer) else "shift"
    words = f"One half passes, and tells a network how to {does} the other half."
    d = Drawing(f"{name}, forward: from x to z", words, len(x))
    net, b = _halves(d, layer, call, "x")
    t = d.box("$t$", (3, 1))
    d.arrow(net, t, "", call.values.get("t", seen.first(layer.net).result))
    plus = d.box("+", (5, 4), "operation")
    if _scales(layer):
        s, exp = d.box("$s$", (3, 2)), d.box("exp", (3, 3), "operation")
        times = d.box("×", (3, 4), "operation")
        d.arrow(net, s, "", call["s"], via=[(2, 2)])
        d.way(s, exp, times)
        d.way(b, times, plus)
        d.arrow(s, d.box("log_det", (4, 2)), "sum", call.result[1])
    else:
        d.way(b, plus)
    d.way(t, plus)
    _joined(d, seen, "z", plus)
    return d


def coupling_inverse(layer: nn.Module, z: Tensor) -> Drawing:
    """Draw the way back through a coupling layer: the network itself is not inverted."""
    seen = trace(layer.inverse, z)
    words = "The half that passed says again what was done to the other, and it is undone."
    d = Drawing(f"{type(layer).__name__}, inverse: from z to x", words, len(z))
    call = seen.first(layer.inverse)
    net, b = _halves(d, layer, call, "z")
    t, minus = d.box("$t$", (3, 2)), d.box("−", (3, 4), "operation")
    last = minus
    d.arrow(net, t, "", call.values.get("t", seen.first(layer.net).result), via=[(2, 2)])
    d.way(t, minus)
    d.way(b, minus)
    if _scales(layer):
        s, exp = d.box("$s$", (3, 1)), d.box("exp(−)", (5, 1), "operation")
        last = d.box("×", (5, 4), "operation")
        d.arrow(net, s, "", call["s"])
        d.way(s, exp, last)
        d.way(minus, last)
        d.arrow(s, d.box("log_det", (4, 2)), "− sum", call.result[1], via=[(4, 1)], leg=-1)
    _joined(d, seen, "x", last)
    return d


def _scales(layer: nn.Module) -> bool:
    """Whether a coupling has a scale too, by its name: then its pass must show an s."""
    return "Additive" not in type(layer).__name__


def _halves(d: Drawing, layer: nn.Module, call: Call, name: str) -> tuple[Box, Box]:
    """Draw what a coupling begins with: two halves, one of which enters the network."""
    x, cut = d.box(f"${name}$", (0, 2)), d.box("cut", (1, 2), "operation")
    notes = ["first half", "second half"][:: -1 if layer.swap else 1]
    a = d.box(f"${name}_a$", (2, 0), note=notes[0])
    b = d.box(f"${name}_b$", (2, 4), note=notes[1])
    net = d.network(layer.net, "network", (2, 1))
    d.arrow(x, cut, "", call.given[name])
    d.arrow(cut, a, "", call["a"], via=[(1, 0)])
    d.arrow(cut, b, "", call["b"], via=[(1, 4)])
    d.arrow(a, net)
    return net, b


def _joined(d: Drawing, seen: Trace, name: str, last: Box) -> None:
    """Draw what a coupling ends with: the half that passed and the changed one, joined."""
    join, end = d.box("join", (6, 2), "operation"), d.box(f"${name}$", (7, 2))
    joined = seen.first("join")
    a = next(box for box in d.boxes if box.at == (2, 0))
    d.arrow(a, join, f"${name}_a$", joined["a"], via=[(6, 0)])
    d.arrow(last, join, f"${name}_b$", joined["b"], via=[(6, 4)])
    d.arrow(join, end, "", joined.result)
