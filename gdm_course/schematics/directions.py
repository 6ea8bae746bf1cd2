"""Drawings of flows that are quick one way only, and of the adjoint.

A lecture calls them with its own model and batch:

    schematics.passes(maf, x)                           # and (iaf, x): the other way round
    schematics.adjoint(continuous_flow, x)              # its solver is an `Adjoint`
"""

import copy

import torch
from torch import Tensor, nn

from gdm_course.schematics.drawing import Box, Drawing
from gdm_course.schematics.tracing import Trace, trace


def passes(flow: nn.Module, x: Tensor) -> Drawing:
    """Draw which numbers the first layer of a MAF or an IAF needs, there and back: (B, D).

    The steps are counted in a traced pass; the lines are those that the masks leave.

    Raises:
        ValueError: D is more than can be drawn.
    """
    if (D := x.shape[1]) > 4:
        raise ValueError(f"x has {D} dimensions: draw a flow of at most 4")
    layer = flow.layers[0]
    net = getattr(layer, "layer", layer).net  # a layer of an IAF is one of MAF turned round
    counts = [
        len([call for call in trace(way, x).calls if call.name.endswith("bend")])
        for way in (layer, layer.inverse)
    ]
    words = "What stands above is known. Where results need results of their own row, the"
    words += " pass is serial: each number waits for those before it."
    d = Drawing(f"{type(flow).__name__}: quick one way, serial the other", words, len(x))
    for k, (use, names) in enumerate((("density", "xz"), ("sampling", "zx"))):
        title = (
            f"{use}: {names[0]} to {names[1]} in {counts[k]} step{'s' * (counts[k] > 1)}"
        )
        d.box(title, (k * (D + 1) + (D - 1) / 2, 0), "text", of=x)
        _pass(d, k * (D + 1), names, reach(net, x), counts[k])
    return d


def _pass(d: Drawing, column: int, names: str, sees: Tensor, steps: int) -> None:
    """Draw one way through a layer: what is known above, what is computed below."""
    known, made = [], []
    for i in range(len(sees)):
        known.append(d.box(f"${names[0]}_{i + 1}$", (column + i, 1)))
        note = f"step {min(i + 1, steps)}"
        made.append(d.box(f"${names[1]}_{i + 1}$", (column + i, 4), note=note))
        d.way(known[i], made[i])
    for i, j in sees.nonzero().tolist():
        if steps == 1:
            d.arrow(known[j], made[i], plain=True)
        else:
            lane = [(column + j, 5 + j), (column + i, 5 + j)] if i - j > 1 else []
            d.arrow(made[j], made[i], via=lane)


def reach(net: nn.Module, x: Tensor) -> Tensor:
    """Return whether input j moves the numbers of d, (D, D), whatever the weights."""
    net = copy.deepcopy(net)
    for p in net.parameters():
        nn.init.constant_(p, 1.0)  # a new layer says 0, whatever comes in
    said = lambda row: net(row[None]).sum(-1)[0]  # noqa: E731
    return torch.autograd.functional.jacobian(said, x[0].abs()) != 0


def adjoint(flow: nn.Module, x: Tensor) -> Drawing:
    """Draw the adjoint of a continuous flow: forward without a graph, back by a second ODE.

    Args:
        flow: whose `ode.solver` is an `Adjoint`.
        x: a batch (B, D).

    Raises:
        ValueError: the flow has another solver.
    """
    solver = flow.ode.solver
    if type(solver).__name__ != "Adjoint":
        raise ValueError(
            f"the flow's solver is {solver}: expected an Adjoint, as in "
            "ContinuousFlow(2, solver=Adjoint(DormandPrince()))"
        )
    seen = trace(lambda: _gradients(flow, x))
    there = seen.first("AdjointFunction.forward")
    calls, again = len(seen.all(there["f"])), len(seen.all("pull_back.<locals>.field"))
    words = "Forward, only the end is kept. A second ODE runs back from it and from a(1)."
    d = Drawing(f"{type(flow).__name__}: forward, and back by the adjoint", words, len(x))
    solve = d.box(
        "solve, t: 0 to 1", (1, 0), "operation", note=f"{calls - again} calls of v"
    )
    back = d.box("solve, t: 1 to 0", (1, 2), "operation", note=f"{again} calls of v")
    _adjoint_ends(d, seen, solve, back)
    return d


def _adjoint_ends(d: Drawing, seen: Trace, solve: Box, back: Box) -> None:
    """Draw what enters both solvers, and what they return."""
    call = seen.first("AdjointFunction.backward")
    n = len(call["x"])
    end, loss = d.box("$x(1)$", (2, 0), of=call["x"][0]), d.box("loss L", (3, 0), "term")
    d.way(
        d.box("$x(0)$", (0, 0), of=seen.first("AdjointFunction.forward")["tensors"][0]),
        solve,
        end,
        loss,
    )
    a = d.box("$a(1)$ = dL/d$x(1)$", (2, 2), of=call["a"][0])
    d.arrow(loss, a, "back", via=[(3, 2)])
    d.arrow(end, back, "all that was kept", via=[(2, 1), (1, 1)])
    d.way(a, back, d.box("$a(0)$ = dL/d$x(0)$", (0, 2), of=call["state"][n]))
    theta = (
        f"{len(call['theta'])} tensors, {sum(p.numel() for p in call['theta']):,} numbers"
    )
    d.way(back, d.box("dL/dθ", (1, 3), note=theta))


def _gradients(flow: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    """Return the gradient of the loss in x and in all parameters, and leave none behind."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return torch.autograd.grad(flow.loss(x), (x, *flow.parameters()))
