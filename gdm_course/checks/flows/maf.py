"""Questions of the unit flows/maf."""

import torch
import torch.nn.functional as F
from torch import Tensor

from gdm_course.checks.question import Inputs, Mistake, close
from gdm_course.flows.spline import LEAST

Pair = tuple[Tensor, Tensor]


# 1. A layer of MAF ------------------------------------------------------------------------


def _affine_layer(x: Tensor, mu: Tensor, log_sigma: Tensor) -> Pair:
    return (x - mu) * torch.exp(-log_sigma), -log_sigma.sum(-1)


def _affine_inputs(B: int, D: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        x, mu, log_sigma = torch.randn(3, B, D, generator=g)
        return 2 * x, mu, 0.7 * log_sigma

    return draw


affine_layer = close(
    "affine_layer",
    _affine_layer,
    {"": _affine_inputs(6, 4), "one point of the plane": _affine_inputs(1, 2)},
    [
        Mistake(
            lambda x, mu, a: ((x - mu) * torch.exp(-a), a.sum(-1)),
            "the sign of the log-determinant: dz_d/dx_d = 1 / sigma_d",
        ),
        Mistake(
            lambda x, mu, a: ((x - mu) * torch.exp(-a), -a.mean(-1)),
            "a determinant multiplies over dimensions: sum the logs, do not average",
        ),
        Mistake(
            lambda x, mu, a: (mu + x * torch.exp(a), a.sum(-1)),
            "this is the other direction, from noise to data",
        ),
        Mistake(
            lambda x, mu, a: ((x - mu) / a, -a.sum(-1)),
            "log_sigma is the logarithm of sigma: divide by its exponential",
        ),
        Mistake(
            lambda x, mu, a: ((x - mu) * torch.exp(-a), -a),
            "one log-determinant per point is asked for, (B,): sum over dimensions",
        ),
        Mistake(
            lambda x, mu, a: ((x - mu) * torch.exp(-2 * a), -2 * a.sum(-1)),
            "divide by the standard deviation sigma, not by the variance",
        ),
    ],
)


# 2. And back ------------------------------------------------------------------------------


def _network(x: Tensor, A: Tensor, C: Tensor) -> Pair:
    return x @ A.T, torch.tanh(x @ C.T)


def _invert_layer(z: Tensor, A: Tensor, C: Tensor, passes: int | None = None) -> Tensor:
    x = torch.zeros_like(z)
    for _ in range(z.shape[1] if passes is None else passes):
        mu, log_sigma = _network(x, A, C)
        x = mu + torch.exp(log_sigma) * z
    return x


def _inverse_inputs(B: int, D: int) -> Inputs:
    """Every dimension leans on the one before it, so that one pass fewer shows."""

    def draw(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        A, C = 0.7 * torch.randn(2, D, D, generator=g).tril(-1)
        last = A.diagonal(-1)
        last += 0.7 * last.sign()
        return torch.randn(B, D, generator=g), A, C

    return draw


def _network_of_noise(z: Tensor, A: Tensor, C: Tensor) -> Tensor:
    mu, log_sigma = _network(z, A, C)
    return mu + torch.exp(log_sigma) * z


def _forward(x: Tensor, A: Tensor, C: Tensor) -> Tensor:
    mu, log_sigma = _network(x, A, C)
    return (x - mu) * torch.exp(-log_sigma)


invert_layer = close(
    "invert_layer",
    _invert_layer,
    {
        "": _inverse_inputs(6, 5),
        "one point of the plane": _inverse_inputs(1, 2),
        "eight dimensions": _inverse_inputs(3, 8),
    },
    [
        Mistake(
            _network_of_noise,
            "the network must read x, not z: that would be another model (IAF)",
        ),
        Mistake(
            lambda z, A, C: _invert_layer(z, A, C, z.shape[1] - 1),
            "one pass too few: each pass makes one more dimension right, so it takes D",
        ),
        Mistake(
            lambda z, A, C: _invert_layer(z, A, C, 5),
            "five passes make five dimensions right: how many are there?",
        ),
        Mistake(
            lambda z, A, C: _invert_layer(z, A, C, 1),
            "this is z, as after one pass, where only x_1 is right: repeat until the last "
            "dimension is",
        ),
        Mistake(_forward, "this maps data to noise; asked for is x = mu + sigma z"),
        Mistake(
            lambda z, A, C: _invert_layer(torch.zeros_like(z), A, C),
            "everything is 0: x = mu + exp(log_sigma) z, with the noise z",
        ),
    ],
)


# 3. Knots ---------------------------------------------------------------------------------


def _knots(a: Tensor, bound: float) -> Pair:
    parts = a.unflatten(-1, (2, -1)).softmax(-1)
    return tuple((2 * bound * F.pad(parts.cumsum(-1), (1, 0)) - bound).unbind(-2))


def _one_softmax(a: Tensor, bound: float) -> Pair:
    parts = a.softmax(-1).unflatten(-1, (2, -1))
    return tuple((2 * bound * F.pad(parts.cumsum(-1), (1, 0)) - bound).unbind(-2))


def _from_zero(a: Tensor, bound: float) -> Pair:
    return tuple(knot + bound for knot in _knots(a, bound))


def _naive_softmax(a: Tensor, bound: float) -> Pair:
    e = a.unflatten(-1, (2, -1)).exp()
    parts = e / e.sum(-1, keepdim=True)
    return tuple((2 * bound * F.pad(parts.cumsum(-1), (1, 0)) - bound).unbind(-2))


def _half(a: Tensor, bound: float) -> Pair:
    return tuple((knot - bound) / 2 for knot in _knots(a, bound))


def _with_a_least(a: Tensor, bound: float) -> Pair:
    parts = a.unflatten(-1, (2, -1)).softmax(-1)
    parts = LEAST + (1 - parts.shape[-1] * LEAST) * parts
    return tuple((2 * bound * F.pad(parts.cumsum(-1), (1, 0)) - bound).unbind(-2))


knots = close(
    "knots",
    _knots,
    {
        "": lambda g: (1.5 * torch.randn(6, 10, generator=g), 3.0),
        "3 bins": lambda g: (torch.randn(1, 6, generator=g), 5.0),
        "numbers up to 300": lambda g: (100 * torch.randn(4, 8, generator=g), 2.0),
    },
    [
        Mistake(
            _naive_softmax,
            "exp of a number near 100 is infinite: torch.softmax takes any numbers",
        ),
        Mistake(
            _one_softmax,
            "widths and heights each fill the whole side: one softmax for each half",
        ),
        Mistake(
            _with_a_least,
            "the course's own code adds a thousandth: here the formula has none",
        ),
        Mistake(_from_zero, "the box begins at -bound, and so do the knots"),
        Mistake(_half, "the side of the box is 2 B: the last knot is at +bound"),
        Mistake(
            lambda a, bound: tuple(reversed(_knots(a, bound))),
            "exchanged: the first K numbers are about widths, that is positions",
        ),
        Mistake(
            lambda a, bound: tuple(knot[..., 1:] for knot in _knots(a, bound)),
            "K bins have K + 1 knots: the one at -bound is missing",
        ),
    ],
)


# 4. The curve inside of a bin -------------------------------------------------------------


def _rational_quadratic(t: Tensor, s: Tensor, d0: Tensor, d1: Tensor) -> Pair:
    u = t * (1 - t)
    below = s + (d0 + d1 - 2 * s) * u
    above = d1 * t * t + 2 * s * u + d0 * (1 - t) ** 2
    return (s * t * t + d0 * u) / below, torch.log(s * s * above / below**2)


def _bins(n: int) -> Inputs:
    """Positions in bins of any shape, the ends among them."""

    def draw(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        s, d0, d1 = torch.exp(0.7 * torch.randn(3, n, generator=g))
        t = torch.rand(n, generator=g)
        t[:2] = torch.tensor([0.0, 1.0])
        return t, s, d0, d1

    return draw


def _by_t(t, s, d0, d1):
    y, log_slope = _rational_quadratic(t, s, d0, d1)
    return y, log_slope - s.log()


rational_quadratic = close(
    "rational_quadratic",
    _rational_quadratic,
    {"": _bins(12), "three bins": _bins(3)},
    [
        Mistake(
            lambda t, s, d0, d1: _rational_quadratic(t, s, d1, d0),
            "d0 is the slope at the left end, t = 0, and d1 the one at t = 1",
        ),
        Mistake(
            _by_t,
            "this is the derivative by t of the fraction; by x it is s times as much",
        ),
        Mistake(
            lambda *a: (_rational_quadratic(*a)[0], _rational_quadratic(*a)[1].exp()),
            "the second value is the slope; asked for is its logarithm",
        ),
        Mistake(
            lambda *a: (_rational_quadratic(*a)[0], -_rational_quadratic(*a)[1]),
            "this is the log slope of the inverse: dx/dy. Asked for is dy/dx",
        ),
        Mistake(
            lambda t, s, d0, d1: (t * 1.0, _rational_quadratic(t, s, d0, d1)[1]),
            "the first value is where the curve is, (y - y0) / h, not t itself",
        ),
    ],
)


# 5. The inverse ---------------------------------------------------------------------------


def _other_form(v: Tensor, s: Tensor, d0: Tensor, d1: Tensor) -> Tensor:
    e = d0 + d1 - 2 * s
    a, b = s - d0 + e * v, d0 - e * v
    return 2 * s * v / (b + torch.sqrt(b * b + 4 * a * s * v))


def _solve_bin(v: Tensor, s: Tensor, d0: Tensor, d1: Tensor) -> Tensor:
    b = d0 - (d0 + d1 - 2 * s) * v
    return torch.where(b < 0, _root(v, s, d0, d1, 1.0), _other_form(v, s, d0, d1))


def _root(v: Tensor, s: Tensor, d0: Tensor, d1: Tensor, sign: float) -> Tensor:
    """The schoolbook's formula, which single precision does not forgive."""
    e = d0 + d1 - 2 * s
    a, b = s - d0 + e * v, d0 - e * v
    return (-b + sign * torch.sqrt(b * b + 4 * a * s * v)) / (2 * a)


def _nearly_straight(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Bins whose slopes are within 1e-5 of straight: a is almost 0."""
    v, s, _, _ = _bins(12)(g)
    e0, e1 = 1e-5 * torch.randn(2, 12, generator=g)
    return v, s, s * (1 + e0), s * (1 + e1)


def _small_a(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Bins that bend, at a height where a is from 1e-4 to 1e-2 of s: t is not quite v."""
    v, r, small = torch.rand(3, 48, generator=g)
    v, s = 0.3 + 0.4 * v, torch.exp(0.3 * torch.randn(48, generator=g))
    d0 = s * (0.7 + 0.6 * r)  # so that d1 is above 0
    return v, s, d0, (s * 10 ** (2 * small - 4) + d0 - s) / v - d0 + 2 * s


def _steep_at_the_end(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The slope at the right end is over ten thousand times s: b is far below 0."""
    v = 0.05 + 0.85 * torch.rand(48, generator=g)
    s, d0 = torch.exp(0.3 * torch.randn(2, 48, generator=g))
    return v, s, d0, s * 10 ** (4 + torch.rand(48, generator=g))


def _small_as_0(v: Tensor, s: Tensor, d0: Tensor, d1: Tensor) -> Tensor:
    a = s - d0 + (d0 + d1 - 2 * s) * v
    return torch.where(a.abs() < 1e-3, v, _root(v, s, d0, d1, 1.0))


def _end_where_b_is_below_0(v: Tensor, s: Tensor, d0: Tensor, d1: Tensor) -> Tensor:
    b = d0 - (d0 + d1 - 2 * s) * v
    return torch.where(b < 0, torch.ones_like(v), _other_form(v, s, d0, d1))


solve_bin = close(
    "solve_bin",
    _solve_bin,
    {
        "": _bins(12),
        "bins that are nearly straight": _nearly_straight,
        "bins that bend, where a is small": _small_a,
        "bins that end ten thousand times steeper than they are": _steep_at_the_end,
    },
    [
        Mistake(
            _other_form,
            "right where b is positive; where b < 0, b + sqrt(...) cancels: there take the "
            "schoolbook's (-b + sqrt(...)) / (2 a)",
        ),
        Mistake(
            lambda *a: _root(*a, 1.0),
            "right where b < 0; in nearly straight bins a is almost 0, and -b + sqrt(...) "
            "cancels: there multiply by b + sqrt(...) above and below",
        ),
        Mistake(
            _small_as_0,
            "t = v holds where a is 0, not to all digits where it is small, and where it "
            "is not so small -b + sqrt(...) still cancels: choose by the sign of b",
        ),
        Mistake(
            lambda *a: _other_form(*a).clamp(0, 1),
            "where b < 0, b + sqrt(...) cancels, and clamping brings no digit back: there "
            "take the schoolbook's (-b + sqrt(...)) / (2 a)",
        ),
        Mistake(
            _end_where_b_is_below_0,
            "where b < 0, t need not be at the right end: there take the schoolbook's "
            "(-b + sqrt(...)) / (2 a)",
        ),
        Mistake(
            lambda *a: _root(*a, -1.0),
            "this is the other root of the quadratic, outside of [0, 1]",
        ),
        Mistake(
            lambda *a: _rational_quadratic(*a)[0],
            "this maps t to v; asked for is the t that belongs to v",
        ),
        Mistake(
            lambda v, s, d0, d1: _solve_bin(v, s, d1, d0),
            "d0 is the slope at the left end and d1 the one at the right end",
        ),
    ],
)
