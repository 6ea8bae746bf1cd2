"""Questions of the unit challenges/six_families."""

import math

import torch
from torch import Tensor

from gdm_course.checks.question import Inputs, Mistake, close


def _normal(g: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=g)


def _whole(g: torch.Generator, low: int, high: int) -> int:
    return torch.randint(low, high, (), generator=g).item()


# 1. From a density to bits ----------------------------------------------------------------


def _bits(log_p: Tensor, D: int, levels: int, low: float, high: float) -> Tensor:
    return -(log_p + D * math.log((high - low) / levels)) / (D * math.log(2))


def _densities(D: int, levels: int | None, low: float | None, high: float) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, int, int, float, float]:
        start = -3 * torch.rand((), generator=g).item() if low is None else low
        K = _whole(g, 3, 40) if levels is None else levels
        log_p = D * (1 + _normal(g, _whole(g, 2, 9)))
        return log_p, D + _whole(g, 0, 3), K, start, high

    return draw


bits_of_density = close(
    "bits_of_density",
    _bits,
    {
        "": _densities(10, None, None, 1.0),
        "codes as they are": _densities(64, 17, 0.0, 17.0),
        "two levels from 0 to 1": _densities(784, 2, 0.0, 1.0),
        "256 levels from -1 to 1": _densities(100, 256, -1.0, 1.0),
    },
    [
        Mistake(
            lambda log_p, D, levels, low, high: -log_p / (D * math.log(2)),
            "this is the density of real numbers: it changes with their scale; a code has "
            "the whole volume of its cell, so add D times the log of a cell's width",
        ),
        Mistake(
            lambda log_p, D, levels, low, high: (
                (D * math.log((high - low) / levels) - log_p) / (D * math.log(2))
            ),
            "the sign of the volume is wrong: P of a code is density times volume",
        ),
        Mistake(
            lambda log_p, D, levels, low, high: (
                -(log_p + math.log((high - low) / levels)) / (D * math.log(2))
            ),
            "the cell has D sides: its volume is the width to the power of D",
        ),
        Mistake(
            lambda log_p, D, levels, low, high: _bits(log_p, D, levels - 1, low, high),
            "with noise there are as many cells as levels, not one less",
        ),
        Mistake(
            lambda log_p, D, levels, low, high: _bits(log_p, D, levels, 0.0, 1.0),
            "the cells lie between low and high, not between 0 and 1",
        ),
        Mistake(
            lambda log_p, D, levels, low, high: (
                _bits(log_p, D, levels, low, high) * math.log(2)
            ),
            "these are nats: divide by log 2",
        ),
        Mistake(
            lambda log_p, D, levels, low, high: D * _bits(log_p, D, levels, low, high),
            "these are bits per example: divide by D, too",
        ),
    ],
)


# 2. The same examples ---------------------------------------------------------------------


def _paired(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    gap = a - b
    return gap.mean(), gap.std() / len(gap) ** 0.5


def _pair(n: int, hard: float = 5.0) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, Tensor]:
        same = 20 + hard * _normal(g, n)
        return same + _normal(g, n), same + 0.5 + 0.3 * _normal(g, n)

    return draw


paired_difference = close(
    "paired_difference",
    _paired,
    {"": _pair(9), "three examples": _pair(3), "many": _pair(200, 20.0)},
    [
        Mistake(
            lambda a, b: (a.mean() - b.mean(), ((a.var() + b.var()) / len(a)).sqrt()),
            "this is the error of two independent samples: here both models see the same "
            "examples, so take the spread of the differences",
        ),
        Mistake(
            lambda a, b: ((a - b).mean(), (a - b).std()),
            "this is the spread of one difference; the mean of n is surer by sqrt(n)",
        ),
        Mistake(
            lambda a, b: ((a - b).mean(), (a - b).std(correction=0) / len(a) ** 0.5),
            "divide the squares by n - 1: the mean was taken from the same n numbers",
        ),
        Mistake(
            lambda a, b: ((b - a).mean(), (b - a).std() / len(a) ** 0.5),
            "the difference is a - b: negative if a is the better one",
        ),
        Mistake(
            lambda a, b: ((a - b).mean(), (a - b).std() / len(a)),
            "the error falls with the root of n, not with n",
        ),
        Mistake(
            lambda a, b: ((a - b).mean(), (a - b).var() / len(a)),
            "this is the square of the standard error",
        ),
        Mistake(
            lambda a, b: ((a - b).abs().mean(), (a - b).std() / len(a) ** 0.5),
            "where a is better and where it is worse must cancel: no absolute values",
        ),
    ],
)


# 3. What is proven ------------------------------------------------------------------------


def _proven(gap: Tensor, error: Tensor, a_exact: Tensor, b_exact: Tensor) -> Tensor:
    a_wins = b_exact.bool() & (gap < -2 * error)
    b_wins = a_exact.bool() & (gap > 2 * error)
    return a_wins.long() - b_wins.long()


def _claims(n: int) -> Inputs:
    """Gaps of 0.4 to 3.6 errors both ways, some near two, under all kinds of figures."""

    def draw(g: torch.Generator) -> tuple[Tensor, ...]:
        error = 0.1 + torch.rand(20 * n, generator=g)
        size = torch.tensor([0.5, 1.5, 1.98, 2.02, 3.0]).repeat_interleave(4).repeat(n)
        wide = torch.tensor([0.2, 0.2, 0.005, 0.005, 0.2]).repeat_interleave(4).repeat(n)
        sign = torch.randint(2, (20 * n,), generator=g) * 2 - 1
        jitter = 1 + wide * (2 * torch.rand(20 * n, generator=g) - 1)
        kinds = torch.arange(4).repeat(5 * n)
        return sign * size * jitter * error, error, kinds // 2 == 1, kinds % 2 == 1

    return draw


proven = close(
    "proven",
    _proven,
    {"": _claims(4), "once more": _claims(8)},
    [
        Mistake(
            lambda gap, error, a, b: (gap < -2 * error).long() - (gap > 2 * error).long(),
            "who has the lower figure is not always the better one: a bound may be as "
            "loose as it likes, so the loser's figure has to be exact",
        ),
        Mistake(
            lambda gap, error, a, b: _proven(gap, error, b, a),
            "the other way round: the *loser's* figure has to be exact; the winner's may "
            "be a bound, for the truth is better still",
        ),
        Mistake(
            lambda gap, error, a, b: _proven(gap, error, a & b, a & b),
            "both need not be exact: the winner may have an upper bound",
        ),
        Mistake(
            lambda gap, error, a, b: _proven(gap, error / 2, a, b),
            "one standard error is not enough here: two are asked for",
        ),
        Mistake(
            lambda gap, error, a, b: _proven(gap, 0.98 * error, a, b),
            "two errors are asked for, not 1.96",
        ),
        Mistake(
            lambda gap, error, a, b: -_proven(gap, error, a, b),
            "these are costs, -log P: the lower one is better, and a gap a - b below 0 "
            "speaks for a",
        ),
        Mistake(
            lambda gap, error, a, b: _proven(gap, 0 * error, a, b),
            "a gap within its error proves nothing: return 0",
        ),
    ],
)


# 4. What a call has cost ------------------------------------------------------------------


def _evaluations(network: Tensor, rows: Tensor, B: int, K: int) -> tuple[Tensor, Tensor]:
    each = torch.bincount(network, weights=rows.double(), minlength=K) / B
    return each, torch.bincount(network, minlength=K).double()


def _log(calls: int, K: int, called: int) -> Inputs:
    """So many calls of the first networks of K."""

    def draw(g: torch.Generator) -> tuple[Tensor, Tensor, int, int]:
        network = torch.randint(called, (calls,), generator=g)
        B = _whole(g, 3, 9)
        rows = B * torch.randint(1, 6, (calls,), generator=g)
        rows[0] += 1 + _whole(g, 0, B - 1)  # a last batch that B does not divide
        return network, rows, B, K

    return draw


evaluations = close(
    "evaluations",
    _evaluations,
    {
        "": _log(12, 3, 3),
        "a network that is never called": _log(9, 5, 3),
        "one network": _log(4, 1, 1),
    },
    [
        Mistake(
            lambda network, rows, B, K: (
                torch.bincount(network, minlength=K).double(),
                torch.bincount(network, minlength=K).double(),
            ),
            "a call may look at many rows at once: 64 draws in one call are 64 evaluations",
        ),
        Mistake(
            lambda network, rows, B, K: (lambda each, calls: (each * B, calls))(
                *_evaluations(network, rows, B, K)
            ),
            "this is for all B examples together: divide by B",
        ),
        Mistake(
            lambda network, rows, B, K: (lambda each, calls: (each.floor(), calls))(
                *_evaluations(network, rows, B, K)
            ),
            "evaluations per example need not be whole: do not round",
        ),
        Mistake(
            lambda network, rows, B, K: _evaluations(network, rows, B, 1),
            "a network that was never called has 0 evaluations: K numbers are asked for",
        ),
        Mistake(
            lambda network, rows, B, K: (
                lambda each, calls: (each / calls.clamp_min(1), calls)
            )(*_evaluations(network, rows, B, K)),
            "this is the mean of a call: add up the calls of each network",
        ),
        Mistake(
            lambda network, rows, B, K: (lambda each, calls: (calls, each))(
                *_evaluations(network, rows, B, K)
            ),
            "evaluations per example come first, the calls second",
        ),
    ],
)


# 5. Whom nobody beats ---------------------------------------------------------------------


def _front(distance: Tensor, cost: Tensor) -> Tensor:
    d, c = distance, cost
    no_worse = (d[:, None] <= d) & (c[:, None] <= c)  # row beats column, or equals it
    better = (d[:, None] < d) | (c[:, None] < c)
    return ~(no_worse & better).any(0)


def _points(n: int, high: int, twin: bool = False) -> Inputs:
    """Whole numbers, so that there are ties; with `twin`, the best point comes twice."""

    def draw(g: torch.Generator) -> tuple[Tensor, Tensor]:
        d, c = torch.randint(1, high, (2, n), generator=g).float()
        if twin:
            best = (d + c).argmin()
            d, c = torch.cat([d, d[best, None]]), torch.cat([c, c[best, None]])
        return d, c

    return draw


def _staircase(g: torch.Generator) -> tuple[Tensor, Tensor]:
    """A front of four, and on each step one that ties in one figure and loses the other."""
    d, c = torch.arange(4.0) ** 2, (3 - torch.arange(4.0)) ** 2
    d, c = torch.cat([d, d + 0.5, d]), torch.cat([c, c, c + 0.5])
    order = torch.randperm(12, generator=g)
    return d[order], c[order]


pareto_front = close(
    "pareto_front",
    _front,
    {
        "": _points(30, 30),
        "ties": _points(10, 5),
        "two equal points": _points(6, 9, twin=True),
        "points that lose in one figure only": _staircase,
    },
    [
        Mistake(
            lambda d, c: (
                ~((d[:, None] <= d) & (c[:, None] <= c)).fill_diagonal_(False).any(0)
            ),
            "two equal points do not beat each other: to beat, one has to be better in one",
        ),
        Mistake(
            lambda d, c: ~((d[:, None] <= d) & (c[:, None] <= c)).any(0),
            "every point is as good as itself: that does not beat it",
        ),
        Mistake(
            lambda d, c: ~((d[:, None] < d) & (c[:, None] < c)).any(0),
            "as good in one and better in the other is enough to beat",
        ),
        Mistake(
            lambda d, c: _front(-d, -c),
            "both are costs: lower is better",
        ),
        Mistake(
            lambda d, c: ~_front(d, c),
            "True is for those on the front, whom nobody beats",
        ),
        Mistake(
            lambda d, c: (d == d.min()) | (c == c.min()),
            "the front has more than the two ends: a good compromise is beaten by neither",
        ),
    ],
    n=8,
)


# 6. How much a bit is ---------------------------------------------------------------------


def _ratio(bits_a: Tensor, bits_b: Tensor, D: int) -> tuple[Tensor, Tensor]:
    return D * (bits_b - bits_a) * math.log10(2), 2**bits_a


def _figures(D: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, Tensor, int]:
        N = _whole(g, 2, 7)
        a = 1.5 + torch.rand(N, generator=g)
        return a, a + 0.5 * _normal(g, N), D + _whole(g, 0, 5)

    return draw


times_likelier = close(
    "times_likelier",
    _ratio,
    {"": _figures(20), "8 x 8 pixels": _figures(60), "a large picture": _figures(50_000)},
    [
        Mistake(
            lambda a, b, D: (D * (a - b) * math.log10(2), 2**a),
            "fewer bits are likelier: a is likelier if bits_a is below bits_b",
        ),
        Mistake(
            lambda a, b, D: ((b - a) * math.log10(2), 2**a),
            "bits per dimension are shared out: all D dimensions count",
        ),
        Mistake(
            lambda a, b, D: (D * (b - a), 2**a),
            "this is log2 of the ratio: powers of ten are asked for",
        ),
        Mistake(
            lambda a, b, D: (D * (b - a) * math.log(2), 2**a),
            "this is the natural log of the ratio: powers of ten are asked for",
        ),
        Mistake(
            lambda a, b, D: (torch.log10(2 ** (D * (b - a))), 2**a),
            "the ratio itself does not fit into a float for a large picture: stay in logs",
        ),
        Mistake(
            lambda a, b, D: (D * (b - a) * math.log10(2), a.exp()),
            "bits are powers of two: the perplexity is 2^bits",
        ),
        Mistake(
            lambda a, b, D: (D * (b - a) * math.log10(2), 2**b),
            "the perplexity of model a is asked for",
        ),
    ],
)
