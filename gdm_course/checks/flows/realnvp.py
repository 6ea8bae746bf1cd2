"""Questions of the unit flows/realnvp."""

import math

import torch
from torch import Tensor

from gdm_course.checks.question import Inputs, Mistake, close

# 1. and 2. A coupling under a mask --------------------------------------------------------


def _forward(x: Tensor, mask: Tensor, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    free = 1 - mask
    return x * (free * s).exp() + free * t, (free * s).sum(-1)


def _inverse(z: Tensor, mask: Tensor, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    free = 1 - mask
    return (z - free * t) * (-free * s).exp(), -(free * s).sum(-1)


def _coupling_inputs(B: int, D: int, kept: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        mask = torch.zeros(D)
        mask[torch.randperm(D, generator=g)[:kept]] = 1
        x, s, t = torch.randn(3, B, D, generator=g)
        return x, mask, 0.7 * s, t

    return draw


_COUPLINGS = {
    "": _coupling_inputs(5, 7, 3),
    "one point of the plane": _coupling_inputs(1, 2, 1),
}


coupling_forward = close(
    "coupling_forward",
    _forward,
    _COUPLINGS,
    [
        Mistake(
            lambda x, m, s, t: (_forward(x, m, s, t)[0], s.sum(-1)),
            "z is right; in log_det only dimensions that the mask leaves free count",
        ),
        Mistake(
            lambda x, m, s, t: (_forward(x, m, s, t)[0], ((1 - m) * s).mean(-1)),
            "z is right; the log of a product of scales is a sum of s, not a mean",
        ),
        Mistake(
            lambda x, m, s, t: (_forward(x, m, s, t)[0], -_forward(x, m, s, t)[1]),
            "z is right; log_det has the wrong sign: forward multiplies by e^s",
        ),
        Mistake(
            lambda x, m, s, t: _forward(x, 1 - m, s, t),
            "the mask is the wrong way round: where it is 1, x passes unchanged",
        ),
        Mistake(
            lambda x, m, s, t: ((1 - m) * (x * s.exp() + t), ((1 - m) * s).sum(-1)),
            "what the mask keeps is lost: add m x, or the layer cannot be inverted",
        ),
        Mistake(
            lambda x, m, s, t: (
                (x + (1 - m) * t) * ((1 - m) * s).exp(),
                _forward(x, m, s, t)[1],
            ),
            "first the scale, then the shift: z = x e^s + t",
        ),
        Mistake(
            lambda x, m, s, t: (
                m * x + (1 - m) * (x * s + t),
                _forward(x, m, s, t)[1],
            ),
            "s is the logarithm of the scale: multiply by e^s",
        ),
    ],
)

coupling_inverse = close(
    "coupling_inverse",
    _inverse,
    _COUPLINGS,
    [
        Mistake(
            lambda z, m, s, t: (
                z * ((m - 1) * s).exp() - (1 - m) * t,
                _inverse(z, m, s, t)[1],
            ),
            "undo the last step first: subtract t, then divide by e^s",
        ),
        Mistake(
            lambda z, m, s, t: (_inverse(z, m, s, t)[0], ((1 - m) * s).sum(-1)),
            "x is right; log_det is that of the map just made, the inverse: minus sum s",
        ),
        Mistake(
            lambda z, m, s, t: (_inverse(z, m, s, t)[0], -s.sum(-1)),
            "x is right; in log_det only dimensions that the mask leaves free count",
        ),
        Mistake(
            lambda z, m, s, t: ((z - t) * (-s).exp(), _inverse(z, m, s, t)[1]),
            "what the mask keeps must come back as it was: no shift, no scale there",
        ),
        Mistake(_forward, "this is the way there; asked for is the way back, from z to x"),
        Mistake(
            lambda z, m, s, t: _inverse(z, 1 - m, s, t),
            "the mask is the wrong way round: where it is 1, x passed unchanged",
        ),
    ],
)


# 3. The floor of additive flows -----------------------------------------------------------


def _floor(p: Tensor, area: float, rank: bool = True, unit: bool = True) -> Tensor:
    p = p.sort(descending=rank).values
    A = torch.arange(1, len(p) + 1).to(p) * (area if unit else 1.0)
    entropy = -(p * p.log()).sum() * area
    return 1 + ((p * A).sum() * area).log() - entropy


def _cells(n: int, area: float) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, float]:
        p = (1.5 * torch.randn(n, generator=g)).exp()
        return p / (p.sum() * area), area

    return draw


additive_floor = close(
    "additive_floor",
    _floor,
    {"": _cells(60, 0.05), "few large cells": _cells(12, 0.3)},
    [
        Mistake(
            lambda p, area: _floor(p, area, rank=False),
            "A(x) is the area where the density is HIGHER: sort with descending=True",
        ),
        Mistake(
            lambda p, area: _floor(p, area, unit=False),
            "A counts cells; an area is their number times `area`",
        ),
        Mistake(
            lambda p, area: _floor(p, area) - 1,
            "the 1 is missing: it is E[A] / (2 pi sigma^2) at the best sigma",
        ),
        Mistake(
            lambda p, area: _floor(p, area) - 2 * (p * p.log()).sum() * area,
            "the entropy is -E log p: mind its sign",
        ),
        Mistake(
            lambda p, area: _floor(p, area) + (1 - area) * -(p * p.log()).sum(),
            "an integral is a sum times the cell's area: the entropy lacks it",
        ),
    ],
)


# 4. ActNorm's start -----------------------------------------------------------------------


def _start(x: Tensor) -> tuple[Tensor, Tensor]:
    flat = x.transpose(0, 1).flatten(1)
    return flat.mean(1), -flat.std(1).log()


def _population(x: Tensor) -> tuple[Tensor, Tensor]:
    flat = x.transpose(0, 1).flatten(1)
    return flat.mean(1), -flat.std(1, correction=0).log()


def _images(*shape: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor]:
        scale, mean = torch.rand(2, shape[1], 1, 1, generator=g)
        return ((0.3 + 3 * scale) * torch.randn(shape, generator=g) + 5 * mean,)

    return draw


actnorm_start = close(
    "actnorm_start",
    _start,
    {"": _images(6, 3, 4, 5), "two images": _images(2, 4, 6, 3)},
    [
        Mistake(
            lambda x: (_start(x)[0], -_start(x)[1]),
            "z = (x - mean) e^log_scale must have variance 1: log_scale = -log std",
        ),
        Mistake(
            lambda x: (x.mean(0), -x.std(0).log()),
            "these are figures of each pixel; a channel shares one mean and one scale",
        ),
        Mistake(
            lambda x: (_start(x)[0], 2 * _start(x)[1]),
            "divide by the standard deviation, not by the variance",
        ),
        Mistake(
            lambda x: (_start(x)[0], (-_start(x)[1]).exp() ** -1),
            "that is the scale; asked for is its logarithm",
        ),
        Mistake(
            lambda x: (
                _start(x)[0],
                -x.transpose(0, 1).flatten(1).square().mean(1).log() / 2,
            ),
            "the variance is taken around the mean: subtract it before you square",
        ),
        Mistake(
            lambda x: (x.mean(), -x.std().log()),
            "every channel has a mean and a scale of its own: (C,) each",
        ),
    ],
    rtol=1e-3,
    also=[_population],  # the text does not say by how many to divide
)


# 5. The LU matrix of a 1 x 1 convolution --------------------------------------------------


def _lu(P, lower, upper, sign, log_d, H, W):
    L = lower.tril(-1) + torch.eye(len(P)).to(lower)
    U = upper.triu(1) + torch.diag(sign * log_d.exp())
    return P @ L @ U, H * W * log_d.sum()


def _lu_inputs(C: int, H: int, W: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple:
        P = torch.eye(C)
        while torch.equal(P, P.T):  # it must not be its own inverse
            P = torch.eye(C)[torch.randperm(C, generator=g)]
        lower, upper = torch.randn(2, C, C, generator=g)
        sign = torch.randint(2, (C,), generator=g).float() * 2 - 1
        sign[0] = -1
        return P, lower, upper, sign, 0.5 * torch.randn(C, generator=g), H, W

    return draw


lu_matrix = close(
    "lu_matrix",
    _lu,
    {"": _lu_inputs(4, 3, 5), "3 channels": _lu_inputs(3, 4, 2)},
    [
        Mistake(
            lambda P, lo, u, s, d, H, W: (_lu(P, lo, u, s, d, H, W)[0], d.sum()),
            "the matrix is right; it acts on H W pixels, each with its own determinant",
        ),
        Mistake(
            lambda P, lo, u, s, d, H, W: (
                P @ lo.tril() @ (u.triu(1) + torch.diag(s * d.exp())),
                H * W * d.sum(),
            ),
            "L needs ones on its diagonal, or its determinant is not 1",
        ),
        Mistake(
            lambda P, lo, u, s, d, H, W: (
                P
                @ (lo.tril(-1) + torch.eye(len(P)))
                @ (u.triu() + torch.diag(s * d.exp())),
                H * W * d.sum(),
            ),
            "U's own diagonal is still there: triu(1) leaves it out",
        ),
        Mistake(
            lambda P, lo, u, s, d, H, W: (
                P @ (lo.tril(-1) + torch.eye(len(P))) @ (u.triu(1) + torch.diag(s * d)),
                H * W * d.sum(),
            ),
            "the diagonal is sign times e^log_d, so that it is never 0",
        ),
        Mistake(
            lambda P, lo, u, s, d, H, W: _lu(P.T, lo, u, s, d, H, W),
            "P itself, not its transpose",
        ),
    ],
)


# 6. Bounds for codes ----------------------------------------------------------------------


def _log_weights(log_p: Tensor, log_q: Tensor, K: int, D: int) -> Tensor:
    return log_p - D * math.log(K) - log_q


def _bounds(log_p: Tensor, log_q: Tensor, K: int, D: int) -> tuple[Tensor, Tensor]:
    w = _log_weights(log_p, log_q, K, D)
    return w.mean(0), w.logsumexp(0) - math.log(len(w))


def _draws(k: int, K: int, D: int, *levels: float) -> Inputs:
    level = torch.tensor(levels)

    def draw(g: torch.Generator) -> tuple[Tensor, Tensor, int, int]:
        log_p, log_q = torch.randn(2, k, len(levels), generator=g)
        return 3 * log_p + level, log_q, K, D

    return draw


code_bounds = close(
    "code_bounds",
    _bounds,
    {
        "": _draws(8, 17, 6, *[4.0] * 6),
        "one draw": _draws(1, 5, 10, 1.0, -3.0),
        "log-densities from -4,000 to 2,000": _draws(5, 256, 300, -4000, 2000, -90),
    },
    [
        Mistake(
            lambda p, q, K, D: _bounds(p, -q, K, D),
            "log q is subtracted: noise that is sure of itself pays for it",
        ),
        Mistake(
            lambda p, q, K, D: _bounds(p, 0 * q, K, D),
            "log q(u | x) is missing; only uniform noise has log q = 0",
        ),
        Mistake(
            lambda p, q, K, D: _bounds(p, q, 1, D),
            "the flow sees (x + u) / K: its density is K^D times too large",
        ),
        Mistake(
            lambda p, q, K, D: _bounds(p, q, K, 1),
            "every one of the D dimensions was divided by K: subtract D log K",
        ),
        Mistake(
            lambda p, q, K, D: (
                _bounds(p, q, K, D)[0],
                _bounds(p, q, K, D)[1] + math.log(len(p)),
            ),
            "the second bound averages the k weights: subtract log k",
        ),
        Mistake(
            lambda p, q, K, D: (
                _bounds(p, q, K, D)[0],
                _log_weights(p, q, K, D).exp().mean(0).log(),
            ),
            "exp of a large negative w underflows to 0, and log 0 is -inf: use logsumexp",
        ),
    ],
)
