"""Questions of the unit gan/wgan."""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from gdm_course.checks.question import Inputs, Mistake, close


def _normal(g: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=g)


# 1. What a critic proves ------------------------------------------------------------------


def _slopes(f_x: Tensor, f_y: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return (f_x[:, None] - f_y).abs() / (x[:, None] - y).norm(dim=2)


def _certified(f_x: Tensor, f_y: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return (f_x.mean() - f_y.mean()) / _slopes(f_x, f_y, x, y).max()


def _clouds(n: int, m: int, D: int, steep: float = 3.0, shift: float = 2.0) -> Inputs:
    """Two samples, and what some network says; shift below 0: it prefers the fakes."""

    def draw(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        w = _normal(g, D)
        x, y = _normal(g, n, D) + shift * w / w.norm(), _normal(g, m, D)
        f = lambda t: steep * (t @ w + 0.5 * w.norm() * torch.sin(t[:, 0]))  # noqa: E731
        return f(x), f(y), x, y

    return draw


def _side_by_side(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The steepest way of all leads from one data point to another, and does not count."""
    x, y = _normal(g, 5, 2), 3 + _normal(g, 4, 2)
    x[1] = x[0] + 0.001
    return 2 + _normal(g, 5), _normal(g, 4), x, y


certified_w1 = close(
    "certified_w1",
    _certified,
    {
        "": _clouds(7, 7, 2),
        "samples of unequal size": _clouds(4, 9, 3),
        "a flat critic": _clouds(6, 5, 2, 0.01),
        "a critic that prefers fakes": _clouds(6, 8, 1, 2.0, -9.0),
        "two data points side by side": _side_by_side,
    },
    [
        Mistake(
            lambda f_x, f_y, x, y: f_x.mean() - f_y.mean(),
            "this is the difference alone: a critic three times as steep says three times "
            "as much; divide by the largest slope",
        ),
        Mistake(
            lambda f_x, f_y, x, y: (
                (f_x.mean() - f_y.mean()) / _slopes(f_x, f_y, x, y).mean()
            ),
            "the mean slope is no bound: one steep pair is enough to break the promise",
        ),
        Mistake(
            lambda f_x, f_y, x, y: (
                (f_x.mean() - f_y.mean())
                / ((f_x[:, None] - f_y) / (x[:, None] - y).norm(dim=2)).max()
            ),
            "L has absolute values: a slope downwards is a slope, too",
        ),
        Mistake(
            lambda f_x, f_y, x, y: (
                (f_x.mean() - f_y.mean()).abs() / _slopes(f_x, f_y, x, y).max()
            ),
            "keep the sign: asked is what f proves; the absolute value is what the better "
            "of f and -f proves",
        ),
        Mistake(
            lambda f_x, f_y, x, y: (
                (f_x.mean() - f_y.mean())
                / ((f_x[:, None] - f_y).abs() / (x[:, None] - y).abs().sum(2)).max()
            ),
            "distances are straight lines: the root of the sum of squares",
        ),
        Mistake(
            lambda f_x, f_y, x, y: (
                (f_x.mean() - f_y.mean()) * _slopes(f_x, f_y, x, y).max()
            ),
            "divide by the slope: a steep critic exaggerates",
        ),
    ],
    n=4,
)


# 2. A slope of 1 between ------------------------------------------------------------------


def _penalty(x: Tensor, y: Tensor, u: Tensor, A: Tensor, b: Tensor) -> Tensor:
    slope = (x + u[:, None] * (y - x)) @ A + b
    return (slope.norm(dim=1) - 1).square().mean()


def _critics(B: int, D: int, size: float = 1.0) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, ...]:
        M = _normal(g, D, D)
        u = torch.rand(B, generator=g)
        A, b = size * (M + M.T) / D, size * _normal(g, D)
        return _normal(g, B, D), 2 + _normal(g, B, D), u, A, b

    return draw


gradient_penalty = close(
    "gradient_penalty",
    _penalty,
    {
        "": _critics(6, 3),
        "as many rows as columns": _critics(4, 4),
        "a flat critic": _critics(5, 2, 0.1),
        "one pair": _critics(1, 3),
    },
    [
        Mistake(
            lambda x, y, u, A, b: (
                ((x + (u[:, None] if len(u) != x.shape[1] else u) * (y - x)) @ A + b)
                .norm(dim=1)
                .sub(1)
                .square()
                .mean()
            ),
            "u (B,) times (B, D) takes u for the columns when B = D: write u[:, None]",
        ),
        Mistake(
            lambda x, y, u, A, b: ((x @ A + b).norm(dim=1) - 1).square().mean(),
            "this is the slope at the data: it is wanted on the way to the fakes",
        ),
        Mistake(
            lambda x, y, u, A, b: (
                (((x + u[:, None] * (y - x)) @ A + b).square().sum(1) - 1).square().mean()
            ),
            "the length of the slope is the root of the sum of its squares",
        ),
        Mistake(
            lambda x, y, u, A, b: (
                ((x + u[:, None] * (y - x)) @ A + b).norm(dim=1).square().mean()
            ),
            "the slope is to be 1, not 0: subtract 1 before you square",
        ),
        Mistake(
            lambda x, y, u, A, b: (
                (((x + u[:, None] * (y - x)) @ A + b).norm(dim=1) - 1)
                .relu()
                .square()
                .mean()
            ),
            "this is the one-sided penalty: here a slope below 1 costs, too",
        ),
        Mistake(
            lambda x, y, u, A, b: (
                ((x + u[:, None] * (y - x)) @ A + b).norm() - 1
            ).square(),
            "every row has a slope of its own: take the length along dim 1, not of all",
        ),
        Mistake(
            lambda x, y, u, A, b: (
                (((x + u[:, None] * (y - x)) @ A + b).abs() - 1).square().mean()
            ),
            "not every coordinate of the slope is to be 1, but its length",
        ),
        Mistake(
            lambda x, y, u, A, b: (
                (((x + u[:, None] * (y - x)) @ A + b).norm(dim=1) - 1).square().sum()
            ),
            "an expectation is a mean over the rows, not a sum",
        ),
        Mistake(
            lambda x, y, u, A, b: _penalty(y, x, u, A, b),
            "u = 0 is the data point x and u = 1 the fake y",
        ),
    ],
    n=4,
)


# 3. What a matrix stretches most ----------------------------------------------------------


def _unit(t: Tensor) -> Tensor:
    return t / t.norm()


def _power(W: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    v = _unit(W.T @ u)
    u = _unit(W @ v)
    return u @ W @ v, u, v


def _matrix(n: int, m: int, size: float = 1.0) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, Tensor]:
        return size * _normal(g, n, m), 3 * _normal(g, n)

    return draw


power_step = close(
    "power_step",
    _power,
    {
        "": _matrix(4, 6),
        "a square matrix": _matrix(3, 3),
        "a single output": _matrix(1, 5),
        "large numbers": _matrix(6, 2, 50.0),
    },
    [
        Mistake(
            lambda W, u: (lambda v: (u @ W @ v, u, v))(_unit(W.T @ u)),
            "u is still the guess: after v comes a new u",
        ),
        Mistake(
            lambda W, u: (lambda v: (_unit(W @ v) @ W @ v, _unit(W @ v), v))(W.T @ u),
            "v is to have length 1, too",
        ),
        Mistake(
            lambda W, u: (lambda v: ((W.T @ _unit(W @ v)).norm() ** 2, _unit(W @ v), v))(
                _unit(W.T @ u)
            ),
            "this approaches the square: the largest eigenvalue of W^T W",
        ),
        Mistake(
            lambda W, u: (lambda s, u, v: (s, v, u))(*_power(W, u)),
            "u and v are exchanged: u lives with the outputs (n,), v with the inputs (m,)",
        ),
        Mistake(
            lambda W, u: (lambda s, u, v: (torch.linalg.matrix_norm(W, 2) + 0 * s, u, v))(
                *_power(W, u)
            ),
            "this is the exact value, which one step does not reach: return u . W v",
        ),
    ],
    n=4,
)


# 4. Sorted in pairs -----------------------------------------------------------------------


def _sorted(x: Tensor) -> Tensor:
    pairs = x.unflatten(-1, (-1, 2))
    return torch.stack([pairs.amax(-1), pairs.amin(-1)], -1).flatten(-2)


def _features(*shape: int) -> Inputs:
    return lambda g: (2 * _normal(g, *shape),)


group_sort = close(
    "group_sort",
    _sorted,
    {"": _features(4, 6), "one row": _features(1, 8), "a pair": _features(5, 2)},
    [
        Mistake(
            lambda x: x.unflatten(-1, (-1, 2)).sort(-1).values.flatten(-2),
            "the larger of a pair comes first",
        ),
        Mistake(
            lambda x: x.sort(-1, descending=True).values,
            "all features are sorted: only neighbours 2k and 2k + 1 are a pair",
        ),
        Mistake(
            lambda x: torch.cat(
                [torch.maximum(*x.chunk(2, -1)), torch.minimum(*x.chunk(2, -1))], -1
            ),
            "a pair are neighbours, 2k and 2k + 1, not k and k + K / 2",
        ),
        Mistake(
            lambda x: x.unflatten(-1, (-1, 2)).amax(-1).repeat_interleave(2, -1),
            "the smaller one is lost, and with it its slope: keep both",
        ),
        Mistake(
            lambda x: torch.cat(
                [x[..., ::2].maximum(x[..., 1::2]), x[..., ::2].minimum(x[..., 1::2])], -1
            ),
            "each pair stays where it was: larger, smaller, larger, smaller",
        ),
    ],
)


# 5. Which of the two ----------------------------------------------------------------------


def _relativistic(d_real: Tensor, d_fake: Tensor) -> tuple[Tensor, Tensor]:
    return softplus(d_fake - d_real).mean(), softplus(d_real - d_fake).mean()


def _logits(B: int, size: float = 2.0) -> Inputs:
    return lambda g: (1 + size * _normal(g, B), size * _normal(g, B))


relativistic_losses = close(
    "relativistic_losses",
    _relativistic,
    {"": _logits(6), "one pair": _logits(1), "logits in the thousands": _logits(9, 3000.0)},
    [
        Mistake(
            lambda r, f: _relativistic(f, r),
            "the losses are exchanged: D wants D(x) - D(y) to be large, G the opposite",
        ),
        Mistake(
            lambda r, f: (
                softplus(f.mean() - r.mean()),
                softplus(r.mean() - f.mean()),
            ),
            "the mean comes last: of the pairs' losses, not of the logits",
        ),
        Mistake(
            lambda r, f: (
                softplus(f - r[:, None]).mean(),
                softplus(r[:, None] - f).mean(),
            ),
            "x_i is paired with y_i, not with all fakes: do subtract (B,) from (B,)",
        ),
        Mistake(
            lambda r, f: (
                softplus(-r).mean() + softplus(f).mean(),
                softplus(-f).mean(),
            ),
            "these are the losses of the ordinary GAN: D's answers count by difference",
        ),
        Mistake(
            lambda r, f: (softplus(f - r).mean(), logsigmoid(f - r).mean()),
            "G's sign is wrong: -log sigmoid(D(y) - D(x)) is minimised",
        ),
        Mistake(
            lambda r, f: (
                -torch.log(torch.sigmoid(r - f)).mean(),
                -torch.log(torch.sigmoid(f - r)).mean(),
            ),
            "sigmoid of -200 is 0 in float32, and its log infinite: take softplus",
        ),
        Mistake(
            lambda r, f: (softplus(f - r).sum(), softplus(r - f).sum()),
            "an expectation is a mean over the pairs, not a sum",
        ),
    ],
)


# 6. An average that starts ----------------------------------------------------------------


def _average(mean: Tensor, weights: Tensor, step: int, decay: float) -> Tensor:
    now = min(decay, step / (step + 10))
    return now * mean + (1 - now) * weights


def _steps(low: int, high: int, *shape: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, Tensor, int, float]:
        step = torch.randint(low, high, (), generator=g).item()
        decay = 0.99 - 0.09 * torch.rand((), generator=g).item()
        return _normal(g, *shape), _normal(g, *shape), step, decay

    return draw


average_step = close(
    "average_step",
    _average,
    {
        "one of the first steps": _steps(1, 9, 3, 4),
        "step 10 or a little later": _steps(10, 30, 5),
        "a late step": _steps(2000, 5000, 6),
        "": _steps(80, 300, 2, 2),
    },
    [
        Mistake(
            lambda mean, weights, step, decay: decay * mean + (1 - decay) * weights,
            "the start is missing: the first steps keep step / (step + 10), which is less",
        ),
        Mistake(
            lambda mean, weights, step, decay: _average(weights, mean, step, decay),
            "decay is the share that stays: it goes with the average, not the new weights",
        ),
        Mistake(
            lambda mean, weights, step, decay: (
                mean * step / (step + 10) + weights * 10 / (step + 10)
            ),
            "it may not go beyond decay: late steps would hardly count",
        ),
        Mistake(
            lambda mean, weights, step, decay: (
                lambda now: now * mean + (1 - now) * weights
            )(max(decay, step / (step + 10))),
            "take the smaller of the two, so that the average moves quickly at first",
        ),
    ],
)
