"""Questions of the unit vae/beta_vae."""

import math

import torch
from torch import Tensor

from gdm_course.checks.question import Mistake, close
from gdm_course.vae import beta_vae
from gdm_course.vae.vae import gaussian_kl


def _randn(g: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=g)


# 1. A price on the rate -------------------------------------------------------------------


def _priced_loss(log_p: Tensor, mu: Tensor, log_sigma: Tensor, beta: float) -> Tensor:
    return (beta * gaussian_kl(mu, log_sigma).sum(-1) - log_p).mean()


def _batch_inputs(g: torch.Generator) -> tuple:
    beta = 2 + 3 * torch.rand((), generator=g).item()
    return _randn(g, 6) - 9, _randn(g, 6, 3), 0.5 * _randn(g, 6, 3) - 0.5, beta


priced_loss = close(
    "priced_loss",
    _priced_loss,
    _batch_inputs,
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
    ],
)


# 2. Water filling -------------------------------------------------------------------------


def _water_filling(v: Tensor, theta: float) -> tuple[Tensor, Tensor]:
    return tuple(beta_vae.gaussian_rate_distortion(v, theta))


def _levels(g: torch.Generator) -> tuple:
    v = torch.tensor([0.05, 0.3, 1.0, 2.0, 6.0]) * (0.5 + torch.rand(5, generator=g))
    return v[torch.randperm(5, generator=g)], 0.2 + 0.6 * torch.rand((), generator=g).item()


def _told(v: Tensor, theta: float) -> Tensor:
    return (v / theta).log().clamp_min(0).sum() / 2


water_filling = close(
    "water_filling",
    _water_filling,
    _levels,
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


def _tables(g: torch.Generator) -> tuple[Tensor, ...]:
    q = (1.5 * _randn(g, 5, 12)).softmax(-1).view(5, 3, 4)
    return q, _randn(g, 3).softmax(-1), _randn(g, 4).softmax(-1)


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
    _tables,
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


def _pairs(g: torch.Generator) -> tuple:
    N = int(torch.randint(20, 60, (), generator=g))
    return 2 * _randn(g, 6, 6) + 3 * torch.eye(6), N


def _others_only(log_q, N):
    B = len(log_q)
    off = log_q.masked_fill(torch.eye(B, dtype=torch.bool), -torch.inf)
    return off.logsumexp(1) - math.log(B - 1)


log_aggregate = close(
    "log_aggregate",
    _log_aggregate,
    _pairs,
    [
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


def _counts(g: torch.Generator) -> tuple[Tensor]:
    n, A, V = 600, 6, 4
    weights = torch.tensor([0.5, 0.25, 0.15, 0.1])
    v = torch.multinomial(weights, n, replacement=True, generator=g)
    tables = []
    for noise in torch.tensor([0.1, 0.4, 0.7, 0.9])[torch.randperm(4, generator=g)]:
        wrong = torch.rand(n, generator=g) < noise
        code = torch.where(wrong, torch.randint(A, (n,), generator=g), v)
        tables.append(torch.bincount(code * V + v, minlength=A * V).view(A, V))
    return (torch.stack(tables),)


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
    _counts,
    [
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


def _precision(g: torch.Generator) -> tuple[Tensor]:
    W = _randn(g, 5, 3)
    return (torch.eye(3) + W.T @ W,)


diagonal_gap = close(
    "diagonal_gap",
    _diagonal_gap,
    _precision,
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
    ],
)
