"""Questions of the unit foundations/densities."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from gdm_course import divergences
from gdm_course.checks.question import Inputs, Mistake, close


def _uniform(g: torch.Generator, low: float, high: float, *shape: int) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=g)


# 1. The KL divergence of two Gaussians ----------------------------------------------------


def _kl_terms(
    mu_p: Tensor, log_sigma_p: Tensor, mu_q: Tensor, log_sigma_q: Tensor
) -> Tensor:
    var_p, var_q = (2 * log_sigma_p).exp(), (2 * log_sigma_q).exp()
    return log_sigma_q - log_sigma_p + (var_p + (mu_p - mu_q) ** 2) / (2 * var_q) - 0.5


def _kl_gaussian(
    mu_p: Tensor, log_sigma_p: Tensor, mu_q: Tensor, log_sigma_q: Tensor
) -> Tensor:
    return _kl_terms(mu_p, log_sigma_p, mu_q, log_sigma_q).sum(-1)


def _two_gaussians(B: int, D: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, ...]:
        place = [_uniform(g, -2, 2, B, D) for _ in range(2)]
        width = [_uniform(g, -1, 0.7, B, D) for _ in range(2)]
        return place[0], width[0], place[1], width[1]

    return draw


kl_gaussian = close(
    "kl_gaussian",
    _kl_gaussian,
    {"": _two_gaussians(6, 4), "one row": _two_gaussians(1, 5)},
    [
        Mistake(
            lambda *a: _kl_terms(*a).mean(-1),
            "right up to a factor of D: you averaged over dimensions, the KL sums",
        ),
        Mistake(
            lambda a, b, c, d: _kl_gaussian(c, d, a, b),
            "this is KL(q || p): the mean is to be taken under p, the first argument",
        ),
        Mistake(
            lambda a, b, c, d: _kl_gaussian(a, b / 2, c, d / 2),
            "you took log_sigma for the log of the variance: sigma^2 = exp(2 log_sigma)",
        ),
        Mistake(
            lambda *a: (_kl_terms(*a) + 0.5).sum(-1),
            "half a nat per dimension is missing: E_p[(x - mu_p)^2] / (2 sigma_p^2) = 1/2",
        ),
        Mistake(
            lambda *a: _kl_terms(*a).sum(),
            "you also summed over the batch: return one number per row, (B,)",
        ),
        Mistake(
            lambda *a: _kl_gaussian(*a) / math.log(2),
            "this is in bits; asked for are nats, the natural logarithm",
        ),
        Mistake(
            lambda a, b, c, d: (_kl_terms(a, b, c, d) + 2 * (b - d)).sum(-1),
            "the logs of the widths have the wrong sign: log p has - log sigma_p",
        ),
    ],
)


# 2. Jensen-Shannon on a grid --------------------------------------------------------------


def _js_divergence(log_p: Tensor, log_q: Tensor, dx: float) -> Tensor:
    m = torch.logaddexp(log_p, log_q) - math.log(2)
    return (log_p.exp() * (log_p - m) + log_q.exp() * (log_q - m)).sum() * dx / 2


def _geometric(log_p: Tensor, log_q: Tensor, dx: float) -> Tensor:
    m = (log_p + log_q) / 2
    return (log_p.exp() * (log_p - m) + log_q.exp() * (log_q - m)).sum() * dx / 2


def _naive(log_p: Tensor, log_q: Tensor, dx: float) -> Tensor:
    p, q = log_p.exp(), log_q.exp()
    m = ((p + q) / 2).log()
    return (p * (log_p - m) + q * (log_q - m)).sum() * dx / 2


def _on_a_grid(g: torch.Generator) -> tuple[Tensor, Tensor, float]:
    x = torch.linspace(-12, 12, 481, dtype=torch.float64)
    at = _uniform(g, -3, 3, 2, 2).double()
    width = _uniform(g, 0.4, 1.2, 2, 2).double()
    parts = torch.distributions.Normal(at[..., None], width[..., None]).log_prob(x)
    log_p, log_q = (parts.logsumexp(1) - math.log(2)).float()  # two bumps each
    return log_p, log_q, 0.05


def _narrow(g: torch.Generator) -> tuple[Tensor, Tensor, float]:
    """At both ends of the grid, both densities are below e^-120."""
    x = torch.linspace(-10, 10, 801, dtype=torch.float64)
    at = _uniform(g, 1, 2, 2, 1).double() * torch.tensor([[-1.0], [1.0]])
    log_p, log_q = torch.distributions.Normal(at, 0.5).log_prob(x).float()
    return log_p, log_q, 0.025


js_divergence = close(
    "js_divergence",
    _js_divergence,
    {"": _on_a_grid, "densities down to e^-300": _narrow},
    [
        Mistake(
            _naive,
            "where both are as small as e^-200, exp is 0 and its log is -inf: logaddexp",
        ),
        Mistake(
            lambda p, q, dx: _js_divergence(p, q, dx) - math.log(2),
            "m is half of p + q: subtract log 2 from logaddexp",
        ),
        Mistake(
            _geometric,
            "m is the mean of the densities; you took the mean of their logarithms",
        ),
        Mistake(
            lambda p, q, dx: 2 * _js_divergence(p, q, dx),
            "twice too large: each of the two KL divergences counts one half",
        ),
        Mistake(
            lambda p, q, dx: _js_divergence(p, q, 1.0),
            "an integral is a sum times the cell's width: multiply by dx",
        ),
        Mistake(
            lambda p, q, dx: _js_divergence(p, q, dx) / math.log(2),
            "this is in bits; asked for are nats, the natural logarithm",
        ),
    ],
)


# 3. Maximum likelihood by gradient descent ------------------------------------------------


def _descend(
    x: Tensor,
    steps: int,
    lr: float,
    clear: bool = True,
    optimizer: Callable = torch.optim.SGD,
    reduce: Callable[[Tensor], Tensor] = lambda nll: nll.sum(1).mean(),
) -> tuple[Tensor, Tensor]:
    mu = torch.zeros(x.shape[1], dtype=x.dtype, requires_grad=True)
    log_sigma = torch.zeros(x.shape[1], dtype=x.dtype, requires_grad=True)
    stepper = optimizer([mu, log_sigma], lr)
    for _ in range(steps):
        nll = log_sigma + ((x - mu) / log_sigma.exp()).square() / 2  # less log(2 pi) / 2
        loss = reduce(nll)
        if clear:
            stepper.zero_grad()
        loss.backward()
        stepper.step()
    return mu.detach(), log_sigma.detach()


def _fit_by_descent(x: Tensor, steps: int, lr: float) -> tuple[Tensor, Tensor]:
    return _descend(x, steps, lr)


def _from_the_mean(x: Tensor, steps: int, lr: float) -> tuple[Tensor, Tensor]:
    mu, log_sigma = _descend(x - x.mean(0), steps, lr)
    return mu + x.mean(0), log_sigma


def _points(N: int, D: int, steps: int, lr: float) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, int, float]:
        scale, shift = _uniform(g, 0.5, 0.9, D), _uniform(g, 0.3, 0.9, D)
        return shift + scale * torch.randn(N, D, generator=g), steps, lr

    return draw


fit_by_descent = close(
    "fit_by_descent",
    _fit_by_descent,
    {
        "": _points(50, 3, 8, 0.05),
        "3 longer steps": _points(20, 2, 3, 0.1),
        "no step at all": _points(20, 2, 0, 0.1),
    },
    [
        Mistake(
            lambda x, steps, lr: _descend(x, steps, lr, clear=False),
            "gradients add up from step to step: clear them before every backward pass",
        ),
        Mistake(
            lambda x, steps, lr: _descend(x, steps, lr, reduce=lambda n: -n.sum(1).mean()),
            "you walk uphill: the parameters move against the gradient of the NLL",
        ),
        Mistake(
            lambda x, steps, lr: _descend(x, steps, lr, reduce=torch.mean),
            "your steps are D times too short: sum over dimensions, average over points",
        ),
        Mistake(
            lambda x, steps, lr: (lambda m, s: (m, s.exp()))(*_descend(x, steps, lr)),
            "the second value is sigma; asked for is its logarithm",
        ),
        Mistake(
            lambda x, steps, lr: (x.mean(0), x.std(0, correction=0).log()),
            "this is where descent ends; asked for is where it is after so many steps",
        ),
        Mistake(
            lambda x, steps, lr: _descend(x, steps, lr, optimizer=torch.optim.Adam),
            "this is Adam; asked for is plain gradient descent, torch.optim.SGD",
        ),
        Mistake(_from_the_mean, "descent starts at mu = 0, not at the mean of the points"),
    ],
)


# 4. Importance sampling -------------------------------------------------------------------


def _importance_estimate(values: Tensor, log_w: Tensor) -> tuple[Tensor, Tensor]:
    return tuple(divergences.importance(values, log_w))


def _weighted(n: int, level: float) -> Inputs:
    return lambda g: (
        2 * torch.randn(n, generator=g) + 1,
        0.8 * torch.randn(n, generator=g) + level,
    )


def _naive_weights(values: Tensor, log_w: Tensor) -> tuple[Tensor, Tensor]:
    w = log_w.exp()
    mean = (w * values).sum() / w.sum()
    return mean, (w**2 * (values - mean) ** 2).sum().sqrt() / w.sum()


importance_estimate = close(
    "importance_estimate",
    _importance_estimate,
    {
        "": _weighted(60, 0.0),
        "log weights near 200": _weighted(40, 200.0),
        "log weights near -300": _weighted(30, -300.0),
    },
    [
        Mistake(
            _naive_weights,
            "exp of a log weight near 200 is infinite, near -300 it is 0: use softmax",
        ),
        Mistake(
            lambda v, w: (
                _importance_estimate(v, w)[0],
                _importance_estimate(v, w)[1] ** 2,
            ),
            "the second value is the variance: the standard error is its root",
        ),
        Mistake(
            lambda v, w: (_importance_estimate(v, w)[0], v.std() / len(v) ** 0.5),
            "the error ignores the weights: a few heavy ones make it larger",
        ),
        Mistake(
            lambda v, w: (v.mean(), v.std() / len(v) ** 0.5),
            "this is the mean under q: weight each value by w = p / q",
        ),
        Mistake(
            lambda v, w: ((w / w.sum() * v).sum(), _importance_estimate(v, w)[1]),
            "you averaged with log w: the weights are its exponential",
        ),
    ],
)


# 5. Wasserstein on the line ---------------------------------------------------------------


def _wasserstein_1d(x: Tensor, y: Tensor, k: float) -> Tensor:
    return divergences.wasserstein_1d(x, y, k)


def _two_samples(n: int, k: float) -> Inputs:
    return lambda g: (torch.randn(n, generator=g), 1 + 2 * torch.randn(n, generator=g), k)


def _signed(x: Tensor, y: Tensor, k: float) -> Tensor:
    return ((x.sort().values - y.sort().values) ** k).mean() ** (1 / k)


wasserstein_1d = close(
    "wasserstein_1d",
    _wasserstein_1d,
    {
        "k = 2": _two_samples(30, 2.0),
        "k = 1": _two_samples(20, 1.0),
        "k = 2.5": _two_samples(30, 2.5),
        "one point each, k = 3": _two_samples(1, 3.0),
    },
    [
        Mistake(
            lambda x, y, k: ((x - y).abs() ** k).mean() ** (1 / k),
            "you paired the points as they came: sort both samples first",
        ),
        Mistake(
            lambda x, y, k: _wasserstein_1d(x, y, k) ** k,
            "this is W_k to the power k: take the k-th root, to be in the unit of x again",
        ),
        Mistake(
            lambda x, y, k: len(x) ** (1 / k) * _wasserstein_1d(x, y, k),
            "every point carries 1/n of the mass: average the costs, do not sum them",
        ),
        Mistake(
            lambda x, y, k: _wasserstein_1d(x, y, 1.0),
            "this is W_1: the cost of carrying over a distance d is d^k",
        ),
        Mistake(
            lambda x, y, k: _wasserstein_1d(x, y, 2.0),
            "this is W_2 whatever k is asked for",
        ),
        Mistake(_signed, "right for even k only: a distance is |x - y|, never negative"),
    ],
)


# 6. The unbiased MMD ----------------------------------------------------------------------


def _mmd2_unbiased(x: Tensor, y: Tensor, h: float) -> Tensor:
    return divergences.mmd2(x, y, h)


def _means(x: Tensor, y: Tensor, h: float) -> tuple[Tensor, Tensor, Tensor]:
    k = divergences.gaussian_kernel
    return k(x, x, h).mean(), k(y, y, h).mean(), k(x, y, h).mean()


def _zero_diagonal(x: Tensor, y: Tensor, h: float) -> Tensor:
    xx, yy, xy = _means(x, y, h)
    return xx - 1 / len(x) + yy - 1 / len(y) - 2 * xy


def _alike(g: torch.Generator) -> tuple[Tensor, Tensor, float]:
    """Two clouds so alike that the estimate is negative."""
    while True:
        x = torch.randn(9, 3, generator=g)
        y = x[:7] + 0.3 * torch.randn(7, 3, generator=g)
        h = _uniform(g, 0.7, 2.0).item()
        if _mmd2_unbiased(x, y, h) < -0.01:
            return x, y, h


def _apart(g: torch.Generator) -> tuple[Tensor, Tensor, float]:
    y = 2 + torch.randn(8, 2, generator=g)
    return torch.randn(5, 2, generator=g), y, _uniform(g, 0.7, 2.0).item()


mmd2_unbiased = close(
    "mmd2_unbiased",
    _mmd2_unbiased,
    {"": _apart, "clouds so alike that the estimate is negative": _alike},
    [
        Mistake(
            lambda x, y, h: (lambda xx, yy, xy: xx + yy - 2 * xy)(*_means(x, y, h)),
            "biased: a point and itself are no independent pair, leave the diagonal out",
        ),
        Mistake(
            _zero_diagonal,
            "the diagonal is out, but you still divide by n^2: n (n - 1) pairs are left",
        ),
        Mistake(
            lambda x, y, h: divergences.mmd2(x, y, h / 2**0.5),
            "the kernel is exp(-|x - y|^2 / (2 h^2)): the 2 is missing",
        ),
        Mistake(
            lambda x, y, h: divergences.mmd2(x, y, h) + _means(x, y, h)[2],
            "the pairs across the samples count twice: -2 E k(x, y)",
        ),
        Mistake(
            lambda x, y, h: divergences.mmd2(x, y, h).clamp_min(0),
            "an unbiased estimate of 0 must often be negative: do not clip it",
        ),
        Mistake(
            lambda x, y, h: divergences.mmd2(x, y, h).abs().sqrt(),
            "this is the MMD; asked for is its square, which has an unbiased estimate",
        ),
    ],
)
