"""Questions of the unit flows/planar."""

import math

import torch
from torch import Tensor
from torch.distributions import LogNormal

from gdm_course.checks.question import Mistake, close
from gdm_course.flows.planar import allowed, newton


def _normal(g: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=g)


# 1. Change of variables on the line -------------------------------------------------------


def _lognormal(x: Tensor, mu: Tensor, sigma: Tensor) -> Tensor:
    return LogNormal(mu, sigma).log_prob(x)


def _at_log(x: Tensor, mu: Tensor, sigma: Tensor) -> Tensor:
    z = (x.log() - mu) / sigma
    return -0.5 * z**2 - 0.5 * math.log(2 * math.pi)


def _positive(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    x = torch.exp(0.3 + 0.8 * _normal(g, 9))
    return x, _normal(g), torch.rand((), generator=g) + 0.3


lognormal_log_prob = close(
    "lognormal_log_prob",
    _lognormal,
    _positive,
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
    ],
)


# 2. The log-determinant of a planar step --------------------------------------------------


def _plane(g: torch.Generator, B: int = 6, D: int = 5) -> tuple[Tensor, ...]:
    """Points, and a step that is invertible: z, w, u, b with 1 + w.u between 0.15 and 5."""
    w, u = _normal(g, D) * 0.7, _normal(g, D)
    slope = 0.15 + 4.85 * torch.rand((), generator=g)
    u = u + (slope - 1 - w @ u) / (w @ w) * w
    return _normal(g, B, D), w, u, _normal(g)


def _planar_log_det(z: Tensor, w: Tensor, u: Tensor, b: Tensor) -> Tensor:
    return torch.log1p((1 - torch.tanh(z @ w + b) ** 2) * (w @ u))


planar_log_det = close(
    "planar_log_det",
    _planar_log_det,
    _plane,
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
    ],
)


# 3. The repair ----------------------------------------------------------------------------


def _free(g: torch.Generator) -> tuple[Tensor, Tensor]:
    return 2 * _normal(g, 4), _normal(g, 4)


def _other_growth(u: Tensor, w: Tensor) -> Tensor:
    s = w @ u
    return u + (torch.nn.functional.softplus(s) - 1 - s) / (w @ w) * w


repaired = close(
    "repaired",
    lambda u, w: allowed(u, w)[0],
    _free,
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
    ],
)


# 4. The way back --------------------------------------------------------------------------


def _invert(x: Tensor, w: Tensor, u: Tensor, b: Tensor) -> Tensor:
    a = newton(x @ w + b, 1 + w @ u)
    return x - torch.tanh(a)[:, None] * u


def _moved(g: torch.Generator) -> tuple[Tensor, ...]:
    z, w, u, b = _plane(g)
    return z + torch.tanh(z @ w + b)[:, None] * u, w, u, b


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
    _moved,
    [
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


def _terms(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor, float]:
    beta = 0.1 + 0.8 * torch.rand((), generator=g).item()
    return -2 + _normal(g, 8), 1 + _normal(g, 8), 3 + _normal(g, 8), beta


reverse_kl_loss = close(
    "reverse_kl_loss",
    _objective,
    _terms,
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
    ],
)


# 6. A radial step -------------------------------------------------------------------------


def _radial_log_det(z: Tensor, c: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    r = torch.linalg.vector_norm(z - c, dim=1)
    around = 1 + beta / (alpha + r)
    return (z.shape[1] - 1) * around.log() + (1 + alpha * beta / (alpha + r) ** 2).log()


def _ball(g: torch.Generator) -> tuple[Tensor, ...]:
    alpha = 0.3 + torch.rand((), generator=g)
    beta = alpha * (0.1 + 3 * torch.rand((), generator=g) - 1)
    return _normal(g, 7, 4), _normal(g, 4), alpha, beta


radial_log_det = close(
    "radial_log_det",
    _radial_log_det,
    _ball,
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
            lambda z, c, alpha, beta: _radial_log_det(z, c, alpha, beta).exp(),
            "this is the determinant; asked for is its logarithm",
        ),
    ],
)
