"""Questions of the examination sheet challenges/exam: one for each part of the course."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from gdm_course.checks.question import Inputs, Mistake, close


def _normal(g: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=g)


def _between(g: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * torch.rand((), generator=g).item()


# 1. Foundations: what the coordinates know of each other ----------------------------------


def _shared(C: Tensor) -> Tensor:
    return 0.5 * (C.diagonal().log().sum() - torch.linalg.slogdet(C).logabsdet)


def _covariance(D: int, scale: float = 1.0) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor]:
        A = _normal(g, D, D) + 0.7
        stretch = scale * (0.5 + torch.rand(D, generator=g))
        return (stretch[:, None] * (A @ A.T + torch.eye(D)) * stretch,)

    return draw


shared_information = close(
    "shared_information",
    _shared,
    {
        "": _covariance(3),
        "five coordinates": _covariance(5),
        "60 coordinates in a small unit": _covariance(60, scale=1e-3),
    },
    [
        Mistake(
            lambda C: -torch.linalg.slogdet(C).logabsdet / 2,
            "the variances are not 1: the sum of the single entropies belongs to it",
        ),
        Mistake(
            lambda C: -_shared(C),
            "the sign: the single entropies together are at least that of the whole",
        ),
        Mistake(
            lambda C: 0.5 * (C.diagonal().log().sum() - C.det().log()),
            "the determinant itself is too small for float32: sum logs, as slogdet does",
        ),
        Mistake(lambda C: _shared(C) / math.log(2), "this is in bits: nats are asked for"),
    ],
    rtol=1e-3,
    atol=1e-3,
)


# 2. Autoregressive: a cheap model proposes ------------------------------------------------


def _speculate(p: Tensor, q: Tensor, spare=lambda p, q: (p - q).clamp_min(0)):
    left = spare(p, q)
    total = left.sum(1, keepdim=True)
    return torch.minimum(p, q).sum(1), torch.where(total > 0, left / total, p)


def _never_equal(p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    left = (p - q).clamp_min(0)
    return torch.minimum(p, q).sum(1), left / left.sum(1, keepdim=True)


def _two_models(B: int, K: int, equal: bool = False) -> Inputs:
    """Rows of two laws; in one of them both may be the same."""

    def draw(g: torch.Generator) -> tuple[Tensor, Tensor]:
        p, q = (_normal(g, B, K).mul(1.5).softmax(1) for _ in range(2))
        q[0] = p[0] if equal else q[0]
        return p, q

    return draw


speculative = close(
    "speculative",
    _speculate,
    {
        "": _two_models(4, 6),
        "two symbols": _two_models(3, 2),
        "both models agree in one row": _two_models(5, 4, equal=True),
    },
    [
        Mistake(
            _never_equal,
            "where p = q nothing is ever refused, and 0 / 0 is no law: return p there",
        ),
        Mistake(
            lambda p, q: (_speculate(p, q)[0], p),
            "drawing from p after a refusal counts twice what q has proposed already",
        ),
        Mistake(
            lambda p, q: (_speculate(p, q)[0], (p - q).clamp_min(0)),
            "the second law has to sum to 1",
        ),
        Mistake(
            lambda p, q: ((p / q).clamp(max=1).mean(1), _speculate(p, q)[1]),
            "symbols are proposed with the probabilities q, not equally often",
        ),
    ],
)


# 3. Flows: a Gaussian, squashed -----------------------------------------------------------


def _normal_log(z: Tensor, mu: Tensor, sigma: Tensor) -> Tensor:
    return -0.5 * ((z - mu) / sigma) ** 2 - sigma.log() - 0.5 * math.log(2 * math.pi)


def _squash(z, mu, sigma, slope=lambda z: 2 * (math.log(2) - z - F.softplus(-2 * z))):
    return (_normal_log(z, mu, sigma) - slope(z)).sum(1)


def _before(B: int, D: int, far: float = 0.0) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        sigma = 0.5 + torch.rand(D, generator=g)
        return far + _normal(g, B, D), far + _normal(g, D), sigma

    return draw


squashed_log_prob = close(
    "squashed_log_prob",
    _squash,
    {
        "": _before(5, 3),
        "one coordinate": _before(4, 1),
        "tanh rounds to 1": _before(6, 2, far=15.0),
        "tanh rounds to -1": _before(3, 4, far=-15.0),
    },
    [
        Mistake(
            lambda z, mu, sigma: _squash(z, mu, sigma, lambda z: (1 - z.tanh() ** 2).log()),
            "1 - tanh^2 is rounded to 0 far out: rewrite its logarithm with softplus",
        ),
        Mistake(
            lambda z, mu, sigma: _squash(z, mu, sigma, lambda z: 0 * z),
            "this is the density of z: that of y has the slope of tanh in it",
        ),
        Mistake(
            lambda z, mu, sigma: _squash(z, mu, sigma) / z.shape[1],
            "a log density of a vector sums over its coordinates, it does not average",
        ),
        Mistake(
            lambda z, mu, sigma: _squash(z, mu, sigma.sqrt()),
            "sigma is the standard deviation, not the variance",
        ),
    ],
    rtol=1e-3,
    atol=1e-3,
)


# 4. Latent variables: a baseline that does not cheat --------------------------------------


def _others(f: Tensor) -> Tensor:
    K = f.shape[1]
    return f - (f.sum(1, keepdim=True) - f) / (K - 1)


def _rewards(B: int, K: int, level: float = 0.0) -> Inputs:
    return lambda g: (level + 2 * _normal(g, B, K),)


leave_one_out = close(
    "leave_one_out",
    _others,
    {
        "": _rewards(4, 5),
        "two draws": _rewards(3, 2),
        "rewards far from 0": _rewards(2, 8, level=-90.0),
    },
    [
        Mistake(
            lambda f: f - f.mean(1, keepdim=True),
            "a draw must not be in its own baseline: it would depend on the draw",
        ),
        Mistake(
            lambda f: f - (f.sum(1, keepdim=True) - f) / f.shape[1],
            "the other draws are K - 1",
        ),
        Mistake(
            lambda f: f - (f.sum() - f) / (f.numel() - 1),
            "only draws of the same row are compared",
        ),
        Mistake(lambda f: -_others(f), "the sign: a good draw gets a positive number"),
    ],
    rtol=1e-3,
    atol=1e-3,
)


# 5. Energies: two chains change places ----------------------------------------------------


def _swap(e_cold: Tensor, e_hot: Tensor, cold: float, hot: float) -> Tensor:
    return ((cold - hot) * (e_cold - e_hot)).clamp(max=0)


def _chains(B: int, far: float = 1.0) -> Inputs:
    def draw(g: torch.Generator) -> tuple:
        cold, hot = _between(g, 1, 2), _between(g, 0.2, 0.7)
        e_cold, e_hot = far * _normal(g, B), far * (0.3 + _normal(g, B))
        e_hot[0], e_hot[1] = e_cold[0] + 1, e_cold[1] - 1  # one is in doubt, one is not
        return e_cold, e_hot, cold, hot

    return draw


swap_log_accept = close(
    "swap_log_accept",
    _swap,
    {"": _chains(8), "very unequal energies": _chains(5, far=400.0)},
    [
        Mistake(
            lambda c, h, cold, hot: (cold - hot) * (c - h),
            "a probability is at most 1: its logarithm at most 0",
        ),
        Mistake(
            lambda c, h, cold, hot: _swap(c, h, 1 / hot, 1 / cold),
            "beta is the inverse temperature: it multiplies the energy",
        ),
        Mistake(
            lambda c, h, cold, hot: (cold * (c - h)).clamp(max=0),
            "both chains move: the hot one pays, too",
        ),
        Mistake(
            lambda c, h, cold, hot: _swap(c, h, cold, hot).exp(),
            "the logarithm of the probability is asked for",
        ),
    ],
    rtol=1e-3,
)


# 6. Two players: does a batch repeat itself? ----------------------------------------------


def _variety(x: Tensor, n: int, std=lambda rows: rows.var(1, correction=0).sqrt()):
    groups = x.reshape(len(x) // n, n, -1)
    told = std(groups).mean(1)
    return torch.cat([x, told.repeat_interleave(n)[:, None]], 1)


def _features(groups: int, n: int, D: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, int]:
        width = 0.3 + 2 * torch.rand(groups, 1, D, generator=g)
        return (1 + width * _normal(g, groups, n, D)).flatten(0, 1), n

    return draw


with_variety = close(
    "with_variety",
    _variety,
    {"": _features(3, 4, 5), "pairs": _features(4, 2, 3), "one group": _features(1, 6, 2)},
    [
        Mistake(
            lambda x, n: _variety(x, n, lambda rows: rows.std(1)),
            "divide by n, not by n - 1: the batch is all that there is to describe",
        ),
        Mistake(
            lambda x, n: _variety(x, len(x)),
            "each group of n rows has its own number",
        ),
        Mistake(
            lambda x, n: _variety(x, n, lambda rows: rows.var(1, correction=0)),
            "the standard deviation is asked for, not the variance",
        ),
        Mistake(
            lambda x, n: _variety(x, n)[:, -1:],
            "the number is one feature more: the others stay in front of it",
        ),
        Mistake(
            lambda x, n: torch.cat([x, _variety(x, n)[::n, -1].repeat(n)[:, None]], 1),
            "groups are consecutive rows: the first n are the first group",
        ),
    ],
)


# 7. Diffusion: from a denoiser to a velocity ----------------------------------------------


def _velocity(x, x0_hat, alpha, sigma, d_alpha, d_sigma):
    return d_alpha * x0_hat + d_sigma * (x - alpha * x0_hat) / sigma


def _on_the_way(B: int, D: int, variance: bool) -> Inputs:
    """A point on a path of any two functions, or on one that preserves the variance."""

    def draw(g: torch.Generator) -> tuple:
        angle = _between(g, 0.4, 1.1)
        alpha, sigma = math.cos(angle), math.sin(angle)
        d_alpha, d_sigma = -sigma, alpha
        if not variance:
            sigma, d_alpha, d_sigma = _between(g, 2, 5), -_between(g, 0.2, 0.6), 1.7
        return _normal(g, B, D), _normal(g, B, D), alpha, sigma, d_alpha, d_sigma

    return draw


path_velocity = close(
    "path_velocity",
    _velocity,
    {
        "": _on_the_way(4, 3, variance=True),
        "a path that does not preserve the variance": _on_the_way(3, 5, variance=False),
    },
    [
        Mistake(
            lambda x, x0, a, s, da, ds: da * x0 + ds * (x - a * x0),
            "the noise is (x - alpha x0) / sigma: divide by sigma",
        ),
        Mistake(
            lambda x, x0, a, s, da, ds: _velocity(x, x0, a, s, -s, a),
            "right only where alpha and sigma are cosine and sine: take the given slopes",
        ),
        Mistake(
            lambda x, x0, a, s, da, ds: (x - a * x0) / s - x0,
            "this is the velocity of the straight path, alpha = 1 - t and sigma = t",
        ),
    ],
    rtol=1e-3,
)


# 8. Evaluation: can a neighbour tell? -----------------------------------------------------


def _distances(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    both = torch.cat([x, y]).double()
    square = (both[:, None] - both).square().sum(2)
    return square, torch.arange(len(both)) < len(x)


def _told(x: Tensor, y: Tensor, own: float = math.inf) -> Tensor:
    """The two accuracies; `own` is the distance of a point from itself."""
    square, real = _distances(x, y)
    square.diagonal().fill_(own)
    nearest = square.argmin(1)
    right = (real[nearest] == real).double()
    return torch.stack([right[real].mean(), right[~real].mean()])


def _clouds(n: int, m: int, D: int, width: float, shift: float) -> Inputs:
    """Two clouds, the second one wider and shifted, so that both accuracies vary."""

    def draw(g: torch.Generator) -> tuple[Tensor, Tensor]:
        return _normal(g, n, D), shift + width * _normal(g, m, D)

    return draw


neighbours_tell = close(
    "neighbours_tell",
    _told,
    {
        "": _clouds(40, 40, 2, 1.5, 0.3),
        "samples that are too narrow": _clouds(60, 50, 3, 0.5, 0.0),
        "unequal numbers": _clouds(25, 70, 5, 1.2, 0.5),
    },
    [
        Mistake(
            lambda x, y: _told(x, y, own=0.0),
            "every point is its own nearest neighbour: leave it out",
        ),
        Mistake(
            lambda x, y: _told(x, y).mean().expand(2),
            "two numbers are asked for: one of the data, one of the samples",
        ),
        Mistake(
            lambda x, y: _told(x, y).flip(0),
            "the first number is that of the data",
        ),
        Mistake(
            lambda x, y: 1 - _told(x, y),
            "this is how often the neighbour is wrong",
        ),
    ],
)
