"""Questions of the unit vae/beta_vae."""

import math

import torch
from torch import Tensor

from gdm_course.checks.question import Inputs, Mistake, close
from gdm_course.vae import beta_vae
from gdm_course.vae.vae import gaussian_kl


def _randn(g: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=g)


# 1. A price on the rate -------------------------------------------------------------------


def _priced_loss(log_p: Tensor, mu: Tensor, log_sigma: Tensor, beta: float) -> Tensor:
    return (beta * gaussian_kl(mu, log_sigma).sum(-1) - log_p).mean()


def _batch_inputs(B: int, K: int, low: float) -> Inputs:
    def draw(g: torch.Generator) -> tuple:
        beta = low * (1 + torch.rand((), generator=g).item())
        return _randn(g, B) - 9, _randn(g, B, K), 0.5 * _randn(g, B, K) - 0.5, beta

    return draw


priced_loss = close(
    "priced_loss",
    _priced_loss,
    {"": _batch_inputs(6, 3, 2.0), "a price below 1": _batch_inputs(4, 5, 0.2)},
    [
        Mistake(
            lambda p, m, s, b: (b * gaussian_kl(m, s).mean(-1) - p).mean(),
            "the KL of a vector is the sum over its dimensions: you averaged them",
        ),
        Mistake(
            lambda p, m, s, b: (gaussian_kl(m, s).sum(-1) - b * p).mean(),
            "beta multiplies the rate, not the distortion",
        ),
        Mistake(
            lambda p, m, s, b: (b * gaussian_kl(m, s).sum(-1) - p).sum(),
            "average over the batch: the loss is per example",
        ),
        Mistake(
            lambda p, m, s, b: (b * gaussian_kl(m, s / 2).sum(-1) - p).mean(),
            "log_sigma is the log of the standard deviation, not of the variance",
        ),
        Mistake(
            lambda p, m, s, b: (p + b * gaussian_kl(m, s).sum(-1)).mean(),
            "the distortion is -log p(x | z): mind the sign",
        ),
        Mistake(
            lambda p, m, s, b: (b * 2 * gaussian_kl(m, s).sum(-1) - p).mean(),
            "the rate is twice too large: the bracket has a factor 1/2",
        ),
    ],
)


# 2. Water filling -------------------------------------------------------------------------


def _water_filling(v: Tensor, theta: float) -> tuple[Tensor, Tensor]:
    return tuple(beta_vae.gaussian_rate_distortion(v, theta))


def _levels(low: float, *variances: float) -> Inputs:
    v, n = torch.tensor(variances), len(variances)

    def draw(g: torch.Generator) -> tuple:
        theta = low * (1 + 3 * torch.rand((), generator=g).item())
        drawn = v * (0.5 + torch.rand(n, generator=g))
        return drawn[torch.randperm(n, generator=g)], theta

    return draw


def _told(v: Tensor, theta: float) -> Tensor:
    return (v / theta).log().clamp_min(0).sum() / 2


water_filling = close(
    "water_filling",
    _water_filling,
    {
        "": _levels(0.2, 0.05, 0.3, 1.0, 2.0, 6.0),
        "everything under water": _levels(3.0, 0.1, 1.0, 1.5),
    },
    [
        Mistake(
            lambda v, t: ((v / t).log().sum() / 2, v.clamp_max(t).sum()),
            "directions under water are not told at all: their rate is 0, not negative",
        ),
        Mistake(
            lambda v, t: (2 * _told(v, t), v.clamp_max(t).sum()),
            "twice the rate: v is a variance, so the log of the ratio of widths is half",
        ),
        Mistake(
            lambda v, t: (_told(v, t) / math.log(2), v.clamp_max(t).sum()),
            "these are bits; asked for are nats, so take the natural logarithm",
        ),
        Mistake(
            lambda v, t: (_told(v, t), torch.as_tensor(t * len(v))),
            "a direction under water has its own variance as error, not theta",
        ),
        Mistake(
            lambda v, t: (_told(v, t), v[v <= t].sum()),
            "a direction that is told keeps an error, too: theta",
        ),
    ],
)


# 3. The three parts of a rate -------------------------------------------------------------


def _kl_parts(q: Tensor, p_a: Tensor, p_b: Tensor) -> tuple[Tensor, ...]:
    joint = q.mean(0)
    a, b = joint.sum(1), joint.sum(0)
    information = _kl(q, joint) / len(q)
    correlation = _kl(joint, a[:, None] * b)
    return information, correlation, _kl(a, p_a) + _kl(b, p_b)


def _kl(p: Tensor, q: Tensor) -> Tensor:
    return torch.xlogy(p, p / q).sum()


def _tables(N: int, A: int, B: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, ...]:
        q = (1.5 * _randn(g, N, A * B)).softmax(-1).view(N, A, B)
        return q, _randn(g, A).softmax(-1), _randn(g, B).softmax(-1)

    return draw


def _against_the_prior(q, p_a, p_b):
    return _kl(q, p_a[:, None] * p_b) / len(q), *_kl_parts(q, p_a, p_b)[1:]


def _per_example(q, p_a, p_b):
    each = [_kl(t, t.sum(1)[:, None] * t.sum(0)) for t in q]
    information, _, marginals = _kl_parts(q, p_a, p_b)
    return information, torch.stack(each).mean(), marginals


def _reversed(q, p_a, p_b):
    joint = q.mean(0)
    marginals = _kl(p_a, joint.sum(1)) + _kl(p_b, joint.sum(0))
    return *_kl_parts(q, p_a, p_b)[:2], marginals


def _summed(q, p_a, p_b):
    information, *others = _kl_parts(q, p_a, p_b)
    return information * len(q), *others


kl_parts = close(
    "kl_parts",
    _kl_parts,
    {"": _tables(5, 3, 4), "two examples": _tables(2, 4, 2)},
    [
        Mistake(
            _against_the_prior,
            "your first part is the whole rate: compare q(z | n) with q(z), not p(z)",
        ),
        Mistake(
            _per_example,
            "the correlation is that of all codes together: average q over n first",
        ),
        Mistake(_reversed, "the KL runs from q(z_j) to p(z_j): the weights are q's"),
        Mistake(_summed, "n is drawn from 1..N, so the information is an average over n"),
    ],
)


# 4. All codes, from a batch ---------------------------------------------------------------


def _log_aggregate(log_q: Tensor, N: int) -> Tensor:
    return beta_vae.log_aggregate(log_q, torch.arange(len(log_q)), N)


def _pairs(B: int, N: int, *levels: float) -> Inputs:
    """Log-densities of B codes, each code (a row) at its own level or all at the one."""
    level = torch.tensor(levels or (0.0,))[:, None]
    return lambda g: (2 * _randn(g, B, B) + 3 * torch.eye(B) + level, N)


def _naive(log_q: Tensor, N: int) -> Tensor:
    B = len(log_q)
    w = torch.full((B, B), (N - 1) / (N * (B - 1))).to(log_q)
    return (w.fill_diagonal_(1 / N) * log_q.exp()).sum(1).log()


def _one_shift(log_q: Tensor, N: int) -> Tensor:
    return _naive(log_q - log_q.max(), N) + log_q.max()


def _others_only(log_q, N):
    B = len(log_q)
    off = log_q.masked_fill(torch.eye(B, dtype=torch.bool), -torch.inf)
    return off.logsumexp(1) - math.log(B - 1)


log_aggregate = close(
    "log_aggregate",
    _log_aggregate,
    {
        "": _pairs(6, 40),
        "log-densities near -1,000": _pairs(4, 25, -1000.0),
        "log-densities near 900": _pairs(3, 60, 900.0),
        "log-densities from -1,000 to 900": _pairs(4, 25, -1000.0, 900.0, -90.0, 400.0),
        "all examples in the batch": _pairs(5, 5),
    },
    [
        Mistake(
            _naive,
            "exp of a log-density near -1000 is 0, near 900 it is infinite: add the logs "
            "of the weights, then logsumexp",
        ),
        Mistake(
            _one_shift,
            "one shift for all codes is too little: each needs its own, as logsumexp does",
        ),
        Mistake(
            lambda q, N: q.logsumexp(1) - math.log(len(q)),
            "the own example has weight 1 / N, not 1 / B: it is in every such batch",
        ),
        Mistake(
            lambda q, N: q.logsumexp(1) - math.log(len(q) * N),
            "all weights 1 / (N B) do not sum to 1: the others stand for N - 1 examples",
        ),
        Mistake(_others_only, "the code's own example belongs to q(z), too: weight 1 / N"),
        Mistake(
            lambda q, N: _log_aggregate(q.T, N),
            "row i holds code i under all examples: sum over k, along a row",
        ),
    ],
)


# 5. The gap of a factor -------------------------------------------------------------------


def _entropy(counts: Tensor) -> Tensor:
    p = counts.double() / counts.sum()
    return -torch.xlogy(p, p).sum()


def _information(counts: Tensor) -> Tensor:
    each = [_entropy(t.sum(0)) + _entropy(t.sum(1)) - _entropy(t) for t in counts]
    return torch.stack(each).sort(descending=True).values


def _factor_gap(counts: Tensor) -> Tensor:
    told = _information(counts)
    return (told[0] - told[1]) / _entropy(counts[0].sum(0))


def _counts(g: torch.Generator, A: int, weights: Tensor, *noises: float) -> Tensor:
    """How often each of A bins met each value, for dimensions of different noise."""
    n, V = 600, len(weights)
    v = torch.multinomial(weights, n, replacement=True, generator=g)
    tables = []
    for noise in torch.tensor(noises):
        wrong = torch.rand(n, generator=g) < noise
        code = torch.where(wrong, torch.randint(A, (n,), generator=g), v % A)
        # one bin more, which nothing falls into
        tables.append(torch.bincount(code * V + v, minlength=(A + 1) * V).view(-1, V))
    return torch.stack(tables)


def _mixed(A: int, V: int, *noises: float) -> Inputs:
    """Dimensions in the given order, the most telling one not always first."""
    return lambda g: (_counts(g, A, torch.linspace(1, 4, V), *noises),)


def _without_zeros(counts: Tensor) -> Tensor:
    def entropy(counts: Tensor) -> Tensor:
        p = counts.double() / counts.sum()
        return -(p * p.log()).sum()

    H = entropy(counts[0].sum(0))
    told = torch.stack([entropy(t.sum(1)) + H - entropy(t) for t in counts])
    return (told.max() - told.sort().values[-2]) / H


def _over_log_values(counts):
    told = _information(counts)
    return (told[0] - told[1]) / math.log(counts.shape[2])


def _over_code(counts):
    told = _information(counts)
    best = torch.stack(
        [-_entropy(t) + _entropy(t.sum(0)) + _entropy(t.sum(1)) for t in counts]
    )
    return (told[0] - told[1]) / _entropy(counts[best.argmax()].sum(1))


factor_gap = close(
    "factor_gap",
    _factor_gap,
    {
        "": _mixed(6, 4, 0.9, 0.1, 0.4, 0.7),
        "the first dimension tells most": _mixed(3, 3, 0.05, 0.8, 0.5),
        "the last dimension tells most": _mixed(5, 2, 0.6, 0.2),
        "fewer bins than values": _mixed(2, 5, 0.6, 0.1, 0.3),
    },
    [
        Mistake(
            _without_zeros,
            "this is not a number: a count of 0 gives 0 log 0, which is 0 by torch.xlogy",
        ),
        Mistake(
            lambda c: _information(c)[0] - _information(c)[1],
            "this is in nats: divide by the entropy of the factor to get a number up to 1",
        ),
        Mistake(
            lambda c: (
                (_information(c)[0] - _information(c)[1:].mean()) / _entropy(c[0].sum(0))
            ),
            "the gap is to the second best dimension, not to the mean of the others",
        ),
        Mistake(
            _over_log_values,
            "log V is the entropy of a uniform factor; this one's values are not equally "
            "frequent",
        ),
        Mistake(_over_code, "divide by the entropy of the factor, not of the code"),
    ],
)


# 6. What a diagonal encoder loses ---------------------------------------------------------


def _diagonal_gap(P: Tensor) -> Tensor:
    return (P.diagonal().log().sum() - P.logdet()) / 2


def _precision(K: int, correlated: bool = True) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor]:
        W = _randn(g, K + 2, K)
        P = torch.eye(K) + W.T @ W
        return (P if correlated else torch.diag(P.diagonal()),)

    return draw


diagonal_gap = close(
    "diagonal_gap",
    _diagonal_gap,
    {
        "": _precision(3),
        "two numbers": _precision(2),
        "nothing to lose": _precision(4, correlated=False),
    },
    [
        Mistake(
            lambda P: 2 * _diagonal_gap(P),
            "twice too much: there is a factor 1/2 before the bracket of (10)",
        ),
        Mistake(
            lambda P: _diagonal_gap(P.inverse()),
            "you matched the variances of p; the best of KL(q || p) is narrower: 1 / P_jj",
        ),
        Mistake(
            lambda P: -_diagonal_gap(P),
            "a KL is not negative: log det P is at most the sum of the logs (Hadamard)",
        ),
        Mistake(
            lambda P: (P.diagonal().log().sum() - P.det()) / 2,
            "the logarithm of the determinant is missing: torch.logdet",
        ),
    ],
)
