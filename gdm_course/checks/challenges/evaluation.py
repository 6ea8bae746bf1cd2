"""Questions of the unit challenges/evaluation."""

import math

import torch
from torch import Tensor

from gdm_course.challenges.watermark import binomial_tail
from gdm_course.checks.question import Inputs, Mistake, close


def _normal(g: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=g)


# 1. Sure, and of many kinds ---------------------------------------------------------------


def _nats(logits: Tensor) -> Tensor:
    log_p = logits.log_softmax(-1)
    log_mean = log_p.logsumexp(0) - math.log(len(log_p))
    return (log_p.exp() * (log_p - log_mean)).sum(-1)


def _score(logits: Tensor) -> Tensor:
    return _nats(logits).mean().exp()


def _reversed(logits: Tensor) -> Tensor:
    log_p = logits.log_softmax(-1)
    log_mean = log_p.logsumexp(0) - math.log(len(log_p))
    return (log_mean.exp() * (log_mean - log_p)).sum(-1).mean().exp()


def _of_mean_logits(logits: Tensor) -> Tensor:
    log_p, log_mean = logits.log_softmax(-1), logits.mean(0).log_softmax(-1)
    return (log_p.exp() * (log_p - log_mean)).sum(-1).mean().exp()


def _by_logs(logits: Tensor) -> Tensor:
    p = logits.softmax(-1)
    return (p * (p.log() - p.mean(0).log())).sum(-1).mean().exp()


def _opinions(B: int, K: int, size: float = 2.0) -> Inputs:
    return lambda g: (size * _normal(g, B, K),)


inception_score = close(
    "inception_score",
    _score,
    {
        "": _opinions(8, 5),
        "two classes": _opinions(6, 2),
        "logits in the hundreds": _opinions(9, 4, 400.0),
    },
    [
        Mistake(
            lambda logits: _nats(logits).mean(),
            "this is the mean divergence in nats: the score is its exponential",
        ),
        Mistake(
            lambda logits: _nats(logits).exp().mean(),
            "the mean comes first, then the exponential",
        ),
        Mistake(_reversed, "the divergence is that of p(y|x) from p(y), not back"),
        Mistake(
            _of_mean_logits,
            "p(y) is the mean of the probabilities, not the softmax of mean logits",
        ),
        Mistake(
            _by_logs,
            "a probability that is 0 in float32 has no log: start from log_softmax",
        ),
    ],
    n=4,
)


# 2. Two Gaussians -------------------------------------------------------------------------


def _cov(x: Tensor, less: int = 1) -> Tensor:
    x = x - x.mean(0)
    return x.T @ x / (len(x) - less)


def _root(C: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(C)
    return vectors * values.clamp_min(0).sqrt() @ vectors.T


def _gap(a: Tensor, b: Tensor) -> Tensor:
    return (a.mean(0) - b.mean(0)).square().sum()


def _frechet(a: Tensor, b: Tensor, less: int = 1, times: float = 2.0) -> Tensor:
    A, B = _cov(a, less), _cov(b, less)
    root = _root(A)
    cross = torch.linalg.eigvalsh(root @ B @ root).clamp_min(0).sqrt().sum()
    return _gap(a, b) + A.trace() + B.trace() - times * cross


def _double(f):
    return lambda a, b: f(a.double(), b.double())


def _tables(n: int, m: int, K: int, far: float = 1.0) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, Tensor]:
        mixes = _normal(g, 2, K, K) + torch.eye(K)
        a, b = _normal(g, n, K) @ mixes[0], _normal(g, m, K) @ mixes[1]
        return a + far + _normal(g, K), b + far

    return draw


frechet = close(
    "frechet",
    _double(_frechet),
    {
        "": _tables(9, 9, 3),
        "samples of unequal size": _tables(8, 14, 4),
        "one feature": _tables(6, 5, 1),
        "features in the millions": _tables(12, 9, 2, 1e6),
    },
    [
        Mistake(
            _frechet,
            "in float32 large features lose their spread: convert both to float64 first",
        ),
        Mistake(_double(lambda a, b: _frechet(a, b, 0)), "divide a covariance by n - 1"),
        Mistake(
            _double(lambda a, b: _gap(a, b) + (_cov(a) - _cov(b)).square().sum()),
            "this is the squared distance of the covariances, not that of the Gaussians",
        ),
        Mistake(
            _double(
                lambda a, b: (
                    _gap(a, b)
                    + (_cov(a) + _cov(b) - 2 * (_cov(a) * _cov(b)).abs().sqrt()).trace()
                )
            ),
            "the root is that of a matrix, not of each of its entries",
        ),
        Mistake(_double(lambda a, b: _frechet(a, b, times=1.0)), "twice the cross term"),
        Mistake(
            _double(lambda a, b: _frechet(a, b).clamp_min(0).sqrt()),
            "what is reported is the square of the distance: no root at the end",
        ),
    ],
    n=4,
)


# 3. Third moments -------------------------------------------------------------------------


def _kernel(x: Tensor, y: Tensor, gamma: bool = True, power: int = 3) -> Tensor:
    return (x @ y.T / (x.shape[1] if gamma else 1) + 1) ** power


def _kid(a: Tensor, b: Tensor, own: bool = False, times: int = 2, **more) -> Tensor:
    def within(x: Tensor) -> Tensor:
        k, n = _kernel(x, x, **more), len(x)
        return k.mean() if own else (k.sum() - k.trace()) / (n * (n - 1))

    return within(a) + within(b) - times * _kernel(a, b, **more).mean()


def _pairs(n: int, m: int, K: int) -> Inputs:
    return lambda g: (_normal(g, n, K), 0.5 + 1.3 * _normal(g, m, K))


kid = close(
    "kid",
    _kid,
    {
        "": _pairs(7, 7, 3),
        "samples of unequal size": _pairs(4, 9, 2),
        "an estimate below 0": lambda g: ((a := _normal(g, 6, 3)), a.flip(0)),
    },
    [
        Mistake(
            lambda a, b: _kid(a, b, own=True),
            "a row and itself are no pair: leave out the diagonal, divide by n (n - 1)",
        ),
        Mistake(
            lambda a, b: _kid(a, b, gamma=False),
            "the inner product is divided by the number of features K",
        ),
        Mistake(lambda a, b: _kid(a, b, power=2), "the kernel is cubic"),
        Mistake(lambda a, b: _kid(a, b, times=1), "twice the mean across both tables"),
        Mistake(
            lambda a, b: _kid(a, b).abs().sqrt(),
            "return MMD^2 itself: it may be negative, so no root",
        ),
    ],
    n=6,
)


# 4. Quality and variety -------------------------------------------------------------------


def _reach(x: Tensor, k: int) -> Tensor:
    return torch.cdist(x, x).kthvalue(k + 1).values


def _inside(x: Tensor, centres: Tensor, reach: Tensor) -> Tensor:
    return (torch.cdist(x, centres) < reach).any(1).double().mean()


def _pr(real: Tensor, fake: Tensor, k: int) -> tuple[Tensor, Tensor]:
    return _inside(fake, real, _reach(real, k)), _inside(real, fake, _reach(fake, k))


def _touching(real: Tensor, fake: Tensor, k: int) -> tuple[Tensor, Tensor]:
    far, r, f = torch.cdist(real, fake), _reach(real, k), _reach(fake, k)
    one, other = (r >= far.T).any(1), (far <= f).any(1)
    return one.double().mean(), other.double().mean()


def _own_radius(real: Tensor, fake: Tensor, k: int) -> tuple[Tensor, Tensor]:
    far, r, f = torch.cdist(real, fake), _reach(real, k), _reach(fake, k)
    return (far < f).any(0).double().mean(), (r > far.T).any(0).double().mean()


def _crowds(n: int, m: int, k: int, K: int = 2, size: float = 1.6) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, Tensor, int]:
        return _normal(g, n, K), size * _normal(g, m, K) + 0.8, k

    return draw


def _line(g: torch.Generator) -> tuple[Tensor, Tensor, int]:
    """Samples that lie exactly on the rim of real balls, and real points on theirs."""
    real = torch.tensor([[0.0], [1.0], [2.0], [3.0], [40.0], [41.0], [42.0]])
    fake = torch.tensor([[4.0], [5.0], [6.0], [7.0], [39.0], [38.0], [37.0]])
    shift = torch.randint(-9, 10, (), generator=g)
    order = torch.randperm(7, generator=g)
    return real[order] + shift, fake[order] + shift, 1


precision_recall = close(
    "precision_recall",
    _pr,
    {
        "": _crowds(14, 14, 2),
        "samples of unequal size": _crowds(9, 17, 3, 3),
        "samples on the rim of balls": _line,
        "narrow samples": _crowds(12, 15, 1, 2, 0.5),
    },
    [
        Mistake(
            lambda real, fake, k: _pr(real, fake, k)[::-1],
            "precision and recall are exchanged: precision counts samples",
        ),
        Mistake(
            lambda real, fake, k: _pr(real, fake, k - 1),
            "a point is no neighbour of its own: the k-th neighbour is the (k + 1)-th "
            "smallest distance in a row, for the first is 0",
        ),
        Mistake(_touching, "a point on the rim is not inside: the distance is less"),
        Mistake(
            _own_radius,
            "a ball belongs to its centre: its radius is the centre's, not the visitor's",
        ),
        Mistake(
            lambda real, fake, k: (
                (torch.cdist(fake, real) < _reach(real, k)).double().mean(),
                (torch.cdist(real, fake) < _reach(fake, k)).double().mean(),
            ),
            "one ball is enough: count points that are in any, not pairs",
        ),
    ],
    n=12,
)


# 5. More than chance ----------------------------------------------------------------------


def _tail(right: int, n: int) -> float:
    return binomial_tail(right, n, 0.5) if right <= n else 0.0  # withheld, too


def _by_bell(right: int, n: int) -> float:
    return math.erfc((right - n / 2) / math.sqrt(n / 2)) / 2


def _counts(low: int, high: int, z: float) -> Inputs:
    """How many of n are right, up to z standard deviations from n / 2."""

    def draw(g: torch.Generator) -> tuple[int, int]:
        n = torch.randint(low, high, (), generator=g).item()
        by = z * (2 * torch.rand((), generator=g).item() - 1)
        return round(n / 2 + by * math.sqrt(n) / 2), n

    return draw


c2st_p_value = close(
    "c2st_p_value",
    _tail,
    {
        "": _counts(30, 80, 1.5),
        "more than a thousand rows": _counts(1100, 1300, 1.5),
        "none right": lambda g: (0, torch.randint(5, 30, (), generator=g).item()),
        "all right": lambda g: (n := torch.randint(4, 9, (), generator=g).item(), n),
    },
    [
        Mistake(
            lambda right, n: _tail(right + 1, n),
            "so many or more: the count itself belongs to the tail",
        ),
        Mistake(
            lambda right, n: min(1.0, 2 * _tail(max(right, n - right), n)),
            "one-sided: a classifier that is wrong more often than right proves nothing",
        ),
        Mistake(
            lambda right, n: _by_bell(right - 0.5, n),
            "the bell's tail is an approximation, half a count better too",
        ),
    ],
    n=8,
)


# 6. Nearer than unseen data ---------------------------------------------------------------


def _u(d_held: Tensor, d_fake: Tensor, tie: float = 0.5) -> Tensor:
    gap = d_held[:, None] - d_fake
    return (gap > 0).double().mean() + tie * (gap == 0).double().mean()


def _z(share: Tensor, n: int, m: int) -> Tensor:
    return (share - 0.5) / math.sqrt((n + m + 1) / (12 * n * m))


def _copying(d_held: Tensor, d_fake: Tensor) -> tuple[Tensor, Tensor]:
    return _with(_u(d_held, d_fake), d_held, d_fake)


def _with(share: Tensor, d_held: Tensor, d_fake: Tensor) -> tuple[Tensor, Tensor]:
    return share, _z(share, len(d_held), len(d_fake))


def _wide(d_held: Tensor, d_fake: Tensor) -> tuple[Tensor, Tensor]:
    share, n = _u(d_held, d_fake), len(d_held) * len(d_fake)
    return share, (share - 0.5) * 2 * math.sqrt(n)


def _paired(d_held: Tensor, d_fake: Tensor) -> tuple[Tensor, Tensor]:
    n = min(len(d_held), len(d_fake))
    gap = d_held[:n] - d_fake[:n]
    return _with((gap > 0).double().mean() + (gap == 0).double().mean() / 2, d_held, d_fake)


def _distances(n: int, m: int, copies: int = 0, size: float = 0.8) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, Tensor]:
        held, fake = _normal(g, n).abs(), size * _normal(g, m).abs()
        held[: copies // 2], fake[:copies] = 0, 0
        return held, fake

    return draw


copying_share = close(
    "copying_share",
    _copying,
    {
        "": _distances(9, 12),
        "copies on both sides": _distances(8, 10, 6),
        "samples far away": _distances(7, 7, 0, 5.0),
    },
    [
        Mistake(
            lambda held, fake: _with(_u(held, fake, 0.0), held, fake),
            "a tie counts half: it is neither for nor against",
        ),
        Mistake(
            lambda held, fake: _with(_u(fake, held), held, fake),
            "count how often the *sample* is nearer: copies have a share near 1",
        ),
        Mistake(
            _paired, "all pairs count, every sample with every unseen row, not the i-th two"
        ),
        Mistake(
            _wide,
            "pairs share rows, so they are not n m coins: take the spread of the text",
        ),
        Mistake(
            lambda held, fake: (_copying(held, fake)[0], -_copying(held, fake)[1]),
            "z has the sign of share - 1/2: copies have a large positive one",
        ),
    ],
    n=6,
)
