"""The parts of the question `sample_nade`: its asks, its judgement, its mistakes."""

import torch
from torch import Tensor

from gdm_course.autoregressive import nade
from gdm_course.checks.draws import generator
from gdm_course.checks.laws import all_bits, not_drawn_from
from gdm_course.checks.question import Arrays, Ask, Mistake


def sample(W: Tensor, V: Tensor, b: Tensor, c: Tensor, n: int) -> Tensor:
    """Draw with the course's own model: the reference."""
    return model_with(W, V, b, c).sample(n)


def model_with(W: Tensor, V: Tensor, b: Tensor, c: Tensor) -> nade.NADE:
    """Return a NADE of the course with these weights."""
    model = nade.NADE(len(W), hidden=W.shape[1]).to(W.dtype)
    model.load_state_dict({"W": W, "V": V, "c": c, "b": b})
    return model


def asks(seed: int) -> list[Ask]:
    """Three models of 3 bits, with weights so large that forgetting one shows.

    One of 12 bits, nearly uniform: there two draws are hardly ever equal, unless copied.
    And a single draw.
    """
    g, made = generator(seed), []
    sizes = [*[(3, 8, 4.0, 2.0, 10_000)] * 3, (12, 5, 0.5, 0.3, 1000), (2, 3, 1.0, 1.0, 1)]
    for D, H, w, v, n in sizes:
        W, V = w * torch.randn(D, H, generator=g), v * torch.randn(D, H, generator=g)
        b, c = -V.sum(1) / 2, torch.randn(H, generator=g)  # guesses near one half
        made.append(Ask(args=(W, V, b, c, n), seed=seed + len(made)))
    return made


def judge(asks: list[Ask], answers: list[Arrays]) -> str | None:
    """Count states, and pairs of draws that are equal or vary together."""
    for ask, answer in zip(asks, answers):
        *weights, n = ask.args
        D = len(weights[0])
        if wrong := _not_bits(answer, n, D):
            return wrong
        p = model_with(*weights).log_prob(all_bits(D)).exp().detach()
        if wrong := not_drawn_from(answer[0], p):
            return wrong
    return None


def _not_bits(answer: Arrays, n: int, D: int) -> str | None:
    if len(answer) != 1:
        return f"it returns {len(answer)} values, expected one: bits of shape ({n}, {D})"
    if answer[0].shape != (n, D):
        return f"the result has shape {tuple(answer[0].shape)}, expected ({n}, {D})"
    if not ((answer[0] == 0) | (answer[0] == 1)).all():
        return "samples are bits: every entry must be 0 or 1"
    return None


def _most_likely(W, V, b, c, n):
    a, x = c.expand(n, -1), []
    for W_d, V_d, b_d in zip(W, V, b):
        x.append((torch.sigmoid(torch.sigmoid(a) @ V_d + b_d) > 0.5).float())
        a = a + x[-1][:, None] * W_d
    return torch.stack(x, 1)


def _without_memory(W, V, b, c, n):
    return torch.sigmoid(b + V @ torch.sigmoid(c)).expand(n, -1).bernoulli()


def _fed_with_probabilities(W, V, b, c, n):
    a, x = c.expand(n, -1), []
    for W_d, V_d, b_d in zip(W, V, b):
        p = torch.sigmoid(torch.sigmoid(a) @ V_d + b_d)
        x.append(p.bernoulli())
        a = a + p[:, None] * W_d
    return torch.stack(x, 1)


mistakes = [
    Mistake(_most_likely, "you took the likelier bit each time; draw it: torch.bernoulli"),
    Mistake(_without_memory, "the drawn bit must change the next guess: a <- a + x_d W_d"),
    Mistake(_fed_with_probabilities, "feed the drawn bit back, not its probability"),
    Mistake(
        lambda W, V, b, c, n: sample(W, V, b, c, 1).expand(n, -1),
        "all n draws are the same one: every row needs chance of its own",
    ),
]
