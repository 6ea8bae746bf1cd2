"""Questions of the unit diffusion/masked."""

from itertools import pairwise

import torch
from torch import Tensor

from gdm_course.checks.question import Inputs, Mistake, close


def _codes(g: torch.Generator, K: int, *shape: int) -> Tensor:
    return torch.randint(K, shape, generator=g)


def _between(g: torch.Generator, low: float, high: float, *shape: int) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=g)


def _law(g: torch.Generator, *shape: int) -> Tensor:
    """Probabilities whose last axis sums to 1, none of them tiny."""
    return torch.randn(shape, generator=g).softmax(-1)


# 1. Hide ----------------------------------------------------------------------------------


def _masked(x: Tensor, t: Tensor, u: Tensor, K: int) -> Tensor:
    return torch.where(u < t[:, None], K, x)


def _coins(B: int, T: int, K: int, ends: bool = False) -> Inputs:
    """Codes, shares and uniform numbers; with `ends` a row of nothing and one of all."""

    def draw(g: torch.Generator) -> tuple:
        t = _between(g, 0.2, 0.8, B)
        u = torch.rand(B, T, generator=g)
        u[:, 0], u[:, 1] = t * 0.9, t * 1.1 + 0.01  # one on either side in every row
        if ends:
            t[0], t[1] = 0.0, 1.0
        return _codes(g, K, B, T), t, u, K

    return draw


mask_tokens = close(
    "mask_tokens",
    _masked,
    {"": _coins(4, 8, 5), "rows of none and of all": _coins(5, 5, 3, True)},
    [
        Mistake(
            lambda x, t, u, K: torch.where(u < t[:, None], x, K),
            "a token is hidden where u lies below t: this hides the others",
        ),
        Mistake(
            lambda x, t, u, K: torch.where(u[:, :1] < t[:, None], K, x),
            "every token has a number of its own: this hides all of a row, or nothing",
        ),
        Mistake(
            lambda x, t, u, K: _masked(x, t.mean().expand(len(x)), u, K),
            "every row has its own t",
        ),
        Mistake(
            lambda x, t, u, K: torch.where(u < t[:, None], 0, x),
            "0 is a value like others: what is hidden becomes K",
        ),
        Mistake(
            lambda x, t, u, K: torch.where(u < 1 - t[:, None], K, x),
            "t is the share that is hidden, not the share that stays",
        ),
    ],
)


# 2. The bound -----------------------------------------------------------------------------


def _bound(logits, x, x_t, t, weight=None, of=None, mean=False) -> Tensor:
    K = logits.shape[-1]
    nll = -logits.log_softmax(-1).gather(-1, x[..., None])[..., 0]
    counted = nll * (x_t == K if of is None else of(x_t, K))
    total = counted.sum(1) / ((x_t == K).sum(1).clamp_min(1) if mean else 1)
    return total * (1 / t if weight is None else weight(t, x_t, K))


def _guessed(B: int, T: int, K: int, m: int | None = None) -> Inputs:
    """Logits for rows of which some tokens are hidden, or m of each."""

    def draw(g: torch.Generator) -> tuple:
        x, t = _codes(g, K, B, T), _between(g, 0.2, 0.7, B)
        place = torch.rand(B, T, generator=g).argsort(1).argsort(1)
        many = torch.arange(B)[:, None] % (T + 1) if m is None else m  # from none to all
        x_t = torch.where(place < many, K, x)
        return 2 * torch.randn(B, T, K, generator=g), x, x_t, t

    return draw


masked_bound = close(
    "masked_bound",
    _bound,
    {
        "": _guessed(7, 6, 4),
        "one hidden": _guessed(3, 5, 7, 1),
        "one row, and nothing hidden": _guessed(1, 4, 3, 0),
    },
    [
        Mistake(
            lambda logits, x, x_t, t: _bound(logits, x, x_t, t, lambda *_: 1.0),
            "the weight 1 / t is missing: without it this is no bound",
        ),
        Mistake(
            lambda logits, x, x_t, t: _bound(logits, x, x_t, t, lambda t, *_: t),
            "the weight is 1 / t, not t",
        ),
        Mistake(
            lambda logits, x, x_t, t: _bound(logits, x, x_t, t, of=lambda x_t, K: x_t != K),
            "this counts the visible tokens: they cost nothing",
        ),
        Mistake(
            lambda logits, x, x_t, t: _bound(
                logits, x, x_t, t, of=lambda x_t, K: torch.ones_like(x_t)
            ),
            "visible tokens cost nothing: only what is hidden is counted",
        ),
        Mistake(
            lambda logits, x, x_t, t: _bound(logits, x, x_t, t, mean=True),
            "the hidden tokens are summed, not averaged",
        ),
        Mistake(
            lambda logits, x, x_t, t: -_bound(logits, x, x_t, t),
            "what is asked for lies above -log p: it is positive",
        ),
        Mistake(
            lambda logits, x, x_t, t: _bound(logits, x, x_t, t).mean(),
            "one number for each row is asked for: (B,)",
        ),
        Mistake(
            lambda logits, x, x_t, t: _bound(
                logits, x, x_t, t, of=lambda x_t, K: x_t == x_t.max(1, keepdim=True)[0]
            ),
            "hidden is K, not the largest code of a row: perhaps nothing is hidden",
        ),
    ],
)


# 3. A step back ---------------------------------------------------------------------------


def _unmasked(x_t, guess, u, s, t, K, chance=None, of=None) -> Tensor:
    p = (t - s) / t if chance is None else chance(s, t)
    hidden = x_t == K if of is None else of(x_t, K)
    return torch.where(hidden & (u < p), guess, x_t)


def _half_open(B: int, T: int, K: int, low: float, end: bool = False) -> Inputs:
    """Rows with hidden and visible tokens, and numbers on either side of every chance."""

    def draw(g: torch.Generator) -> tuple:
        t = _between(g, low, low + 0.1).item()
        s = 0.0 if end else t * _between(g, 0.55, 0.75).item()
        cuts = sorted([0.0, t - s, (t - s) / t, s / t, 1.0])
        u = torch.rand(B, T, generator=g)
        middles = torch.tensor([(a + b) / 2 for a, b in pairwise(cuts)])
        u[:, :8] = middles.repeat_interleave(2)  # for a hidden token and a visible one
        x = _codes(g, K, B, T)
        x_t = torch.where(torch.arange(T) % 2 == 0, K, x)
        return x_t, (x + 1) % K, u, s, t, K

    return draw


unmask_step = close(
    "unmask_step",
    _unmasked,
    {
        "": _half_open(3, 10, 4, 0.4),
        "t near 1": _half_open(4, 8, 5, 0.88),
        "to the end, s = 0": _half_open(2, 9, 6, 0.6, True),
    },
    [
        Mistake(
            lambda *a: _unmasked(*a, chance=lambda s, t: t - s),
            "of all tokens a share t - s opens, of the hidden ones (t - s) / t",
        ),
        Mistake(
            lambda *a: _unmasked(*a, chance=lambda s, t: s / t),
            "s / t is the chance to stay hidden",
        ),
        Mistake(
            lambda *a: _unmasked(*a, of=lambda x_t, K: torch.ones_like(x_t).bool()),
            "what is visible stays as it is: only hidden tokens are drawn",
        ),
        Mistake(
            lambda *a: _unmasked(*a, chance=lambda s, t: 2.0),
            "not all hidden tokens open in one step",
        ),
    ],
)


# 4. What a few steps draw -----------------------------------------------------------------


def _few(p: Tensor, steps: int, chance=lambda n: 1 / n) -> Tensor:
    apart = p.sum(1, keepdim=True) * p.sum(0, keepdim=True)
    return chance(steps) * apart + (1 - chance(steps)) * p


def _joint(K: int, L: int, steps: int) -> Inputs:
    return lambda g: (_law(g, K * L).view(K, L), steps)


few_step_law = close(
    "few_step_law",
    _few,
    {"": _joint(4, 4, 3), "one step": _joint(3, 5, 1), "many steps": _joint(6, 2, 20)},
    [
        Mistake(
            lambda p, n: _few(p, 1),
            "this is the product of the marginals, what a single step draws",
        ),
        Mistake(
            lambda p, n: _few(p, n, lambda n: 1 - 1 / n),
            "exchanged: with many steps the tokens hardly ever open together",
        ),
        Mistake(
            lambda p, n: _few(p, n, lambda n: 1 / n**2),
            "1 / steps^2 is the chance of one given step: any of the steps will do",
        ),
        Mistake(
            lambda p, n: _few(p, n, lambda n: 1 / n) * n,
            "a law sums to 1",
        ),
        Mistake(
            lambda p, n: (_few(p, 1).log() / n + (1 - 1 / n) * p.log()).exp(),
            "a mixture of laws adds probabilities, not their logarithms",
        ),
    ],
    atol=1e-6,
)


# 5. Two orders ----------------------------------------------------------------------------


def _logs(p1, p2, p2_given, p1_given, x) -> tuple[Tensor, Tensor]:
    i, j = x.T
    return p1[i].log() + p2_given[i, j].log(), p2[j].log() + p1_given[j, i].log()


def _orders(p1, p2, p2_given, p1_given, x) -> tuple[Tensor, Tensor]:
    a, b = _logs(p1, p2, p2_given, p1_given, x)
    return (a + b) / 2, (a.exp() / 2 + b.exp() / 2).log()


def _tables(B: int, K: int, L: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple:
        x = torch.stack([_codes(g, K, B), _codes(g, L, B)], 1)
        return _law(g, K), _law(g, L), _law(g, K, L), _law(g, L, K), x

    return draw


two_orders = close(
    "two_orders",
    _orders,
    {"": _tables(6, 4, 5), "as many values": _tables(4, 3, 3), "one row": _tables(1, 5, 2)},
    [
        Mistake(
            lambda *a: _orders(*a)[::-1],
            "the bound comes first, then the exact value, which is larger",
        ),
        Mistake(
            lambda *a: (_orders(*a)[0],) * 2,
            "the sampler draws an order, so that probabilities are averaged: log of a mean",
        ),
        Mistake(
            lambda *a: (_orders(*a)[1],) * 2,
            "the bound is the mean of two logarithms, not the logarithm of a mean",
        ),
        Mistake(
            lambda *a: (sum(_logs(*a)), _orders(*a)[1]),
            "the bound is the mean over the orders, not their sum",
        ),
        Mistake(
            lambda *a: (_orders(*a)[0], torch.stack(_logs(*a)).logsumexp(0)),
            "each order has the probability 1/2: this law sums to 2",
        ),
        Mistake(
            lambda *a: tuple(-v for v in _orders(*a)),
            "log p is asked for, not -log p",
        ),
        Mistake(
            lambda p1, p2, p2_given, p1_given, x: (
                (p1[x[:, 0]].log() + p2[x[:, 1]].log()),
                (p1[x[:, 0]] * p2[x[:, 1]]).log(),
            ),
            "the second token knows the first: take its conditional",
        ),
    ],
)


# 6. Between two neighbours ----------------------------------------------------------------


def _middle(P: Tensor, left: Tensor, right: Tensor) -> Tensor:
    both = P[left] * P[:, right].T
    return both / both.sum(1, keepdim=True)


def _gap(B: int, K: int) -> Inputs:
    return lambda g: (_law(g, K, K), _codes(g, K, B), _codes(g, K, B))


middle_law = close(
    "middle_law",
    _middle,
    {"": _gap(5, 4), "as many rows as values": _gap(3, 3), "one row": _gap(1, 6)},
    [
        Mistake(
            lambda P, left, right: P[left],
            "this knows the left neighbour alone, as a GPT does",
        ),
        Mistake(
            lambda P, left, right: P[left] * P[:, right].T,
            "the probabilities of a row sum to 1: divide by their sum",
        ),
        Mistake(
            lambda P, left, right: (
                P[left] * P[right] / (P[left] * P[right]).sum(1, keepdim=True)
            ),
            "the step to the right neighbour ends there: a column of P, not a row",
        ),
        Mistake(
            lambda P, left, right: (
                (P[left] + P[:, right].T / P[:, right].sum(0)[:, None]) / 2
            ),
            "both steps have to be taken: their probabilities are multiplied, not averaged",
        ),
        Mistake(
            lambda P, left, right: P[:, right].T / P[:, right].sum(0)[:, None],
            "this knows the right neighbour alone",
        ),
    ],
)
