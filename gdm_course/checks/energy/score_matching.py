"""Questions of the unit energy/score_matching."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from gdm_course.checks.question import Inputs, Mistake, close


def _normal(g: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=g)


def _between(g: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * torch.rand((), generator=g).item()


# 1. A bell by score matching --------------------------------------------------------------


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    m = x.mean(0)
    return m, (x - m).T @ (x - m) / len(x)


def _bell(x: Tensor) -> tuple[Tensor, Tensor]:
    m, C = _moments(x)
    return m, torch.linalg.inv(C)


def _around_zero(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.mean(0), torch.linalg.inv(x.T @ x / len(x))


def _cloud(N: int, D: int) -> Inputs:
    """Points of a bell that is neither round nor at 0."""

    def draw(g: torch.Generator) -> tuple[Tensor]:
        size = 0.6 + torch.rand(D, generator=g)
        mix = size.diag() + 0.5 * torch.tanh(_normal(g, D, D)).triu(1)
        return (_normal(g, N, D) @ mix + 1 + _normal(g, D),)

    return draw


best_bell = close(
    "best_bell",
    _bell,
    {"": _cloud(12, 3), "on the line": _cloud(7, 1), "in the plane": _cloud(9, 2)},
    [
        Mistake(
            _moments,
            "this is the covariance: a narrow bell has a steep score, so P is its inverse",
        ),
        Mistake(
            lambda x: (x.mean(0), torch.linalg.inv(torch.cov(x.T).reshape(x.shape[1], -1))),
            "the loss averages over N points: divide by N, not by N - 1",
        ),
        Mistake(
            _around_zero,
            "the second moments are to be taken around the mean, not around 0",
        ),
        Mistake(
            lambda x: (x.mean(0), torch.diag(1 / x.var(0, correction=0))),
            "the dimensions vary together: P is the inverse of the whole matrix",
        ),
        Mistake(
            lambda x: (x.mean(0), -_bell(x)[1]),
            "this P points away from m: the score is -P (x - m)",
        ),
    ],
)


# 2. The trace of a Jacobian ---------------------------------------------------------------


def _trace(x: Tensor, W: Tensor, V: Tensor) -> Tensor:
    return (1 - torch.tanh(x @ W) ** 2) @ (W.T * V).sum(1)


def _net(B: int, D: int, H: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        return _normal(g, B, D), _normal(g, D, H) / D**0.5, _normal(g, H, D)

    return draw


trace_of_jacobian = close(
    "trace_of_jacobian",
    _trace,
    {"": _net(5, 3, 6), "one point": _net(1, 2, 4), "more dimensions": _net(7, 5, 3)},
    [
        Mistake(
            lambda x, W, V: (1 - torch.tanh(x @ W) ** 2) @ (W.sum(0) * V.sum(1)),
            "this adds up all D x D derivatives (the gradient of s.sum() does): the trace "
            "wants ds_d / dx_d alone, so one backward pass for each d",
        ),
        Mistake(
            lambda x, W, V: _trace(x, W, V) / x.shape[1],
            "a trace is a sum over the dimensions, not a mean",
        ),
        Mistake(
            lambda x, W, V: torch.tanh(x @ W) @ (W.T * V).sum(1),
            "the derivative of tanh is 1 - tanh^2",
        ),
        Mistake(
            lambda x, W, V: _trace(x, W, V).sum(),
            "one trace for each row is asked for: (B,)",
        ),
        Mistake(
            lambda x, W, V: (1 - torch.tanh(x @ W) ** 2) @ V,
            "this is the derivative along the diagonal of W alone: by the chain rule the "
            "derivative of x W, which is W, comes in too",
        ),
    ],
)


# 3. Along one direction -------------------------------------------------------------------


def _sliced(s: Tensor, Jv: Tensor, v: Tensor) -> Tensor:
    return (s.square().sum(1) / 2 + (v * Jv).sum(1)).mean()


def _slices(B: int, D: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        v = 2 * torch.randint(2, (B, D), generator=g).float() - 1
        return 2 * _normal(g, B, D), 2 * _normal(g, B, D), v

    return draw


sliced_loss = close(
    "sliced_loss",
    _sliced,
    {"": _slices(6, 3), "one point": _slices(1, 4), "in the plane": _slices(9, 2)},
    [
        Mistake(
            lambda s, Jv, v: ((v * s).sum(1).square() / 2 + (v * Jv).sum(1)).mean(),
            "(v.s)^2 has the mean |s|^2 and more noise; |s|^2 is known, and asked for",
        ),
        Mistake(
            lambda s, Jv, v: (s.square().sum(1) + (v * Jv).sum(1)).mean(),
            "half of |s|^2 is asked for: else the best s is half of the score",
        ),
        Mistake(
            lambda s, Jv, v: (s.square().sum(1) / 2 - (v * Jv).sum(1)).mean(),
            "the trace has the sign of (4), plus: integration by parts turned it once",
        ),
        Mistake(
            lambda s, Jv, v: (s.square() / 2 + v * Jv).mean(),
            "sum over the D dimensions, then average over the rows",
        ),
        Mistake(
            lambda s, Jv, v: len(s) * _sliced(s, Jv, v),
            "an expectation is a mean over the rows, not a sum",
        ),
        Mistake(
            lambda s, Jv, v: (s.square().sum(1) / 2 + Jv.sum(1)).mean(),
            "v comes in twice: v^T (J v)",
        ),
    ],
)


# 4. Learning from noise that was added ----------------------------------------------------


def _denoising(s: Tensor, e: Tensor, sigma: Tensor) -> Tensor:
    return (sigma[:, None] * s + e).square().sum(1).mean() / 2


def _noisy(B: int, D: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        sigma = 0.2 + 2 * torch.rand(B, generator=g)
        return _normal(g, B, D), _normal(g, B, D), sigma

    return draw


denoising_loss = close(
    "denoising_loss",
    _denoising,
    {"": _noisy(8, 3), "as many points as dimensions": _noisy(4, 4), "one": _noisy(1, 2)},
    [
        Mistake(
            lambda s, e, sigma: _denoising(s, -e, sigma),
            "this learns to point away from the data: the target is -e / sigma",
        ),
        Mistake(
            lambda s, e, sigma: (s + e / sigma[:, None]).square().sum(1).mean() / 2,
            "multiplied by sigma is missing: small noises would drown all others",
        ),
        Mistake(
            lambda s, e, sigma: (
                (sigma[:, None] * s + e / sigma[:, None]).square().sum(1).mean() / 2
            ),
            "x~ - x is sigma e, so that -(x~ - x) / sigma^2 = -e / sigma, not -e / sigma^2",
        ),
        Mistake(
            lambda s, e, sigma: (sigma[:, None] * s + e).square().mean() / 2,
            "sum over the D dimensions, then average over the rows",
        ),
        Mistake(
            lambda s, e, sigma: 2 * _denoising(s, e, sigma),
            "half of the square is asked for",
        ),
        Mistake(
            lambda s, e, sigma: (sigma.mean() * s + e).square().sum(1).mean() / 2,
            "each row has a noise of its own: sigma[:, None]",
        ),
    ],
)


# 5. Back to where it came from ------------------------------------------------------------


def _clean(x: Tensor, s: Tensor, sigma: float) -> Tensor:
    return x + sigma**2 * s


def _scores(B: int, D: int, low: float = 0.3, high: float = 0.9) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, Tensor, float]:
        return 2 * _normal(g, B, D), 2 * _normal(g, B, D), _between(g, low, high)

    return draw


tweedie = close(
    "tweedie",
    _clean,
    {"": _scores(5, 3), "one point": _scores(1, 2), "much noise": _scores(7, 4, 2.0, 4.0)},
    [
        Mistake(
            lambda x, s, sigma: _clean(x, -s, sigma),
            "this walks away from the data: the score points to where points are likely",
        ),
        Mistake(
            lambda x, s, sigma: x + sigma * s,
            "s is -e / sigma on average: sigma^2 makes a distance -sigma e of it",
        ),
        Mistake(
            lambda x, s, sigma: x + sigma**2 / 2 * s,
            "this is the drift of a Langevin step with eps = sigma^2: no half here",
        ),
        Mistake(
            lambda x, s, sigma: x + 2 * sigma**2 * s,
            "this goes twice as far: sigma^2 s is -(x~ - x) on average, the whole way back",
        ),
        Mistake(
            lambda x, s, sigma: sigma**2 * s,
            "this is the way to the clean point, not the clean point: add x",
        ),
    ],
)


# 6. Data or noise? ------------------------------------------------------------------------


def _logits(E: Tensor, log_n: Tensor, c: Tensor, nu: float) -> Tensor:
    return -E - c - log_n - math.log(nu)


def _nce(E: Tensor, log_n: Tensor, E_noise: Tensor, log_n_noise: Tensor, c: Tensor):
    nu = len(E_noise) / len(E)
    data, noise = _logits(E, log_n, c, nu), _logits(E_noise, log_n_noise, c, nu)
    return F.softplus(-data).mean() + nu * F.softplus(noise).mean()


def _with(E, log_n, E_noise, log_n_noise, c, sign=1.0, share=1.0, weight=None):
    """The loss with another sign of E, another log nu, or another weight of the noise."""
    nu = len(E_noise) / len(E)
    data = _logits(sign * E, log_n, c, nu**share)
    noise = _logits(sign * E_noise, log_n_noise, c, nu**share)
    return F.softplus(-data).mean() + (weight or nu) * F.softplus(noise).mean()


def _one_sided(E, log_n, E_noise, log_n_noise, c, data=1.0, noise=1.0):
    """The loss with log nu in one of the two batches only."""
    nu = len(E_noise) / len(E)
    G, G_noise = _logits(E, log_n, c, nu**data), _logits(E_noise, log_n_noise, c, nu**noise)
    return F.softplus(-G).mean() + nu * F.softplus(G_noise).mean()


def _plain_logs(E, log_n, E_noise, log_n_noise, c):
    nu = len(E_noise) / len(E)
    data, noise = _logits(E, log_n, c, nu), _logits(E_noise, log_n_noise, c, nu)
    return -data.sigmoid().log().mean() - nu * (1 - noise.sigmoid()).log().mean()


def _exchanged(E, log_n, E_noise, log_n_noise, c):
    nu = len(E_noise) / len(E)
    data, noise = _logits(E, log_n, c, nu), _logits(E_noise, log_n_noise, c, nu)
    return F.softplus(data).mean() + nu * F.softplus(-noise).mean()


def _game(B: int, nu: int, far: float = 0.0) -> Inputs:
    """Energies and noise densities; `far` moves data and noise apart, past float32."""

    def draw(g: torch.Generator) -> tuple[Tensor, ...]:
        E, log_n = 1 + _normal(g, B) + far, -2 + _normal(g, B)
        E_noise, log_n_noise = 2 + _normal(g, nu * B) - far, -2 + _normal(g, nu * B)
        return E, log_n, E_noise, log_n_noise, 0.5 + torch.rand((), generator=g)

    return draw


nce_loss = close(
    "nce_loss",
    _nce,
    {"": _game(4, 3), "nu = 5": _game(3, 5), "both told for sure": _game(6, 2, 300.0)},
    [
        Mistake(
            lambda *a: _with(*a, share=0.0),
            "log nu is missing in G: with nu noise points a point, data are rarer from the "
            "start, and c would settle log nu too high",
        ),
        Mistake(
            lambda *a: _one_sided(*a, data=0.0),
            "log nu is only in G of the noise: G is the same function of both batches",
        ),
        Mistake(
            lambda *a: _one_sided(*a, noise=0.0),
            "log nu is only in G of the data: G is the same function of both batches",
        ),
        Mistake(
            lambda *a: _with(*a, share=-1.0),
            "log nu has the wrong sign: more noise makes data less likely",
        ),
        Mistake(
            lambda *a: _with(*a, weight=1.0),
            "there are nu noise points for each of the data: their mean counts nu times",
        ),
        Mistake(
            lambda *a: _with(*a, sign=-1.0),
            "E has the wrong sign: log p = -E - c",
        ),
        Mistake(
            lambda E, log_n, E_noise, log_n_noise, c: _nce(
                E, log_n, E_noise, log_n_noise, -c
            ),
            "c has the wrong sign: it becomes log Z, and log p = -E - c",
        ),
        Mistake(
            lambda E, log_n, E_noise, log_n_noise, c: _nce(
                E, -log_n, E_noise, -log_n_noise, c
            ),
            "log p_n has the wrong sign: G is the logarithm of p / (nu p_n)",
        ),
        Mistake(
            _exchanged,
            "the labels are exchanged: G is large where a point is from the data",
        ),
        Mistake(
            _plain_logs,
            "log sigmoid(-300) is -inf by two steps: use torch's softplus or logsigmoid",
        ),
    ],
)
