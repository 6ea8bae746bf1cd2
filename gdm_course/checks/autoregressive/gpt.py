"""Questions of the unit autoregressive/gpt."""

import math
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from gdm_course.autoregressive import bpe
from gdm_course.autoregressive.decoding import sharpen
from gdm_course.checks.question import Inputs, Mistake, close

# 1. Attention with a window ---------------------------------------------------------------


def _softmax_over(scores: Tensor, allowed: Callable[[Tensor], Tensor], dim=-1) -> Tensor:
    """Softmax over what `allowed` says of the distances t - s."""
    at = torch.arange(len(scores))
    mask = allowed(at[:, None] - at)
    return scores.masked_fill(~mask, -torch.inf).softmax(dim)


def _window_weights(scores: Tensor, W: int) -> Tensor:
    return _softmax_over(scores, lambda back: (back >= 0) & (back < W))


def _scores_and_window(T: int, W: int) -> Inputs:
    return lambda g: (2 * torch.randn(T, T, generator=g), W)


window_weights = close(
    "window_weights",
    _window_weights,
    {
        "": _scores_and_window(9, 3),
        "W = 5": _scores_and_window(8, 5),
        "W = 1": _scores_and_window(6, 1),
        "W larger than T": _scores_and_window(7, 12),
    },
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
            lambda s, W: torch.where(_window_weights(s, W) > 0, s.softmax(-1), 0.0),
            "the rows do not sum to 1: mask the scores before the softmax, not after it",
        ),
        Mistake(
            lambda s, W: _softmax_over(s, lambda back: (back >= 0) & (back < W), 0),
            "you normalised columns: row t is the distribution of where t looks",
        ),
        Mistake(
            lambda s, W: _softmax_over(s.tril(), lambda back: back < W),
            "scores of the future became 0, whose exp is 1: they must become -inf",
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


def _step_inputs(B: int, t: int, d: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        keys, values = torch.randn(2, B, t, d, generator=g)
        return torch.randn(B, d, generator=g), keys, values

    return draw


attention_step = close(
    "attention_step",
    _attention_step,
    {
        "": _step_inputs(4, 6, 8),
        "one sequence, d = 5": _step_inputs(1, 9, 5),
        "the first position of all": _step_inputs(3, 1, 4),
    },
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
        Mistake(
            lambda q, k, v: _attention_step(q, k, v) / k.shape[1],
            "the weights sum to 1 already: a sum over positions, not a mean",
        ),
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


def _nucleus_inputs(B: int, K: int, low: float, high: float) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, float]:
        p = (1.5 * torch.randn(B, K, generator=g)).softmax(-1)
        return p, low + (high - low) * torch.rand((), generator=g).item()

    return draw


def _equal_tokens(g: torch.Generator) -> tuple[Tensor, float]:
    """Draw where a half and a quarter stand; they reach three quarters exactly."""
    at = torch.stack([torch.randperm(4, generator=g) for _ in range(3)])
    return torch.tensor([0.5, 0.25, 0.125, 0.125])[at], 0.75


def _fixed_number(p: Tensor, top_p: float) -> Tensor:
    order = p.argsort(descending=True)[:, :2]
    kept = torch.zeros_like(p).scatter(-1, order, p.gather(-1, order))
    return kept / kept.sum(-1, keepdim=True)


def _threshold(p: Tensor, top_p: float) -> Tensor:
    kept = torch.where(p >= (1 - top_p) * p.amax(-1, keepdim=True), p, 0.0)
    return kept / kept.sum(-1, keepdim=True)


nucleus = close(
    "nucleus",
    _nucleus,
    {
        "": _nucleus_inputs(6, 8, 0.6, 0.9),
        "a top_p that one token reaches": _nucleus_inputs(3, 5, 0.02, 0.1),
        "a top_p near 1": _nucleus_inputs(4, 9, 0.97, 0.99),
        "two equal tokens, and the others reach top_p": _equal_tokens,
    },
    [
        Mistake(_kept, "right tokens, but what is left does not sum to 1: renormalise"),
        Mistake(
            _without_the_last,
            "the token that crosses top_p belongs to the nucleus: together they reach it",
        ),
        Mistake(
            lambda p, top_p: _nucleus(p, top_p).sort(descending=True).values,
            "these are sorted: bring every probability back to its own token",
        ),
        Mistake(
            lambda p, top_p: p**top_p / (p**top_p).sum(-1, keepdim=True),
            "this is a temperature: top-p excludes tokens and keeps the others' ratios",
        ),
        Mistake(
            _fixed_number, "this keeps two tokens everywhere (top-k); top-p may differ"
        ),
        Mistake(
            _threshold,
            "each token was compared with a limit: what counts is their sum, from the "
            "likeliest on",
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


def _without_overlap(tokens: Tensor) -> tuple[int, int]:
    counts, last = Counter(), None
    for pair in pairwise(tokens.tolist()):
        last = None if pair == last else pair  # in 2 2 2, the second one is used up
        counts[pair] += last is not None
    return counts.most_common(1)[0][0]


_PAIR_MISTAKES = [
    Mistake(
        _two_most_frequent_tokens,
        "these are the two most frequent tokens; count pairs of neighbours",
    ),
    Mistake(
        lambda tokens: _counts(tokens, step=2).most_common(1)[0][0],
        "pairs overlap: (x1, x2), (x2, x3), ...; you counted every second one",
    ),
    Mistake(
        lambda tokens: _most_frequent_pair(tokens)[::-1],
        "the pair is the wrong way round: the token on the left first",
    ),
    Mistake(
        _without_overlap,
        "2 2 2 holds the pair (2, 2) twice: in counting, pairs overlap",
    ),
]


def _tokens_with_one_winner(n: int, first: int) -> Inputs:
    """Draw tokens until the winner is alone and the first mistakes miss it."""

    def draw(g: torch.Generator) -> tuple[Tensor]:
        while True:
            tokens = torch.randint(first, first + 6, (n,), generator=g)
            (best, most), (_, second) = _counts(tokens).most_common(2)
            lucky = any(m.answer(tokens) == best for m in _PAIR_MISTAKES[:3])
            if most > second and not lucky:
                return (tokens,)

    return draw


def _runs(g: torch.Generator) -> tuple[Tensor]:
    """Tokens in which (a, a) wins by 5 to 4, but by overlaps only."""
    a, b, c, d = (torch.randperm(9, generator=g)[:4] + 1).tolist()
    return (torch.tensor([b, a, a, a, d, *[b, c] * 3, d, a, a, a, a, b, c]),)


most_frequent_pair = close(
    "most_frequent_pair",
    _most_frequent_pair,
    {
        "": _tokens_with_one_winner(60, 1),
        "tokens above 255": _tokens_with_one_winner(40, 1000),
        "runs of one token": _runs,
    },
    _PAIR_MISTAKES,
)


# 5. Merging it ----------------------------------------------------------------------------


def _merge_pair(tokens: Tensor, pair: tuple[int, int], new: int) -> Tensor:
    return torch.tensor(bpe.merge(tokens.tolist(), pair, new))


def _from_the_right(tokens: Tensor, pair: tuple[int, int], new: int) -> Tensor:
    return _merge_pair(tokens.flip(0), pair[::-1], new).flip(0)


def _only_once(tokens: Tensor, pair: tuple[int, int], new: int) -> Tensor:
    x = tokens.tolist()
    i = next((i for i in range(len(x)) if tuple(x[i : i + 2]) == pair), len(x))
    return torch.tensor([*x[:i], *[new][: len(x) - i], *x[i + 2 :]])


def _second_stays(tokens: Tensor, pair: tuple[int, int], new: int) -> Tensor:
    x = tokens.tolist()
    return torch.tensor(
        [new if tuple(x[i : i + 2]) == pair else x[i] for i in range(len(x))]
    )


def _two_digits(g: torch.Generator) -> tuple[Tensor, tuple[int, int], int]:
    """Draw tokens whose digits, written one after the other, look like the pair."""
    return torch.tensor([2, 12, 22])[torch.randint(3, (40,), generator=g)], (2, 2), 9


def _with_a_run(g: torch.Generator) -> tuple[Tensor, tuple[int, int], int]:
    """Draw tokens with 2 2 2 in them: the order of merging shows."""
    a, b = torch.randint(1, 5, (2, 12), generator=g)
    fixed = torch.tensor([3, 2, 2, 2, 4, 2, 2, 1])
    return torch.cat([a, fixed, b]), (2, 2), 9


def _at_both_ends(g: torch.Generator) -> tuple[Tensor, tuple[int, int], int]:
    """Two tokens in both orders; the pair is the first and the last thing in the text."""
    tokens = torch.randint(1, 5, (20,), generator=g)
    ends = torch.tensor([3, 1]), torch.tensor([2, 1, 3, 3, 1])  # 1 3 is not used up
    return torch.cat([ends[0], tokens, ends[1]]), (3, 1), 7


def _absent(g: torch.Generator) -> tuple[Tensor, tuple[int, int], int]:
    return torch.randint(1, 5, (9,), generator=g), (5, 6), 300


merge_pair = close(
    "merge_pair",
    _merge_pair,
    {
        "": _with_a_run,
        "the pair at both ends": _at_both_ends,
        "a pair that does not occur": _absent,
        "tokens of two digits": _two_digits,
    },
    [
        Mistake(_from_the_right, "merge from left to right: 2 2 2 becomes 9 2, not 2 9"),
        Mistake(_only_once, "replace every occurrence of the pair, not the first only"),
        Mistake(
            _second_stays,
            "after a merge both tokens are used up: go on behind the second one",
        ),
        Mistake(
            lambda tokens, pair, new: _merge_pair(tokens[:-1], pair, new),
            "the last token is lost: it has no right neighbour, but it stays",
        ),
        Mistake(
            lambda t, p, new: _merge_pair(_merge_pair(t, p, new), p[::-1], new),
            "1 3 is not the pair (3, 1): the left one has to come first",
        ),
    ],
)


# 6. A unit that compares ------------------------------------------------------------------


def _bits_per_byte(nats: float, tokens: int, text: str) -> float:
    return nats * tokens / (len(text.encode()) * math.log(2))


def _measured_text(letters: str, n: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple[float, int, str]:
        places = torch.randint(len(letters), (n,), generator=g).tolist()
        tokens = torch.randint(n // 3, n, (), generator=g).item()
        nats = 1 + 3 * torch.rand((), generator=g).item()
        return nats, tokens, "".join(letters[i] for i in places)

    return draw


bits_per_byte = close(
    "bits_per_byte",
    _bits_per_byte,
    {
        "": _measured_text("aeiou étàü 漢字Ω", 200),
        "a text of plain letters": _measured_text("abcdefgh ", 150),
    },
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
