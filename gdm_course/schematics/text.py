"""Drawings of a transformer for text: one block, and who predicts whom.

A lecture calls them with its own model and batch:

    schematics.transformer(gpt, tokens)                 # a block, between shift and logits
    schematics.shifted_input(gpt, tokens)               # which tokens reach which guess
"""

import torch
from torch import Tensor, nn

from gdm_course.learning import evaluating
from gdm_course.schematics.drawing import Box, Drawing
from gdm_course.schematics.tracing import Trace, trace


def transformer(model: nn.Module, x: Tensor, y: Tensor | None = None) -> Drawing:
    """Draw a GPT for tokens (B, t): the shift of its input, one block, and the logits."""
    seen, name = trace(model, x, y), type(model).__name__
    embedded = seen.first("embed")
    words = "The input is shifted: position t sees the start and the tokens before t."
    title = f"{name}: tokens enter shifted, a block looks around, then thinks"
    d = Drawing(title, words, len(x))
    h = d.box("$h$", (0, 3), of=embedded.result)
    token = d.network(model.token, "embed", (2, 0))
    drop = d.box("drop last", (1, 0), "operation")
    first = d.box("start first,\n+ position", (5, 0), "operation")
    d.way(d.box("$x$", (0, 0), of=x), drop)
    d.arrow(drop, token, "", embedded.given["past"])
    d.arrow(token, first, "", seen.first(model.token).result)
    d.arrow(first, h, via=[(5, 1), (-1, 1), (-1, 3)])
    end = _block(d, seen, model.blocks[0], h)
    d.frame([box for box in d.boxes if box.at[1] > 1], f"one block of {len(model.blocks)}")
    norm = d.box("norm", (5, 6), "network")
    read = d.box("compare with\nevery token", (4, 6), "operation")
    d.arrow(end, norm, via=[(7, 3), (7, 6)])
    d.way(norm, read, d.box("logits", (2, 6), of=seen.first("read").result))
    return d


def _block(d: Drawing, seen: Trace, block: nn.Module, h: Box) -> Box:
    """Draw a block: attention is added to the stream, then a perceptron; return its end."""
    look = d.network(block.attention, "attention", (2, 3))
    think = d.network(nn.ModuleList([block.up, block.down]), "perceptron", (5, 3))
    first, end = (d.box("+", (column, 3), "operation") for column in (3, 6))
    norms = [d.box("norm", (column, 3), "network") for column in (1, 4)]
    d.way(h, norms[0], look, first, norms[1], think, end)
    d.arrow(h, first, "", seen.first(block).given["h"], via=[(0, 2), (3, 2)])
    d.arrow(first, end, "", seen.first(block).result, via=[(3, 4), (6, 4)])
    return end


def shifted_input(model: nn.Module, x: Tensor, y: Tensor | None = None) -> Drawing:
    """Draw which inputs reach which guess of the first five: those with a gradient."""
    first, logits = _through(model, x[:1, :5], None if y is None else y[:1])
    words = "A guess is made from the start and the tokens before it, never from its own."
    d = Drawing(f"{type(model).__name__}: the input is the text, one place later", words, 1)
    d.box("input", (-1, 3), "text", of=first)
    d.box("logits", (-1, 0), "text", of=logits)
    names = ["start", *(f"$x_{t}$" for t in range(1, logits.shape[1]))]
    below = [d.box(name, (t, 3)) for t, name in enumerate(names)]
    for t, one in enumerate(logits[0].logsumexp(-1)):
        guess = d.box(f"guess $x_{t + 1}$", (t, 0), "term")
        moved = torch.autograd.grad(one, first, retain_graph=True)[0][0].abs().sum(-1)
        for s in moved.nonzero().flatten().tolist():
            d.arrow(below[s], guess, plain=True)
    return d


@torch.enable_grad()
def _through(model: nn.Module, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return what enters the first block (1, t, width), and the logits made of it."""
    with evaluating(model):
        h = first = model.embed(x[:, :-1], y).detach().requires_grad_()
        for block in model.blocks:
            h = block(h)
        return first, model.read(h)
