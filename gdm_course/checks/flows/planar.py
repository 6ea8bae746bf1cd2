"""Questions of the unit flows/planar."""

import math

import torch
from torch import Tensor
from torch.distributions import LogNormal, Normal

from gdm_course.checks.question import Inputs, Mistake, close
from gdm_course.flows.planar import allowed, newton


def _normal(g: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=g)


# 1. Change of variables on the line -------------------------------------------------------


def _lognormal(x: Tensor, mu: Tensor, sigma: Tensor) -> Tensor:
    return LogNormal(mu, sigma).log_prob(x)


def _at_log(x: Tensor, mu: Tensor, sigma: Tensor) -> Tensor:
    z = (x.log() - mu) / sigma
    return -0.5 * z**2 - 0.5 * math.log(2 * math.pi)


def _positive(B: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        x = torch.exp(0.3 + 0.8 * _normal(g, B))
        return x, _normal(g), torch.rand((), generator=g) + 0.3

    return draw


lognormal_log_prob = close(
    "lognormal_log_prob",
    _lognormal,
    {"": _positive(9), "one number": _positive(1)},
    [
        Mistake(
            _at_log,
            "this is log p_z at f(x) alone: the factor |f'(x)| of equation (1) is missing",
        ),
        Mistake(
            lambda x, mu, sigma: _at_log(x, mu, sigma) + (sigma * x).log(),
            "the slope has the wrong sign: f' = 1 / (sigma x), so log |f'| is subtracted",
        ),
        Mistake(
            lambda x, mu, sigma: _at_log(x, mu, sigma) - sigma.log(),
            "f(x) = (log x - mu) / sigma has the slope 1 / (sigma x): the 1 / x is missing",
        ),
        Mistake(
            lambda x, mu, sigma: _at_log(x, mu, sigma) - x.log(),
            "f(x) = (log x - mu) / sigma has the slope 1 / (sigma x): sigma is missing",
        ),
        Mistake(
            lambda x, mu, sigma: Normal(mu, sigma).log_prob(x),
            "this is a Gaussian for x itself: Gaussian is log x, and its slope counts",
        ),
    ],
)


# 2. The log-determinant of a planar step --------------------------------------------------


def _plane(B: int, D: int, low: float, high: float, far: float = 1.0) -> Inputs:
    """Points, and a step that is invertible: z, w, u, b with 1 + w.u from low to high."""

    def draw(g: torch.Generator) -> tuple[Tensor, ...]:
        w, u = torch.nn.functional.normalize(_normal(g, D), dim=0), _normal(g, D)
        w = w * (0.7 + 0.7 * torch.rand((), generator=g))
        slope = low + (high - low) * torch.rand((), generator=g)
        u = u + (slope - 1 - w @ u) / (w @ w) * w
        return far * _normal(g, B, D), w, u, _normal(g)

    return draw


_PLANES = {
    "": _plane(6, 5, 1.5, 5.0),
    "w.u below 0": _plane(4, 3, 0.15, 0.7),
    "one point of the plane": _plane(1, 2, 1.5, 3.0),
}


def _planar_log_det(z: Tensor, w: Tensor, u: Tensor, b: Tensor) -> Tensor:
    return torch.log1p((1 - torch.tanh(z @ w + b) ** 2) * (w @ u))


planar_log_det = close(
    "planar_log_det",
    _planar_log_det,
    _PLANES,
    [
        Mistake(
            lambda z, w, u, b: torch.log((1 + torch.tanh(z @ w + b) * (w @ u)).abs()),
            "the Jacobian holds the derivative of tanh, 1 - tanh^2, not tanh itself",
        ),
        Mistake(
            lambda z, w, u, b: _planar_log_det(z, w, u, b).exp(),
            "this is the determinant; asked for is its logarithm",
        ),
        Mistake(
            lambda z, w, u, b: -_planar_log_det(z, w, u, b),
            "this is the log-determinant of the way back; asked for is dx / dz",
        ),
        Mistake(
            lambda z, w, u, b: _planar_log_det(z, w, u, 0 * b),
            "the offset b is missing: tanh' is taken at w.z + b",
        ),
        Mistake(
            lambda z, w, u, b: _planar_log_det(z, w, u, b) / math.log(10),
            "this is the logarithm to base 10; the natural one is meant, torch.log",
        ),
    ],
)


# 3. The repair ----------------------------------------------------------------------------


def _free(D: int, low: float, high: float) -> Inputs:
    """Vectors u, w with w.u from low to high; the step is invertible above -1."""

    def draw(g: torch.Generator) -> tuple[Tensor, Tensor]:
        u, w = 2 * _normal(g, D), _normal(g, D)
        w = w * (0.6 + torch.rand((), generator=g)) / w.norm()
        s = low + (high - low) * torch.rand((), generator=g)
        return u + (s - w @ u) / (w @ w) * w, w

    return draw


def _other_growth(u: Tensor, w: Tensor) -> Tensor:
    s = w @ u
    return u + (torch.nn.functional.softplus(s) - 1 - s) / (w @ w) * w


repaired = close(
    "repaired",
    lambda u, w: allowed(u, w)[0],
    {
        "": _free(4, 0.5, 3.0),
        "w.u far below -1": _free(3, -8.0, -3.0),
        "w.u between -1 and 0": _free(2, -0.8, -0.2),
    },
    [
        Mistake(
            _other_growth,
            "the shift log(e - 1) inside of softplus is missing: (8) has it, the paper not",
        ),
        Mistake(
            lambda u, w: u + (allowed(u, w)[0] - u) * (w @ w),
            "divide by |w|^2: moving u by t w changes w.u by t |w|^2",
        ),
        Mistake(
            lambda u, w: u + (allowed(u, w)[0] - u) * (w @ w).sqrt(),
            "divide by |w|^2, not by |w|: moving u by t w changes w.u by t |w|^2",
        ),
        Mistake(
            lambda u, w: u + (allowed(u, w)[0] - u) + w / (w @ w),
            "now w.u_hat is g; it should be g - 1",
        ),
        Mistake(
            lambda u, w: torch.where(w @ u > -1, u, allowed(u, w)[0]),
            "every u is moved, also one that is allowed: else the map has a jump",
        ),
    ],
)


# 4. The way back --------------------------------------------------------------------------


def _invert(x: Tensor, w: Tensor, u: Tensor, b: Tensor) -> Tensor:
    a = newton(x @ w + b, 1 + w @ u)
    return x - torch.tanh(a)[:, None] * u


def _far_out(g: torch.Generator) -> tuple[Tensor, ...]:
    """Points up to 100 in front of the plane and behind it."""
    x, w, u, b = _plane(6, 4, 1.5, 5.0)(g)
    return x + torch.linspace(-100, 100, 6)[:, None] * w / (w @ w), w, u, b


def _plain_newton(steps: int = 40):
    """Newton's steps from y on, which swing for ever between two points if w.u is large."""

    def guess(x: Tensor, w: Tensor, u: Tensor, b: Tensor) -> Tensor:
        y, s = x @ w + b, w @ u
        a = y
        for _ in range(steps):
            t = torch.tanh(a)
            a = a - (a + s * t - y) / (1 + s * (1 - t**2))
        return x - torch.tanh(a)[:, None] * u

    return guess


def _rough(x: Tensor, w: Tensor, u: Tensor, b: Tensor, steps: int = 8) -> Tensor:
    y, s = x @ w + b, w @ u
    low, high, a = y - s.abs(), y + s.abs(), y
    for _ in range(steps):
        a = (low + high) / 2
        above = a + s * torch.tanh(a) > y
        low, high = torch.where(above, low, a), torch.where(above, a, high)
    return x - torch.tanh(a)[:, None] * u


def _fixed_point(steps: int):
    def guess(x: Tensor, w: Tensor, u: Tensor, b: Tensor) -> Tensor:
        z = x
        for _ in range(steps):
            z = x - torch.tanh(z @ w + b)[:, None] * u
        return z

    return guess


invert_planar = close(
    "invert_planar",
    _invert,
    {  # the map is one to one and onto: any x will do, and no z is hidden behind it
        "": _plane(6, 5, 1.5, 5.0),
        "w.u near -1": _plane(8, 3, 0.03, 0.06),
        "w.u near 30": _plane(20, 2, 28.0, 33.0, far=6.0),
        "points far out": _far_out,
    },
    [
        Mistake(
            _plain_newton(),
            "Newton's steps from a = y do not always arrive: for large w.u they swing to "
            "and fro. Start at a = 0, or halve a bracket that holds the root",
        ),
        Mistake(
            _rough,
            "eight halvings leave an error of |w.u| / 256: each gains one bit, go on",
        ),
        Mistake(
            _fixed_point(1),
            "you took tanh at w.x + b; it belongs at w.z + b, which has to be found first",
        ),
        Mistake(
            _fixed_point(20),
            "z <- x - u tanh(w.z + b) settles only if |w.u| < 1: solve for a = w.z + b",
        ),
        Mistake(
            lambda x, w, u, b: x - (newton(x @ w + b, 1 + w @ u))[:, None] * u,
            "a = w.z + b is right, but z = x - u tanh(a): the tanh is missing",
        ),
        Mistake(
            lambda x, w, u, b: x - torch.tanh(newton(x @ w, 1 + w @ u))[:, None] * u,
            "the offset b is missing: y = w.x + b",
        ),
    ],
    rtol=1e-3,
    atol=1e-4,
)


# 5. An objective without data -------------------------------------------------------------


def _objective(log_p_z: Tensor, log_det: Tensor, U: Tensor, beta: float) -> Tensor:
    return (log_p_z - log_det + beta * U).mean()


def _terms(B: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor, float]:
        beta = 0.1 + 0.8 * torch.rand((), generator=g).item()
        return -2 + _normal(g, B), 1 + _normal(g, B), 3 + _normal(g, B), beta

    return draw


reverse_kl_loss = close(
    "reverse_kl_loss",
    _objective,
    {"": _terms(8), "three points": _terms(3)},
    [
        Mistake(
            lambda log_p_z, log_det, U, beta: (log_p_z + log_det + beta * U).mean(),
            "log q(x) = log p(z) - log |det dx/dz|: the map was from noise to data",
        ),
        Mistake(
            lambda log_p_z, log_det, U, beta: (log_p_z - log_det - beta * U).mean(),
            "log p(x) = -U(x) - log Z, and KL has log q - log p: the energy is added",
        ),
        Mistake(
            lambda log_p_z, log_det, U, beta: (log_p_z - log_det + U).mean(),
            "beta is missing",
        ),
        Mistake(
            lambda log_p_z, log_det, U, beta: (log_p_z - log_det + beta * U).sum(),
            "an expectation is a mean over the batch, not a sum",
        ),
        Mistake(
            lambda log_p_z, log_det, U, beta: beta * (log_p_z - log_det + U).mean(),
            "beta multiplies the energy only, not log q",
        ),
    ],
)


# 6. A radial step -------------------------------------------------------------------------


def _radial_log_det(z: Tensor, c: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    r = torch.linalg.vector_norm(z - c, dim=1)
    around = 1 + beta / (alpha + r)
    return (z.shape[1] - 1) * around.log() + (1 + alpha * beta / (alpha + r) ** 2).log()


def _ball(B: int, D: int, low: float, high: float) -> Inputs:
    """Points and a step with beta / alpha from low to high; above -1 it is invertible."""

    def draw(g: torch.Generator) -> tuple[Tensor, ...]:
        alpha = 0.3 + torch.rand((), generator=g)
        beta = alpha * (low + (high - low) * torch.rand((), generator=g))
        return _normal(g, B, D), _normal(g, D), alpha, beta

    return draw


radial_log_det = close(
    "radial_log_det",
    _radial_log_det,
    {
        "": _ball(7, 4, 0.5, 3.0),
        "beta below 0": _ball(5, 3, -0.9, -0.4),
        "one point of the plane": _ball(1, 2, 0.5, 2.0),
    },
    [
        Mistake(
            lambda z, c, alpha, beta: (
                _radial_log_det(z, c, alpha, beta)
                + torch.log(1 + beta / (alpha + torch.linalg.vector_norm(z - c, dim=1)))
            ),
            "D - 1 directions lie around the centre, not D: one points outwards",
        ),
        Mistake(
            lambda z, c, alpha, beta: (
                z.shape[1]
                * torch.log(1 + beta / (alpha + torch.linalg.vector_norm(z - c, dim=1)))
            ),
            "outwards the stretch is the derivative, 1 + alpha beta / (alpha + r)^2",
        ),
        Mistake(
            lambda z, c, alpha, beta: _radial_log_det(z, 0 * c, alpha, beta),
            "r is the distance from the centre c, not from 0",
        ),
        Mistake(
            lambda z, c, alpha, beta: -_radial_log_det(z, c, alpha, beta),
            "this is the log-determinant of the way back; asked for is dx / dz",
        ),
        Mistake(
            lambda z, c, alpha, beta: _radial_log_det(z, c, alpha, beta).exp(),
            "this is the determinant; asked for is its logarithm",
        ),
    ],
)
