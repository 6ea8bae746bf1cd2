"""Questions of the unit diffusion/few_step."""

import math

import torch
from torch import Tensor

from gdm_course.checks.question import Inputs, Mistake, close


def _normal(g: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=g)


def _between(g: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * torch.rand((), generator=g).item()


# 1. The boundary --------------------------------------------------------------------------


def _boundary(s: Tensor, low: float, sigma_data: float) -> tuple[Tensor, Tensor]:
    c_skip = sigma_data**2 / ((s - low) ** 2 + sigma_data**2)
    return c_skip, sigma_data * (s - low) / (s * s + sigma_data**2).sqrt()


def _levels(n: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, float, float]:
        low = _between(g, 0.1, 0.5)
        s = low + 2 * torch.rand(n, generator=g)
        s[0] = low
        return s, low, _between(g, 0.4, 0.9)

    return draw


boundary = close(
    "boundary",
    _boundary,
    {"": _levels(5), "two levels": _levels(2), "many": _levels(9)},
    [
        Mistake(
            lambda s, low, d: _boundary(s, 0.0, d),
            "the boundary is at s = low, not at 0: s - low has to be in both",
        ),
        Mistake(
            lambda s, low, d: (_boundary(s, 0.0, d)[0], _boundary(s, low, d)[1]),
            "c_skip is not 1 at s = low: there s - low counts, not s",
        ),
        Mistake(
            lambda s, low, d: _boundary(s, low, 1.0),
            "sigma_data is taken for 1: it is an argument",
        ),
        Mistake(
            lambda s, low, d: (
                _boundary(s, low, d)[0],
                d * (s - low) / ((s - low) ** 2 + d * d).sqrt(),
            ),
            "under the root of c_out stands s, not s - low",
        ),
        Mistake(
            lambda s, low, d: _boundary(s, low, d)[::-1],
            "the order is c_skip, c_out",
        ),
        Mistake(
            lambda s, low, d: (_boundary(s, low, d)[0].sqrt(), _boundary(s, low, d)[1]),
            "c_skip has no root",
        ),
    ],
)


# 2. The loss of consistency ---------------------------------------------------------------


def _consistency(a, x0, eps, less, more, teacher=None, stopped=True, weighted=True):
    """The loss and its slope in a, for f(z, s) = z / (1 + a s)."""
    z, w = x0 + more * eps, x0 + less * (eps if teacher is None else teacher)
    f, g = z / (1 + a * more), w / (1 + a * less)
    df, dg = -more * z / (1 + a * more) ** 2, -less * w / (1 + a * less) ** 2
    gap, by = f - g, (more - less) if weighted else 1.0
    slope = 2 * gap * (df if stopped else df - dg)
    return (gap**2).sum(1).mean() / by, slope.sum(1).mean() / by


def _upside(a, x0, eps, less, more):
    """The teacher at the higher level: the slope is that of the lower one."""
    z, w = x0 + more * eps, x0 + less * eps
    gap = z / (1 + a * more) - w / (1 + a * less)
    slope = 2 * gap * less * w / (1 + a * less) ** 2
    return (gap**2).sum(1).mean() / (more - less), slope.sum(1).mean() / (more - less)


def _other_noise(a, x0, eps, less, more):
    return _consistency(a, x0, eps, less, more, teacher=eps.flip(0))


def _pairs(B: int, D: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple:
        less = _between(g, 0.5, 1.0)
        x0, eps = _normal(g, B, D), _normal(g, B, D)
        return _between(g, 0.5, 1.5), x0, eps, less, less + _between(g, 0.2, 0.5)

    return draw


def _mean_of_all(a, x0, eps, less, more):
    loss, slope = _consistency(a, x0, eps, less, more)
    return loss / x0.shape[1], slope / x0.shape[1]


consistency_loss = close(
    "consistency_loss",
    _consistency,
    {"": _pairs(5, 3), "two points": _pairs(2, 4), "many": _pairs(9, 2)},
    [
        Mistake(
            _other_noise,
            "the two levels have different noise: they are two points of one line, x0 + s "
            "eps with the same eps",
        ),
        Mistake(
            lambda a, x, e, p, q: _consistency(a, x, e, p, q, stopped=False),
            "the slope goes through the teacher: f at the lower level is a constant",
        ),
        Mistake(
            _upside,
            "the slope is that of the lower level, but the teacher has less noise",
        ),
        Mistake(
            lambda a, x, e, p, q: _consistency(a, x, e, p, q, weighted=False),
            "the weight 1 / (more - less) is missing",
        ),
        Mistake(
            _mean_of_all,
            "right up to a factor of D: squares are summed over the numbers of a point "
            "and averaged over points",
        ),
    ],
)


# 3. The mean velocity of a Gaussian -------------------------------------------------------


def _std(v: Tensor, t: float) -> Tensor:
    return ((1 - t) ** 2 * v + t * t).sqrt()


def _mean_velocity(z: Tensor, v: Tensor, t: float, r: float) -> Tensor:
    return z * (1 - _std(v, r) / _std(v, t)) / (t - r)


def _times(B: int, D: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, Tensor, float, float]:
        v = 0.2 + 2 * torch.rand(D, generator=g)
        return _normal(g, B, D), v, _between(g, 0.6, 0.95), _between(g, 0.05, 0.4)

    return draw


mean_velocity = close(
    "mean_velocity",
    _mean_velocity,
    {"": _times(5, 3), "one point": _times(1, 4), "many": _times(9, 2)},
    [
        Mistake(
            lambda z, v, t, r: z * (t - (1 - t) * v) / _std(v, t) ** 2,
            "this is the velocity at the time t: the mean from r to t is asked for",
        ),
        Mistake(
            lambda z, v, t, r: z * (1 - (_std(v, r) / _std(v, t)) ** 2) / (t - r),
            "points move like the standard deviation, not like the variance: a root is "
            "missing",
        ),
        Mistake(
            lambda z, v, t, r: z * (1 - _std(v, r) / _std(v, t)),
            "this is the way: the mean velocity is the way divided by the time t - r",
        ),
        Mistake(
            lambda z, v, t, r: -_mean_velocity(z, v, t, r),
            "the sign: z is at the later time t, and u = (z_t - z_r) / (t - r)",
        ),
        Mistake(
            lambda z, v, t, r: z * (_std(v, t) / _std(v, r) - 1) / (t - r),
            "z is the point at the time t, not at the time r",
        ),
    ],
)


# 4. Two halves ----------------------------------------------------------------------------


def _u(z: Tensor, t: float, d: float, w: tuple) -> Tensor:
    return (w[0] + w[1] * t + w[2] * d) * z


def _halves(z: Tensor, t: float, d: float, *w: float) -> Tensor:
    first = _u(z, t, d / 2, w)
    return (first + _u(z - d / 2 * first, t - d / 2, d / 2, w)) / 2


def _stays(z, t, d, *w):
    return (_u(z, t, d / 2, w) + _u(z, t - d / 2, d / 2, w)) / 2


def _unasked(z, t, d, *w):
    first = _u(z, t, d, w)
    return (first + _u(z - d / 2 * first, t - d / 2, d, w)) / 2


def _same_time(z, t, d, *w):
    first = _u(z, t, d / 2, w)
    return (first + _u(z - d / 2 * first, t, d / 2, w)) / 2


def _forward(z, t, d, *w):
    first = _u(z, t, d / 2, w)
    return (first + _u(z + d / 2 * first, t - d / 2, d / 2, w)) / 2


def _jumps(B: int, D: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple:
        w = (0.5 + torch.rand(3, generator=g)).tolist()
        return _normal(g, B, D), _between(g, 0.6, 1.0), _between(g, 0.2, 0.5), *w

    return draw


shortcut_target = close(
    "shortcut_target",
    _halves,
    {"": _jumps(5, 3), "one point": _jumps(1, 4), "many": _jumps(9, 2)},
    [
        Mistake(
            _stays,
            "the second half begins where the first ended, not at z",
        ),
        Mistake(
            lambda z, t, d, *w: 2 * _halves(z, t, d, *w),
            "the two velocities are averaged, not summed",
        ),
        Mistake(
            _unasked,
            "the network is asked for jumps of length d / 2, not d",
        ),
        Mistake(_same_time, "the second half begins at the time t - d / 2"),
        Mistake(
            _forward,
            "time falls: the first half leads to z - d / 2 times the velocity",
        ),
    ],
)


# 5. The target of MeanFlow ----------------------------------------------------------------


def _meanflow(x0, eps, t, r, a, b, along=None, of_t=1.0, of_r=0.0, sign=-1.0):
    """For u = (a t + b r) z^2, with directions (along, of_t, of_r) of z, t and r."""
    z, v = (1 - t) * x0 + t * eps, eps - x0
    along = v if along is None else along
    slope = 2 * (a * t + b * r) * z * along + (of_t * a + of_r * b) * z * z
    return v + sign * (t - r) * slope


def _lines(B: int, D: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple:
        t, r = _between(g, 0.6, 0.95), _between(g, 0.05, 0.4)
        a, b = _between(g, 0.5, 1.5), _between(g, 0.5, 1.5)
        return _normal(g, B, D), _normal(g, B, D), t, r, a, b

    return draw


meanflow_target = close(
    "meanflow_target",
    _meanflow,
    {"": _lines(5, 3), "one line": _lines(1, 4), "many": _lines(9, 2)},
    [
        Mistake(
            lambda x, e, *k: _meanflow(x, e, *k, along=e),
            "z moves with v = eps - x0, not with eps",
        ),
        Mistake(
            lambda x, e, *k: _meanflow(x, e, *k, along=0 * e),
            "z moves while t grows: this is the slope at a point that stands still",
        ),
        Mistake(
            lambda x, e, *k: _meanflow(x, e, *k, of_r=1.0),
            "r stands still: its direction is 0",
        ),
        Mistake(
            lambda x, e, *k: _meanflow(x, e, *k, of_t=0.0),
            "t moves too: its direction is 1",
        ),
        Mistake(
            lambda x, e, *k: _meanflow(x, e, *k, of_t=0.0, of_r=1.0, along=0 * e),
            "this is du/dr: the slope in the later time t is asked for",
        ),
        Mistake(
            lambda x, e, *k: _meanflow(x, e, *k, sign=1.0),
            "the sign: u = v - (t - r) du/dt",
        ),
        Mistake(
            lambda x, e, t, r, a, b: e - x,
            "this is v: the correction (t - r) du/dt is missing",
        ),
    ],
)


# 6. Back to some noise --------------------------------------------------------------------


def _renoise(x: Tensor, s: float, low: float, eps: Tensor) -> Tensor:
    return x + math.sqrt(s * s - low * low) * eps


def _ends(B: int, D: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, float, float, Tensor]:
        low = _between(g, 0.3, 0.6)
        return _normal(g, B, D), low + _between(g, 0.2, 0.6), low, _normal(g, B, D)

    return draw


renoise = close(
    "renoise",
    _renoise,
    {"": _ends(5, 3), "one point": _ends(1, 4), "many": _ends(9, 2)},
    [
        Mistake(
            lambda x, s, low, eps: x + s * eps,
            "this brings all of s: the point has noise of the level low already",
        ),
        Mistake(
            lambda x, s, low, eps: x + (s - low) * eps,
            "independent noise adds in variances, not in standard deviations",
        ),
        Mistake(
            lambda x, s, low, eps: x + (s * s - low * low) * eps,
            "this is the variance: eps is multiplied by its root",
        ),
        Mistake(
            lambda x, s, low, eps: x + math.sqrt(s * s + low * low) * eps,
            "low^2 is there already: it is subtracted",
        ),
    ],
)
