"""Questions of the unit challenges/responsibility."""

import math

import torch
from torch import Tensor

from gdm_course.checks.question import Inputs, Mistake, close


def _normal(g: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=g)


def _between(g: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * torch.rand((), generator=g).item()


def _whole(g: torch.Generator, low: int, high: int) -> int:
    return int(torch.randint(low, high, (), generator=g))


# 1. How near is the nearest? --------------------------------------------------------------


def _sorted(x: Tensor, train: Tensor) -> Tensor:
    return (x[:, None] - train).norm(dim=2).sort(1).values


def _ratio(x: Tensor, train: Tensor) -> Tensor:
    d = _sorted(x, train.unique(dim=0))
    return d[:, 0] / d[:, 1]


def _samples(B: int, N: int, D: int, again: int = 0, copies: int = 0) -> Inputs:
    """Samples, and training examples of which some occur again, in any order."""

    def draw(g: torch.Generator) -> tuple[Tensor, Tensor]:
        train = _normal(g, N, D)
        x = _normal(g, B, D)
        x[:copies] = train[:copies] + 0.02 * x[:copies]
        train = torch.cat([train, train[:again], train[:again]])
        return x, train[torch.randperm(len(train), generator=g)]

    return draw


distance_ratio = close(
    "distance_ratio",
    _ratio,
    {
        "": _samples(7, 9, 3),
        "examples that occur three times": _samples(8, 6, 2, 6, 3),
        "near copies": _samples(5, 12, 4, 0, 4),
        "two examples": _samples(6, 2, 5),
    },
    [
        Mistake(
            lambda x, t: _sorted(x, t)[:, 0] / _sorted(x, t)[:, 1],
            "an example that occurs twice is its own second nearest: count it once",
        ),
        Mistake(
            lambda x, t: _ratio(x, t) ** 2,
            "these are squared distances: take the root of both",
        ),
        Mistake(
            lambda x, t: 1 / _ratio(x, t),
            "it is upside down: the nearest distance stands above, a copy has almost 0",
        ),
        Mistake(
            lambda x, t: _sorted(x, t)[:, 0],
            "this is the distance alone: without a second one nobody knows what is near",
        ),
        Mistake(
            lambda x, t: _sorted(x, t)[:, 0] / _sorted(x, t.unique(dim=0))[:, 1:].mean(1),
            "divide by the distance to the second nearest, not by the mean of the others",
        ),
    ],
    n=4,
)


# 2. Which is stranger? --------------------------------------------------------------------


def _auroc(normal: Tensor, strange: Tensor) -> Tensor:
    gap = strange[:, None] - normal
    return ((gap > 0).double() + 0.5 * (gap == 0).double()).mean()


def _scores(N: int, M: int, shift: float, base: float = 0.0) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, Tensor]:
        return base + 2 * _normal(g, N), base + 2 * _normal(g, M) + shift

    return draw


def _grades(N: int, M: int, highest: int) -> Inputs:
    """Whole numbers; both groups hold the highest, or a curve may lose its first piece."""

    def draw(g: torch.Generator) -> tuple[Tensor, Tensor]:
        a, b = (torch.randint(highest + 1, (n,), generator=g) for n in (N, M))
        a[_whole(g, 0, N)] = b[_whole(g, 0, M)] = highest
        return a.float(), b.float()

    return draw


auroc = close(
    "auroc",
    _auroc,
    {
        "": _scores(9, 9, 1.0),
        "unequal numbers": _scores(6, 17, 0.5),
        "ties": _grades(14, 8, 3),
        "many ties": _grades(9, 16, 1),
        "the wrong way round": _scores(11, 5, -6.0),
        "far from 0": _scores(7, 12, 1.0, -50.0),
    },
    [
        Mistake(
            lambda a, b: (b[:, None] > a).double().mean(),
            "equal scores count half, not nothing",
        ),
        Mistake(
            lambda a, b: (b[:, None] >= a).double().mean(),
            "equal scores count half, not fully",
        ),
        Mistake(
            lambda a, b: _auroc(b, a),
            "it is the wrong way round: a pair counts where the strange one scores higher",
        ),
        Mistake(
            lambda a, b: _auroc(a, b).clamp_min(1 - _auroc(a, b)),
            "below 1/2 stays below 1/2: a score that is the wrong way round is to be seen",
        ),
        Mistake(
            lambda a, b: (
                _auroc(a[: len(b)], b[: len(a)])
                if len(a) != len(b)
                else (b > a).double().mean()
            ),
            "all pairs count: each strange score against each normal one",
        ),
    ],
    n=6,
)


# 3. As likely as usual? -------------------------------------------------------------------


def _surprise(x: Tensor, mu: Tensor, sigma: Tensor) -> Tensor:
    D = x.shape[1]
    return (((x - mu) / sigma).square().sum(1) - D) / math.sqrt(2 * D)


def _points(B: int, D: int, wide: float = 1.0, at_mode: bool = False) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        mu, sigma = _normal(g, D), 0.3 + 2 * torch.rand(D, generator=g)
        x = mu + wide * sigma * _normal(g, B, D)
        x[: B if at_mode else 0] = mu
        return x, mu, sigma

    return draw


surprise = close(
    "surprise",
    _surprise,
    {
        "": _points(6, 5),
        "many dimensions": _points(3, 64),
        "the mode": _points(2, 20, at_mode=True),
        "one dimension": _points(8, 1),
        "too far out": _points(4, 9, 2.0),
    },
    [
        Mistake(
            lambda x, mu, sigma: _surprise(x, mu, sigma).abs(),
            "keep the sign: too likely is negative, too unlikely positive",
        ),
        Mistake(
            lambda x, mu, sigma: -_surprise(x, mu, sigma),
            "the sign is wrong: it is -log p that is compared with its mean",
        ),
        Mistake(
            lambda x, mu, sigma: (
                _surprise(x, mu, sigma) * math.sqrt(2 * x.shape[1]) / x.shape[1]
            ),
            "divide by the standard deviation sqrt(D / 2), the root of the variance",
        ),
        Mistake(
            lambda x, mu, sigma: _surprise(x, mu, sigma) * math.sqrt(x.shape[1] / 2),
            "this is in nats: divide by the standard deviation sqrt(D / 2)",
        ),
        Mistake(
            lambda x, mu, sigma: (
                _surprise(x, mu, sigma) + x.shape[1] / math.sqrt(2 * x.shape[1])
            ),
            "this compares with the mode: usual is the mean of -log p, the entropy",
        ),
        Mistake(
            lambda x, mu, sigma: (
                (((x - mu).square() / sigma).sum(1) - x.shape[1])
                / math.sqrt(2 * x.shape[1])
            ),
            "sigma is a standard deviation: squares are divided by sigma^2",
        ),
    ],
    n=5,
)


# 4. Less what there is to tell ------------------------------------------------------------


def _excess(nll: Tensor, size: Tensor, D: int) -> Tensor:
    return (nll / math.log(2) - 8 * size) / D


def _lengths(B: int, D: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, Tensor, int]:
        dims = D + _whole(g, 0, 9)
        nll = dims * (0.5 + 2 * torch.rand(B, generator=g))
        return nll, torch.randint(dims // 9, dims // 2, (B,), generator=g), dims

    return draw


excess_bits = close(
    "excess_bits",
    _excess,
    {"": _lengths(5, 784), "one picture": _lengths(1, 64), "large": _lengths(3, 3072)},
    [
        Mistake(
            lambda nll, size, D: (nll - 8 * size) / D,
            "nats less bits: divide the nats by log 2 first",
        ),
        Mistake(lambda nll, size, D: (nll / math.log(2) - size) / D, "a byte has 8 bits"),
        Mistake(
            lambda nll, size, D: (nll / math.log(2) + 8 * size) / D,
            "what there is to tell is taken away from -log p, not added",
        ),
        Mistake(
            lambda nll, size, D: -_excess(nll, size, D),
            "the sign is wrong: large means that the model needs more than the packer",
        ),
        Mistake(
            lambda nll, size, D: _excess(nll, size, D) * D,
            "this is per picture: divide by the number of pixels",
        ),
        Mistake(
            lambda nll, size, D: nll / math.log(2) - 8 * size / D,
            "both parts are divided by the number of pixels",
        ),
    ],
)


# 5. How green is it? ----------------------------------------------------------------------


def _z(hits: Tensor | int, n: int, share: float) -> Tensor:
    return (torch.as_tensor(hits) - share * n) / math.sqrt(share * (1 - share) * n)


def _pairs(x: Tensor, once: bool = True) -> tuple[Tensor, Tensor]:
    pairs = torch.stack([x[:-1], x[1:]], 1)
    return (pairs.unique(dim=0) if once else pairs).unbind(1)


def _green_z(x: Tensor, green: Tensor, share: float, once: bool = True) -> Tensor:
    a, b = _pairs(x, once)
    return _z(green[a, b].sum(), len(a), share)


def _by_tokens(x, green, share):
    a, b = _pairs(x)
    return _z(green[a, b].sum(), len(x), share)


def _alphabet(T: int, K: int, share: float) -> Inputs:
    """A text that repeats itself, and a list that has about that share of green pairs."""

    def draw(g: torch.Generator) -> tuple[Tensor, Tensor, float]:
        gamma = share + _between(g, -0.05, 0.05)
        x = torch.randint(K, (T,), generator=g)
        return torch.cat([x, x[: T // 2]]), torch.rand(K, K, generator=g) < gamma, gamma

    return draw


green_z = close(
    "green_z",
    _green_z,
    {
        "": _alphabet(30, 9, 0.25),
        "half of the pairs are green": _alphabet(80, 20, 0.5),
        "two tokens": _alphabet(21, 2, 0.4),
        "few are green": _alphabet(60, 12, 0.1),
    },
    [
        Mistake(
            lambda x, green, share: _green_z(x, green, share, once=False),
            "a pair that occurs again is no new evidence: count different pairs",
        ),
        Mistake(
            lambda x, green, share: _green_z(x, green, 0.5),
            "gamma is what the list was drawn with, not always 1/2",
        ),
        Mistake(
            lambda x, green, share: _green_z(x, green.T, share),
            "the list is green[token before, token], in this order",
        ),
        Mistake(_by_tokens, "n is the number of pairs, not of tokens"),
        Mistake(
            lambda x, green, share: _green_z(x, green, share) / math.sqrt(1 - share),
            "the variance of a count is gamma (1 - gamma) n",
        ),
    ],
    n=4,
)


# 6. By chance? ----------------------------------------------------------------------------


def _tail(hits: int, n: int, share: float) -> Tensor:
    k = torch.arange(hits, n + 1, dtype=torch.float64)
    ways = math.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
    log_p = ways + k * math.log(share) + (n - k) * math.log1p(-share)
    return log_p.logsumexp(0).exp().clamp(max=1) if len(k) else torch.zeros(()).double()


def _normal_tail(hits: int, n: int, share: float) -> Tensor:
    return torch.special.ndtr(-_z(hits, n, share).double())


def _counts(low: int, high: int, sds: tuple[float, float]) -> Inputs:
    """Counts some standard deviations above what is expected."""

    def draw(g: torch.Generator) -> tuple[int, int, float]:
        n, share = _whole(g, low, high), _between(g, 0.15, 0.6)
        above = _between(g, *sds) * math.sqrt(share * (1 - share) * n)
        return min(n, max(1, round(share * n + above))), n, share

    return draw


def _edge(all_of_them: bool) -> Inputs:
    def draw(g: torch.Generator) -> tuple[int, int, float]:
        n = _whole(g, 3, 9)
        return n if all_of_them else 0, n, _between(g, 0.15, 0.45)

    return draw


binomial_tail = close(
    "binomial_tail",
    _tail,
    {
        "": _counts(20, 60, (0.5, 2)),
        "few": _counts(5, 12, (0, 1.5)),
        "a long text": _counts(2500, 4000, (1, 3)),
        "no green pair is enough": _edge(False),
        "all of them": _edge(True),
        "fewer than expected": _counts(30, 90, (-2, -0.5)),
    },
    [
        Mistake(
            lambda hits, n, share: _tail(hits + 1, n, share),
            "as many green ones, or more: the case of exactly as many counts, too",
        ),
        Mistake(
            _normal_tail,
            "this is the bell curve: the tail of the binomial law itself is wanted",
        ),
        Mistake(
            lambda hits, n, share: _tail(hits, n, share) - _tail(hits + 1, n, share),
            "this is the probability of exactly as many: those of more belong to it",
        ),
        Mistake(
            lambda hits, n, share: 1 - _tail(hits + 1, n, share),
            "this is the other end: as many or fewer",
        ),
        Mistake(
            lambda hits, n, share: (2 * _tail(hits, n, share)).clamp(max=1),
            "one side only: too few green pairs are no sign of a mark",
        ),
        Mistake(
            lambda hits, n, share: _tail(hits, n, 0.5),
            "gamma is what the list was drawn with, not always 1/2",
        ),
    ],
    n=6,
    rtol=1e-3,
    atol=1e-9,
)
