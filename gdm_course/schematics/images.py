"""Drawings of what flows do with images: several scales, and from codes to noise.

A lecture calls them with its own model and batch:

    schematics.scales(glow, x)                          # the multi-scale tree
    schematics.dequantisation(dequantised, codes)       # pixel, real number, logit, flow
"""

from collections.abc import Iterator

from torch import Tensor, nn

from gdm_course.schematics.drawing import Box, Drawing
from gdm_course.schematics.tracing import Call, Trace, trace


def scales(flow: nn.Module, x: Tensor) -> Drawing:
    """Draw the multi-scale tree of a flow for images (B, C, H, W), such as a `Glow`."""
    seen, every = trace(flow, x), list(_scales(flow.layers[-1]))
    title = f"{type(flow).__name__}: every scale but the last lets half of its channels go"
    words = "Each scale squeezes, transforms, and hands the other half of its channels on."
    d, checkers = Drawing(title, words, len(x)), list(flow.layers)[:-1]
    here, row = d.box("$x$", (1 if checkers else 0, 0)), 0
    if checkers:
        text = f"{len(checkers)} under checkerboards"
        masked = d.network(nn.ModuleList(checkers), text, (2, 0), stack=len(checkers) > 1)
        d.arrow(here, masked, "", x)
        here, row = masked, 2
    for k, scale in enumerate(every):
        here = _scale(d, seen, scale, k, row + 2 * k, here)
    return d


def _scales(scale: nn.Module | None) -> Iterator[nn.Module]:
    """Go through a scale and all that follow it."""
    while scale is not None:
        yield scale
        scale = scale.rest


def _scale(d: Drawing, seen: Trace, scale: nn.Module, k: int, row: int, here: Box) -> Box:
    """Draw one scale in its row; return where the channels that go on come from."""
    call, inside = seen.first(scale), seen.first(scale.layers)
    squeeze, n = d.box("squeeze", (1, row), "operation"), len(scale.layers.layers)
    steps = d.network(scale.layers, f"{n} step{'s' * (n > 1)}", (2, row), stack=n > 1)
    lane = [(here.at[0], row - 1), (1, row - 1)] if row else []
    d.arrow(here, squeeze, "", call.given["x"], via=lane)
    d.arrow(squeeze, steps, "", inside.given["x"])
    z = d.box(f"$z_{k + 1}$", (4, row))
    if scale.rest is None:
        d.arrow(steps, z, "done", inside.result[0])
        return steps
    cut = d.box("cut", (3, row), "operation")
    d.arrow(steps, cut, "", inside.result[0])
    d.arrow(cut, z, "done", call["done"])
    return cut


def dequantisation(model: nn.Module, x: Tensor) -> Drawing:
    """Draw how codes x (B, *D) become noise: the pipeline of `Dequantised`, and its bound.

    Below the pipeline stand the four terms of the `elbo`, each under its cause.
    """
    seen = trace(model.elbo, x)
    call, density = seen.first(model.elbo), seen.first(model.flow.log_prob)
    title = "From codes to noise: each step pays its term of the bound"
    d = Drawing(title, "The codes get noise, become real, are stretched, and flow.", len(x))
    codes, divide = d.picture(x, "$x$", (0, 0)), d.box("(x + u) / K", (1, 0), "operation")
    unit = d.picture(seen.first(model.logit).given["x"], "in (0, 1)", (2, 0))
    logit, real = d.box("logit", (3, 0), "operation"), d.picture(call["z"], "real", (4, 0))
    flow = d.network(model.flow, type(model.flow).__name__, (5, 0))
    d.way(codes, divide, unit, logit, real, flow, d.picture(density["z"], "$z$", (6, 0)))
    u = _noise(d, model.noise, call, codes)
    d.arrow(u, divide, "u", call["u"])
    terms = [(u, "$-$ log q(u | x)", call["log_q"]), (unit, "$-$ D log K", None)]
    terms += [(logit, "log_det", call["log_det"]), (flow, "log p", density.result)]
    bound = d.box("elbo", (6, 3), "term")
    for cause, text, value in terms:
        term = d.box(text, (cause.at[0], 2), "term")
        d.way(cause, term)
        d.arrow(term, bound, "", value, via=[(cause.at[0], 3)], leg=0)
    return d


def _noise(d: Drawing, noise: nn.Module, call: Call, codes: Box) -> Box:
    """Draw where the noise u comes from: a network that sees x, if it has parameters."""
    if not any(True for _ in noise.parameters()):
        return d.box("uniform noise", (1, 1), "chance")
    box = d.network(noise, "q(u | x)", (1, 1))
    d.arrow(codes, box, via=[(0, 1)])
    return box
