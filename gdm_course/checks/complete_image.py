"""The parts of the question `complete_image`: its asks, its judgement, its mistakes."""

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Categorical

from gdm_course.checks.draws import generator
from gdm_course.checks.laws import all_bits, not_drawn_from
from gdm_course.checks.question import Arrays, Ask, Make, Mistake

SMALL = "gdm_course.checks.autoregressive.pixelcnn.SmallModel"


def complete(model: Any, upper: Tensor, pick: Callable = Categorical.sample):
    """Draw pixel by pixel: the reference."""
    n, C, H, W = len(upper), *model.shape
    x = torch.zeros(n, C, H, W, dtype=torch.long)
    x[:, :, : upper.shape[2]] = upper
    for i, j in itertools.product(range(upper.shape[2], H), range(W)):
        x[:, 0, i, j] = pick(model.conditionals(x))[:, 0, i, j]
    return x


def asks(seed: int) -> list[Ask]:
    """Two small models in which every bit mostly copies or turns the one before it.

    One that is nearly uniform over 256 lower parts: few of them are equal, unless copied.
    And one image alone. The upper part and its negative come by turns.
    """
    g, made = generator(seed), []
    sizes = [
        (2, 3, 1, 5.0, 600),
        (3, 2, 1, 5.0, 600),
        (3, 4, 1, 0.0, 400),
        (4, 2, 2, 5.0, 1),
    ]
    for H, W, R, last, n in sizes:
        D, upper = H * W, torch.randint(2, (1, 1, R, W), generator=g)
        weights = (1.2 if last else 0.3) * torch.randn(D, D, generator=g).tril(-1)
        signs = 2 * torch.randint(2, (D - 1,), generator=g).float() - 1
        weights += torch.diag(last * signs, -1)
        upper = torch.cat([upper, 1 - upper]).repeat(n // 2 + 1, 1, 1, 1)[:n]
        model = Make(SMALL, (weights, H, W))
        made.append(Ask(args=(model, upper), seed=seed + len(made)))
    return made


def judge(asks: list[Ask], answers: list[Arrays]) -> str | None:
    """Count lower parts for each upper part, and pairs that are equal or vary together."""
    for ask, answer in zip(asks, answers):
        model, upper = ask.args[0].resolve(), ask.args[1]
        n, shape = len(upper), (len(upper), *model.shape)
        if len(answer) != 1:
            return f"it returns {len(answer)} values, expected one of shape {shape}"
        if answer[0].shape != shape:
            return f"the result has shape {tuple(answer[0].shape)}, expected {shape}"
        x = answer[0].double()
        if not ((x == 0) | (x == 1)).all():
            return "the images hold codes: every entry must be 0 or 1"
        if not (x[:, :, : upper.shape[2]] == upper).all():
            return "the given rows must come back unchanged"
        for i in range(min(n, 2)):  # the two upper parts
            if wrong := _lower_part(model, upper[i], x[i::2]):
                return wrong
    return None


def _lower_part(model: Any, upper: Tensor, x: Tensor) -> str | None:
    """Judge images that share their upper part (1, R, W): (n, 1, H, W)."""
    drawn = x[:, :, upper.shape[1] :].flatten(1)
    below = all_bits(drawn.shape[1]).view(-1, 1, *x[0, 0, upper.shape[1] :].shape)
    whole = torch.cat([upper.expand(len(below), -1, -1, -1), below], dim=2)
    return not_drawn_from(drawn, model.log_prob(whole).softmax(0))


def _at_once(model, upper):
    x = torch.zeros(len(upper), *model.shape, dtype=torch.long)
    x[:, :, : upper.shape[2]] = upper
    drawn = model.conditionals(x).sample()
    drawn[:, :, : upper.shape[2]] = upper
    return drawn


def _from_nothing(model, upper):
    x = complete(model, upper[:, :, :0])
    x[:, :, : upper.shape[2]] = upper
    return x


def _column_by_column(model, upper):
    (_, H, W), R = model.shape, upper.shape[2]
    x = torch.zeros(len(upper), 1, H, W, dtype=torch.long)
    x[:, :, :R] = upper
    for j, i in itertools.product(range(W), range(R, H)):
        x[:, 0, i, j] = model.conditionals(x).sample()[:, 0, i, j]
    return x


def _first_for_all(model, upper):
    x = complete(model, upper[:1].expand_as(upper))
    x[:, :, : upper.shape[2]] = upper
    return x


mistakes = [
    Mistake(_at_once, "drawn all at once: each pixel must see the ones drawn before it"),
    Mistake(_from_nothing, "the lower rows were drawn without looking at the given ones"),
    Mistake(
        lambda model, upper: complete(model, upper, lambda d: d.logits.argmax(-1)),
        "you took the likeliest value each time; draw it: .sample()",
    ),
    Mistake(_column_by_column, "the model reads row by row: draw in that order"),
    Mistake(_first_for_all, "every image has its own upper rows to go on from"),
]
