"""Questions of the unit diffusion/score_sde."""

import math

import torch
from torch import Tensor

from gdm_course.checks.question import Inputs, Mistake, close


def _normal(g: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=g)


def _between(g: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * torch.rand((), generator=g).item()


# 1. How much noise ------------------------------------------------------------------------


def _B(t: Tensor, low: float, high: float) -> Tensor:
    return low * t + (high - low) * t * t / 2


def _sub_vp_std(t: Tensor, low: float, high: float) -> Tensor:
    return -torch.expm1(-_B(t, low, high))


def _times(n: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, float, float]:
        low, high = _between(g, 0.1, 0.5), _between(g, 6, 12)
        return 0.1 + 0.5 * torch.rand(n, generator=g), low, high

    return draw


sub_vp_std = close(
    "sub_vp_std",
    _sub_vp_std,
    {"": _times(5), "one time": _times(1), "other numbers": _times(3)},
    [
        Mistake(
            lambda t, a, b: _sub_vp_std(t, a, b).sqrt(),
            "this is VP's: the stream with less noise has 1 - e^-B as its standard "
            "deviation, without a root",
        ),
        Mistake(
            lambda t, a, b: _sub_vp_std(t, a, b).square(),
            "this is the variance: its root is asked for",
        ),
        Mistake(
            lambda t, a, b: torch.exp(-_B(t, a, b)),
            "this is what is left of alpha^2; noise is 1 minus that",
        ),
        Mistake(
            lambda t, a, b: -torch.expm1(-2 * _B(t, a, b)),
            "e^-2B belongs to g^2, which is integrated already",
        ),
        Mistake(
            lambda t, a, b: -torch.expm1(-t * (a + (b - a) * t)),
            "B is the integral of beta from 0 to t, not beta t: of the rise half counts",
        ),
    ],
)


# 2. One step back -------------------------------------------------------------------------


def _back(x: Tensor, score: Tensor, f: Tensor, g: float, h: float, xi: Tensor) -> Tensor:
    return x - h * (f - g * g * score) + g * math.sqrt(h) * xi


def _paths(B: int, D: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple:
        x, score, xi = (_normal(g, B, D) for _ in range(3))
        f = -_between(g, 0.5, 2) * x
        return x, score, f, _between(g, 0.7, 2.5), _between(g, 0.05, 0.4), xi

    return draw


reverse_step = close(
    "reverse_step",
    _back,
    {"": _paths(5, 3), "one path": _paths(1, 4), "many": _paths(9, 2)},
    [
        Mistake(
            lambda x, score, f, g, h, xi: x - h * (f + g * g * score) + g * h**0.5 * xi,
            "the score has the wrong sign: on the way back points climb towards likely "
            "places, so h g^2 score is added",
        ),
        Mistake(
            lambda x, score, f, g, h, xi: x + h * (f - g * g * score) + g * h**0.5 * xi,
            "time falls: x - h times the drift, with h > 0",
        ),
        Mistake(
            lambda x, score, f, g, h, xi: x - h * (f - g * score) + g * h**0.5 * xi,
            "the score is multiplied by g^2, the variance that comes in per time",
        ),
        Mistake(
            lambda x, score, f, g, h, xi: x - h * (f - g * g * score) + g * h * xi,
            "noise grows with the root of the time: g sqrt(h)",
        ),
        Mistake(
            lambda x, score, f, g, h, xi: x - h * (f - g * g * score / 2) + g * h**0.5 * xi,
            "half of g^2 is the ODE's, which has no noise; with noise it is all of it",
        ),
        Mistake(
            lambda x, score, f, g, h, xi: x - h * (f - g * g * score) - g * h**0.5 * xi,
            "the noise has the other sign: of the same law, but xi is to be added here",
        ),
        Mistake(
            lambda x, score, f, g, h, xi: x - h * (f - g * g * score),
            "the new noise is missing: without it the score counts half",
        ),
    ],
)


# 3. The velocity of the ODE ---------------------------------------------------------------


def _velocity(x: Tensor, score: Tensor, beta: float) -> Tensor:
    return -beta / 2 * (x + score)


def _places(B: int, D: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, Tensor, float]:
        return _normal(g, B, D), _normal(g, B, D), _between(g, 0.5, 9)

    return draw


flow_velocity = close(
    "flow_velocity",
    _velocity,
    {"": _places(4, 3), "one point": _places(1, 5), "many": _places(8, 2)},
    [
        Mistake(
            lambda x, score, beta: -beta / 2 * x - beta * score,
            "this is the drift of the reversed stream: the ODE takes half of g^2",
        ),
        Mistake(
            lambda x, score, beta: -beta / 2 * (x - score),
            "the score has the wrong sign: noise spreads the data, away from likely places",
        ),
        Mistake(
            lambda x, score, beta: -beta / 2 * score,
            "the stream's own drift f = -beta x / 2 is missing",
        ),
        Mistake(
            lambda x, score, beta: beta / 2 * (x + score),
            "this runs from noise to data; dx/dt is asked for, and data are at t = 0",
        ),
        Mistake(
            lambda x, score, beta: -beta / 2 * x - math.sqrt(beta) / 2 * score,
            "g^2 is beta, g is its root",
        ),
    ],
)


# 4. Two slopes ----------------------------------------------------------------------------


def _clean(z: Tensor, v: Tensor, s: float) -> Tensor:
    return v / (v + s * s) * z


def _heun(z: Tensor, v: Tensor, s: float, s_next: float) -> Tensor:
    slope = (z - _clean(z, v, s)) / s
    there = z + (s_next - s) * slope
    if s_next > 0:
        slope = (slope + (there - _clean(there, v, s_next)) / s_next) / 2
    return z + (s_next - s) * slope


def _second_at_start(z, v, s, s_next):
    first = (z - _clean(z, v, s)) / s
    second = (z - _clean(z, v, s_next)) / s_next if s_next > 0 else first
    return z + (s_next - s) * (first + second) / 2


def _divided_by_s(z, v, s, s_next):
    first = (z - _clean(z, v, s)) / s
    there = z + (s_next - s) * first
    second = (there - _clean(there, v, s_next)) / s if s_next > 0 else first
    return z + (s_next - s) * (first + second) / 2


def _unguarded(z, v, s, s_next):
    first = (z - _clean(z, v, s)) / s
    there = z + (s_next - s) * first
    second = (there - _clean(there, v, s_next)) / torch.tensor(s_next)
    return z + (s_next - s) * (first + second) / 2


def _limit(z, v, s, s_next):
    first = (z - _clean(z, v, s)) / s
    there = z + (s_next - s) * first
    return z + (s_next - s) * (first + s_next / (v + s_next**2) * there) / 2


def _euler_only(z, v, s, s_next):
    return z + (s_next - s) * (z - _clean(z, v, s)) / s


def _noise_levels(B: int, D: int, last: bool = False) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, Tensor, float, float]:
        s, v = _between(g, 1, 3), 0.2 + torch.rand(D, generator=g)
        s_next = 0.0 if last else s * _between(g, 0.2, 0.6)
        return s * _normal(g, B, D), v, s, s_next

    return draw


heun_step = close(
    "heun_step",
    _heun,
    {
        "": _noise_levels(4, 3),
        "one point": _noise_levels(1, 4),
        "the last step": _noise_levels(6, 2, last=True),
    },
    [
        Mistake(
            _euler_only,
            "this is Euler's step: the slope at the end is missing",
        ),
        Mistake(
            _second_at_start,
            "the second slope is taken at z: it belongs to where Euler's step leads",
        ),
        Mistake(
            _divided_by_s,
            "the second slope is at the level s_next: divide it by s_next",
        ),
        Mistake(
            _unguarded,
            "at s_next = 0 this divides by 0: the last step is Euler's",
        ),
        Mistake(
            _limit,
            "take Euler's step alone at s_next = 0, not the mean with the slope's limit 0",
        ),
        Mistake(
            lambda z, v, s, s_next: 2 * z - _heun(z, v, s, s_next),
            "the slope has the wrong sign: z - D(z, s) points away from the data, and s "
            "falls",
        ),
    ],
)


# 5. A line through two guesses ------------------------------------------------------------


def _multistep(z, x0, before, s_before, s, s_next) -> Tensor:
    h, h_before = math.log(s / s_next), math.log(s_before / s)
    ahead = x0 + (x0 - before) * (h / (2 * h_before))
    return s_next / s * z - math.expm1(-h) * ahead


def _mixed(change):
    """The same with something else for h, the part ahead and its weight."""

    def step(z, x0, before, s_before, s, s_next):
        h, h_before = math.log(s / s_next), math.log(s_before / s)
        ratio, weight = change(h, h_before)
        return s_next / s * z + weight * (x0 + ratio * (x0 - before))

    return step


def _guesses(B: int, D: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple:
        s = _between(g, 0.5, 2)
        s_before, s_next = s * _between(g, 1.3, 2), s * _between(g, 0.2, 0.5)
        return *(_normal(g, B, D) for _ in range(3)), s_before, s, s_next

    return draw


dpm_2m_step = close(
    "dpm_2m_step",
    _multistep,
    {"": _guesses(4, 3), "one point": _guesses(1, 5), "many": _guesses(7, 2)},
    [
        Mistake(
            _mixed(lambda h, k: (0.0, -math.expm1(-h))),
            "this is DDIM, order 1: the guess before is not used",
        ),
        Mistake(
            _mixed(lambda h, k: (k / (2 * h), -math.expm1(-h))),
            "the ratio is upside down: a long step now, after a short one, looks further "
            "ahead",
        ),
        Mistake(
            _mixed(lambda h, k: (-h / (2 * k), -math.expm1(-h))),
            "the line is followed backwards: x0 - x0_before is added",
        ),
        Mistake(
            _mixed(lambda h, k: (h / (2 * k), math.expm1(h))),
            "1 - e^-h is asked for, not e^h - 1",
        ),
        Mistake(
            _mixed(lambda h, k: (h / (2 * k), -math.expm1(-2 * h))),
            "h is the step of log(1/s), half of that of log_snr",
        ),
        Mistake(
            _mixed(lambda h, k: (h / k, -math.expm1(-h))),
            "half of the way: the middle of the step counts, so h is divided by 2 h_before",
        ),
    ],
)


# 6. What a network sees and says ----------------------------------------------------------


def _wishes(s: Tensor, sigma_data: float) -> tuple[Tensor, Tensor, Tensor]:
    total = s * s + sigma_data**2
    return sigma_data**2 / total, s * sigma_data / total.sqrt(), 1 / total.sqrt()


def _settings(n: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, float]:
        return torch.exp(_normal(g, n)), _between(g, 0.3, 0.8)

    return draw


def _instead(c_skip=None, c_out=None, c_in=None):
    def answer(s, sigma_data):
        right = _wishes(s, sigma_data)
        given = (c_skip, c_out, c_in)
        return tuple(f(s, sigma_data) if f else r for f, r in zip(given, right))

    return answer


precondition = close(
    "precondition",
    _wishes,
    {"": _settings(4), "one level": _settings(1), "many": _settings(9)},
    [
        Mistake(
            lambda s, sigma_data: _wishes(s, 1.0),
            "sigma_data is taken for 1: it is an argument",
        ),
        Mistake(
            _instead(c_out=lambda s, d: s),
            "c_out = s is the best for c_skip = 1; another c_skip allows a smaller one",
        ),
        Mistake(
            _instead(c_in=lambda s, d: 1 / (s * s + d * d)),
            "c_in without the root: the *variance* of z is s^2 + sigma_data^2",
        ),
        Mistake(
            _instead(c_skip=lambda s, d: s * s / (s * s + d * d)),
            "c_skip is that of the noise: without noise z is the answer, and c_skip is 1",
        ),
        Mistake(
            _instead(c_out=lambda s, d: (s * d) ** 2 / (s * s + d * d)),
            "this is c_out^2, the variance of what F has to say",
        ),
        Mistake(
            lambda s, sigma_data: _wishes(s, sigma_data)[::-1],
            "the order is c_skip, c_out, c_in",
        ),
    ],
)
