"""Drawing of a layer of TarFlow. A lecture calls it with its own layer and batch:

schematics.patches(tarflow.layers[0], x, y)             # cut, look back, standardise
"""

from torch import Tensor, nn

from gdm_course.schematics.drawing import Drawing
from gdm_course.schematics.tracing import trace


def patches(layer: nn.Module, x: Tensor, y: Tensor) -> Drawing:
    """Draw a `PatchLayer` from pictures x (B, C, H, W), with labels y (B,), to z."""
    call = trace(layer, x, y).first(layer)
    words = "The transformer sees the patches one place later: patch i is told by those"
    words += " before it. With that it is standardised, as one number is in MAF."
    d = Drawing(f"{type(layer).__name__}: MAF of patches, forward", words, len(x))
    cut, late = d.box("cut", (1, 0), "operation"), d.box("delay by 1", (2, 1), "operation")
    s = d.box("patches $x_i$", (2, 0), of=call["s"])
    end = d.box("− $\\mu_i$, ÷ $\\sigma_i$", (4, 0), "operation")
    join, z = d.box("join", (5, 0), "operation"), d.box("$z$", (6, 0), of=call.result[0])
    d.way(d.picture(x, "$x$", (0, 0)), cut, s, end, join, z)
    net = d.network(layer.net, "causal\ntransformer", (3, 1))
    d.way(s, late, net)
    d.arrow(d.box("label $y$", (3, 2), of=y), net)
    d.arrow(net, end, "$\\mu$, log $\\sigma$", call["mu"], via=[(4, 1)])
    log_det = d.box("log_det", (6, 1))
    d.arrow(net, log_det, "− sum log $\\sigma$", call.result[1], via=[(4, 1)], leg=-1)
    return d
