"""Questions of the unit autoregressive/gpt."""

import math
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from gdm_course.autoregressive import bpe
from gdm_course.autoregressive.decoding import sharpen
from gdm_course.checks.question import Mistake, close

# 1. Attention with a window ---------------------------------------------------------------


def _softmax_over(scores: Tensor, allowed: Callable[[Tensor], Tensor], dim=-1) -> Tensor:
    """Softmax over what `allowed` says of the distances t - s."""
    at = torch.arange(len(scores))
    mask = allowed(at[:, None] - at)
    return scores.masked_fill(~mask, -torch.inf).softmax(dim)


def _window_weights(scores: Tensor, W: int) -> Tensor:
    return _softmax_over(scores, lambda back: (back >= 0) & (back < W))


def _zeroed_afterwards(scores: Tensor, W: int) -> Tensor:
    return torch.where(_window_weights(scores, W) > 0, scores.softmax(-1), 0.0)


def _scores_and_window(g: torch.Generator) -> tuple[Tensor, int]:
    return 2 * torch.randn(9, 9, generator=g), 3


window_weights = close(
    "window_weights",
    _window_weights,
    _scores_and_window,
    [
        Mistake(
            lambda s, W: _softmax_over(s, lambda back: back >= 0),
            "this sees all of the past: only the last W positions are allowed",
        ),
        Mistake(
            lambda s, W: _softmax_over(s, lambda back: back.abs() < W),
            "this sees the future: position t may look at s <= t only",
        ),
        Mistake(
            lambda s, W: _softmax_over(s, lambda back: (back >= 0) & (back <= W)),
            "one position too many: t itself counts, so s runs from t - W + 1 to t",
        ),
        Mistake(
            _zeroed_afterwards,
            "the rows do not sum to 1: mask the scores before the softmax, not after it",
        ),
        Mistake(
            lambda s, W: _softmax_over(s, lambda back: (back >= 0) & (back < W), 0),
            "you normalised columns: row t is the distribution of where t looks",
        ),
    ],
)


# 2. One step with a cache -----------------------------------------------------------------


def _attention_step(q: Tensor, keys: Tensor, values: Tensor, power: float = 0.5) -> Tensor:
    scores = torch.einsum("bd,btd->bt", q, keys) / q.shape[-1] ** power
    return torch.einsum("bt,btd->bd", scores.softmax(-1), values)


def _unnormalised(q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    scores = torch.einsum("bd,btd->bt", q, keys) / q.shape[-1] ** 0.5
    return torch.einsum("bt,btd->bd", scores, values)


def _across_the_batch(q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    scores = torch.einsum("bd,btd->bt", q, keys) / q.shape[-1] ** 0.5
    return torch.einsum("bt,btd->bd", scores.softmax(0), values)


def _step_inputs(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    draw = lambda *shape: torch.randn(shape, generator=g)  # noqa: E731
    return draw(4, 8), draw(4, 6, 8), draw(4, 6, 8)


attention_step = close(
    "attention_step",
    _attention_step,
    _step_inputs,
    [
        Mistake(
            lambda q, k, v: _attention_step(q, k, v, 0.0),
            "the scores are not scaled: divide by sqrt(d)",
        ),
        Mistake(
            lambda q, k, v: _attention_step(q, k, v, 1.0),
            "divide by the square root of d: that is the standard deviation of q . k",
        ),
        Mistake(
            lambda q, k, v: _attention_step(q, v, k),
            "keys and values are exchanged: compare with keys, average the values",
        ),
        Mistake(_unnormalised, "the softmax is missing: weights are positive, of sum 1"),
        Mistake(_across_the_batch, "softmax over the t positions, not over the batch"),
    ],
)


# 3. The nucleus ---------------------------------------------------------------------------


def _nucleus(p: Tensor, top_p: float) -> Tensor:
    return sharpen(p.log(), top_p=top_p).softmax(-1)


def _kept(p: Tensor, top_p: float) -> Tensor:
    return torch.where(_nucleus(p, top_p) > 0, p, 0.0)


def _without_the_last(p: Tensor, top_p: float) -> Tensor:
    ordered, order = p.sort(descending=True)
    keep = ordered.cumsum(-1) <= top_p
    keep[:, 0] = True
    kept = p * torch.zeros_like(keep).scatter(-1, order, keep)
    return kept / kept.sum(-1, keepdim=True)


def _still_sorted(p: Tensor, top_p: float) -> Tensor:
    return _nucleus(p, top_p).sort(descending=True).values


def _nucleus_inputs(g: torch.Generator) -> tuple[Tensor, float]:
    p = (1.5 * torch.randn(6, 8, generator=g)).softmax(-1)
    return p, 0.6 + 0.3 * torch.rand((), generator=g).item()


nucleus = close(
    "nucleus",
    _nucleus,
    _nucleus_inputs,
    [
        Mistake(_kept, "right tokens, but what is left does not sum to 1: renormalise"),
        Mistake(
            _without_the_last,
            "the token that crosses top_p belongs to the nucleus: together they reach it",
        ),
        Mistake(
            _still_sorted, "these are sorted: bring every probability back to its own token"
        ),
        Mistake(
            lambda p, top_p: p**top_p / (p**top_p).sum(-1, keepdim=True),
            "this is a temperature: top-p excludes tokens and keeps the others' ratios",
        ),
    ],
)


# 4. The most frequent pair ----------------------------------------------------------------


def _counts(tokens: Tensor, step: int = 1) -> Counter:
    return Counter([*pairwise(tokens.tolist())][::step])


def _most_frequent_pair(tokens: Tensor) -> tuple[int, int]:
    return _counts(tokens).most_common(1)[0][0]


def _two_most_frequent_tokens(tokens: Tensor) -> tuple[int, int]:
    (a, _), (b, _) = Counter(tokens.tolist()).most_common(2)
    return a, b


def _every_second(tokens: Tensor) -> tuple[int, int]:
    return _counts(tokens, step=2).most_common(1)[0][0]


def _backwards(tokens: Tensor) -> tuple[int, int]:
    return _most_frequent_pair(tokens)[::-1]


_PAIR_MISTAKES = [
    Mistake(
        _two_most_frequent_tokens,
        "these are the two most frequent tokens; count pairs of neighbours",
    ),
    Mistake(
        _every_second,
        "pairs overlap: (x1, x2), (x2, x3), ...; you counted every second one",
    ),
    Mistake(_backwards, "the pair is the wrong way round: the token on the left first"),
]


def _tokens_with_one_winner(g: torch.Generator) -> tuple[Tensor]:
    """Draw tokens until the winner is alone and no mistake finds it by luck."""
    while True:
        tokens = torch.randint(1, 7, (60,), generator=g)
        (best, most), (_, second) = _counts(tokens).most_common(2)
        lucky = any(m.answer(tokens) == best for m in _PAIR_MISTAKES)
        if most > second and not lucky:
            return (tokens,)


most_frequent_pair = close(
    "most_frequent_pair", _most_frequent_pair, _tokens_with_one_winner, _PAIR_MISTAKES
)


# 5. Merging it ----------------------------------------------------------------------------


def _merge_pair(tokens: Tensor, pair: tuple[int, int], new: int) -> Tensor:
    return torch.tensor(bpe.merge(tokens.tolist(), pair, new))


def _from_the_right(tokens: Tensor, pair: tuple[int, int], new: int) -> Tensor:
    return _merge_pair(tokens.flip(0), pair[::-1], new).flip(0)


def _only_once(tokens: Tensor, pair: tuple[int, int], new: int) -> Tensor:
    x = tokens.tolist()
    i = next(i for i in range(len(x)) if tuple(x[i : i + 2]) == pair)
    return torch.tensor([*x[:i], new, *x[i + 2 :]])


def _second_stays(tokens: Tensor, pair: tuple[int, int], new: int) -> Tensor:
    x = tokens.tolist()
    return torch.tensor(
        [new if tuple(x[i : i + 2]) == pair else x[i] for i in range(len(x))]
    )


def _tokens_with_a_run(g: torch.Generator) -> tuple[Tensor, tuple[int, int], int]:
    """Draw tokens with 2 2 2 in them: the order of merging shows."""
    a, b = torch.randint(1, 5, (2, 12), generator=g)
    fixed = torch.tensor([3, 2, 2, 2, 4, 2, 2, 1])
    return torch.cat([a, fixed, b]), (2, 2), 9


merge_pair = close(
    "merge_pair",
    _merge_pair,
    _tokens_with_a_run,
    [
        Mistake(_from_the_right, "merge from left to right: 2 2 2 becomes 9 2, not 2 9"),
        Mistake(_only_once, "replace every occurrence of the pair, not the first only"),
        Mistake(
            _second_stays,
            "after a merge both tokens are used up: go on behind the second one",
        ),
    ],
)


# 6. A unit that compares ------------------------------------------------------------------


def _bits_per_byte(nats: float, tokens: int, text: str) -> float:
    return nats * tokens / (len(text.encode()) * math.log(2))


def _measured_text(g: torch.Generator) -> tuple[float, int, str]:
    letters = "aeiou étàü 漢字Ω"
    places = torch.randint(len(letters), (200,), generator=g).tolist()
    tokens = torch.randint(60, 150, (), generator=g).item()
    nats = 1 + 3 * torch.rand((), generator=g).item()
    return nats, tokens, "".join(letters[i] for i in places)


bits_per_byte = close(
    "bits_per_byte",
    _bits_per_byte,
    _measured_text,
    [
        Mistake(
            lambda nats, tokens, text: nats * tokens / (len(text) * math.log(2)),
            "len(text) counts characters; a letter like é is two bytes in UTF-8",
        ),
        Mistake(
            lambda nats, tokens, text: nats * tokens / len(text.encode()),
            "these are nats per byte: a bit is log 2 nats",
        ),
        Mistake(
            lambda nats, tokens, text: nats * tokens * math.log(2) / len(text.encode()),
            "nats become bits by dividing by log 2: there are more bits than nats",
        ),
        Mistake(
            lambda nats, tokens, text: nats / math.log(2),
            "these are bits per token: multiply by the tokens, divide by the bytes",
        ),
    ],
)
