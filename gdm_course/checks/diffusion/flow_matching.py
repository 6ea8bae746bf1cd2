"""Questions of the unit diffusion/flow_matching."""

import itertools

import torch
from torch import Tensor

from gdm_course.checks.question import Inputs, Mistake, close


def _normal(g: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=g)


def _between(g: torch.Generator, low: float, high: float, *shape: int) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=g)


# 1. A point on the line -------------------------------------------------------------------


def _line(x0: Tensor, x1: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    t = t[:, None]
    return (1 - t) * x0 + t * x1, x1 - x0


def _pairs(B: int, D: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        return _normal(g, B, D), _normal(g, B, D), _between(g, 0.1, 0.4, B)

    return draw


line = close(
    "line",
    _line,
    {"": _pairs(5, 2), "as many pairs as numbers": _pairs(4, 4), "one": _pairs(1, 3)},
    [
        Mistake(
            lambda x0, x1, t: (_line(x0, x1, t)[0], x0 - x1),
            "the velocity has the wrong sign: it leads from data, t = 0, to the source",
        ),
        Mistake(
            lambda x0, x1, t: (_line(x1, x0, t)[0], x1 - x0),
            "the line runs the other way: data are at t = 0 here",
        ),
        Mistake(
            lambda x0, x1, t: (_line(x0, x1, t)[0], x1 - _line(x0, x1, t)[0]),
            "this is the way that is left; the velocity is that of the whole line",
        ),
        Mistake(
            lambda x0, x1, t: (
                (1 - t[:, None]).sqrt() * x0 + t[:, None].sqrt() * x1,
                x1 - x0,
            ),
            "roots belong to the circle of diffusion; a line has 1 - t and t themselves",
        ),
    ],
)


# 2. The mean over all lines ---------------------------------------------------------------


def _velocity(z, t, means, std, *, var=None, weigh=True, gain=None) -> Tensor:
    total = (1 - t) ** 2 * std**2 + t**2 if var is None else var(t, std)
    gap = z[:, None] - (1 - t) * means
    log_w = -gap.square().sum(-1) / (2 * total)
    w = log_w.softmax(1) if weigh else torch.full_like(log_w, 1 / len(means))
    slope = (1 - t) * std**2 / total if gain is None else gain(t, std, total)
    x0 = (w[..., None] * (means + slope * gap)).sum(1)
    return (z - x0) / t


def _bells(B: int, K: int, D: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, float, Tensor, float]:
        t, std = _between(g, 0.3, 0.7).item(), _between(g, 0.4, 0.8).item()
        return _normal(g, B, D), t, _normal(g, K, D), std

    return draw


marginal_velocity = close(
    "marginal_velocity",
    _velocity,
    {"": _bells(5, 3, 2), "one bell": _bells(4, 1, 3), "one point": _bells(1, 4, 2)},
    [
        Mistake(
            lambda z, t, m, s: _velocity(z, t, m, s, weigh=False),
            "all bells count alike: weight each by how likely z comes from it",
        ),
        Mistake(
            lambda z, t, m, s: _velocity(z, t, m, s, var=lambda t, s: t**2 + 0 * s),
            "the bells have a width: at the time t the variance is "
            "(1 - t)^2 std^2 + t^2, not t^2",
        ),
        Mistake(
            lambda z, t, m, s: _velocity(z, t, m, s, var=lambda t, s: s**2 + t**2),
            "a bell shrinks on its way: its variance counts (1 - t)^2 times",
        ),
        Mistake(
            lambda z, t, m, s: _velocity(z, t, m, s, gain=lambda t, s, v: 0.0),
            "each bell's best guess is its mean only if its width is 0",
        ),
        Mistake(
            lambda z, t, m, s: -_velocity(z, t, m, s),
            "the sign: the velocity leads from data to noise, x1 - x0",
        ),
        Mistake(
            lambda z, t, m, s: t * _velocity(z, t, m, s),
            "z - E[x0 | z] is t times the velocity",
        ),
    ],
)


# 3. The best partners ---------------------------------------------------------------------


def _best(x0: Tensor, x1: Tensor, power: float = 2.0) -> Tensor:
    cost, rows = torch.cdist(x0.double(), x1.double()).pow(power), range(len(x0))
    orders = itertools.permutations(rows)
    return x1[list(min(orders, key=lambda o: sum(cost[i, k] for i, k in zip(rows, o))))]


def _inverse(x0: Tensor, x1: Tensor) -> Tensor:
    """The partners in the order of x1: x0 is moved, and given back."""
    return _best(x1, x0)


def _nearest(x0: Tensor, x1: Tensor) -> Tensor:
    return x1[torch.cdist(x0, x1).argmin(1)]


def _greedy(x0: Tensor, x1: Tensor) -> Tensor:
    cost, order = torch.cdist(x0, x1), []
    for row in cost:
        free = [k for k in range(len(x1)) if k not in order]
        order.append(min(free, key=lambda k: row[k].item()))
    return x1[order]


def _swapped(x0: Tensor, x1: Tensor) -> Tensor:
    cost, order = torch.cdist(x0, x1).square().tolist(), list(range(len(x0)))
    for _ in range(9):
        for i, k in itertools.combinations(range(len(x0)), 2):
            a, b = order[i], order[k]
            if cost[i][b] + cost[k][a] < cost[i][a] + cost[k][b]:
                order[i], order[k] = b, a
    return x1[order]


def _longest(x0: Tensor, x1: Tensor) -> Tensor:
    cost, rows = torch.cdist(x0, x1), range(len(x0))
    orders = itertools.permutations(rows)
    return x1[list(min(orders, key=lambda o: max(cost[i, k] for i, k in zip(rows, o))))]


def _crowd(B: int, D: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, Tensor]:
        return _normal(g, B, D), _normal(g, B, D)

    return draw


def _apart(g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two pairs on which squares and plain distances do not agree."""
    x0 = torch.tensor([[0.0, 0.0], [3.0, 0.8]])
    x1 = torch.tensor([[3.0, 0.8], [6.0, 0.0]])
    return x0 + 0.01 * _normal(g, 2, 2), x1 + 0.01 * _normal(g, 2, 2)


def _wanted_by_both(g: torch.Generator) -> tuple[Tensor, Tensor]:
    """The first x0 takes what the second needs, if it may choose first."""
    x0, x1 = torch.tensor([[0.0], [-2.0]]), torch.tensor([[0.5], [3.0]])
    return x0 + 0.05 * _normal(g, 2, 1), x1 + 0.05 * _normal(g, 2, 1)


def _ring(g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Three pairs that no exchange of two improves; the best has a longer longest line."""
    x0 = torch.tensor([[-2.0, 1.0], [1.0, 1.5], [1.0, -2.0]])
    x1 = torch.tensor([[-2.0, -1.5], [-1.5, 1.0], [1.0, 0.0]])
    return x0 + 0.05 * _normal(g, 3, 2), x1 + 0.05 * _normal(g, 3, 2)


optimal_pairs = close(
    "optimal_pairs",
    _best,
    {
        "": _crowd(5, 2),
        "squares and distances differ": _apart,
        "two want the same": _wanted_by_both,
        "three in a ring": _ring,
        "one pair": _crowd(1, 3),
        "on a line": _crowd(5, 1),
    },
    [
        Mistake(
            _nearest,
            "each x0 has its nearest x1: then some are taken twice and others never",
        ),
        Mistake(
            _greedy,
            "who comes first takes the best that is left: the sum of all is asked for",
        ),
        Mistake(
            _swapped,
            "two at a time are exchanged until nothing improves: three may have to move",
        ),
        Mistake(
            _longest,
            "the longest line is as short as can be: the sum of all squares is asked for",
        ),
        Mistake(
            _inverse,
            "this moves x0: the order of x0, and of its labels, stays",
        ),
        Mistake(
            lambda x0, x1: _best(x0, x1, 1.0),
            "the cost is the squared distance",
        ),
        Mistake(
            lambda x0, x1: _best(-x0, x1),
            "these are the worst partners",
        ),
        Mistake(lambda x0, x1: x1, "x1 is as it came: find a better order"),
    ],
)


# 4. The score of a flow -------------------------------------------------------------------


def _score(v: Tensor, z: Tensor, t: float) -> Tensor:
    return -(z + (1 - t) * v) / t


def _places(B: int, D: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, Tensor, float]:
        return _normal(g, B, D), _normal(g, B, D), _between(g, 0.2, 0.8).item()

    return draw


score_from_velocity = close(
    "score_from_velocity",
    _score,
    {"": _places(5, 2), "one point": _places(1, 4), "many": _places(9, 3)},
    [
        Mistake(
            lambda v, z, t: (z + (1 - t) * v) / t,
            "the score points to the data, away from the noise: minus",
        ),
        Mistake(
            lambda v, z, t: -(z + (1 - t) * v),
            "this is minus the noise; the score is that divided by t",
        ),
        Mistake(
            lambda v, z, t: -(z - t * v) / t,
            "z - t v is the clean point; the noise is z + (1 - t) v",
        ),
        Mistake(
            lambda v, z, t: -(z - (1 - t) * v) / t,
            "the velocity is x1 - x0, so x1 = z + (1 - t) v",
        ),
        Mistake(
            lambda v, z, t: -(z + (1 - t) * v) / t**2,
            "t is the noise's standard deviation, and the score has it once",
        ),
    ],
)


# 5. How straight --------------------------------------------------------------------------


def _bend(path: Tensor) -> Tensor:
    velocity, chord = (len(path) - 1) * path.diff(dim=0), path[-1] - path[0]
    return (velocity - chord).square().sum(-1).mean() / chord.square().sum(-1).mean()


def _each(path: Tensor) -> Tensor:
    velocity, chord = (len(path) - 1) * path.diff(dim=0), path[-1] - path[0]
    bend = (velocity - chord).square().sum(-1) / chord.square().sum(-1)
    return bend.mean()


def _stations(T: int, B: int, D: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor]:
        return (_normal(g, 1, B, D) + 0.5 * _normal(g, T + 1, B, D).cumsum(0),)

    return draw


straightness = close(
    "straightness",
    _bend,
    {"": _stations(6, 5, 2), "one path": _stations(4, 1, 3), "many": _stations(3, 9, 2)},
    [
        Mistake(
            lambda p: (
                (((len(p) - 1) * p.diff(dim=0)).mean(1) - (p[-1] - p[0]).mean(0))
                .square()
                .sum(-1)
                .mean()
                / (p[-1] - p[0]).square().sum(-1).mean()
            ),
            "the mean over paths is taken before the square: bends of several paths cancel",
        ),
        Mistake(
            lambda p: (
                (p.diff(dim=0) - (p[-1] - p[0])).square().sum(-1).mean()
                / (p[-1] - p[0]).square().sum(-1).mean()
            ),
            "a difference of stations is the velocity times 1 / T",
        ),
        Mistake(
            lambda p: _bend(p) * (p[-1] - p[0]).square().sum(-1).mean(),
            "divide by the mean square of the whole way, so that no unit is left",
        ),
        Mistake(
            _each,
            "each path is divided by its own length: first both means, then the ratio",
        ),
        Mistake(
            lambda p: (len(p) - 1) * _bend(p),
            "the integral over time is a mean over the steps, not their sum",
        ),
    ],
)


# 6. The bound with a flow -----------------------------------------------------------------


def _elbo(log_px: Tensor, log_pu: Tensor, log_q: Tensor, scale: Tensor) -> Tensor:
    return log_px + log_pu - scale.log().sum() - log_q


def _logs(B: int, K: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, ...]:
        parts = (_normal(g, B) for _ in range(3))
        return *parts, _between(g, 0.4, 0.8, K)

    return draw


latent_elbo = close(
    "latent_elbo",
    _elbo,
    {"": _logs(5, 3), "one": _logs(1, 4), "as many rows as numbers": _logs(4, 4)},
    [
        Mistake(
            lambda a, b, q, s: a + b - q,
            "log p(z) is not log p(u): u = (z - shift) / scale squeezes space",
        ),
        Mistake(
            lambda a, b, q, s: a + b + s.log().sum() - q,
            "the sign of the log-determinant: a small scale makes the density of z large",
        ),
        Mistake(
            lambda a, b, q, s: a + b - s.log().mean() - q,
            "the log-determinant is the sum over all dimensions, not their mean",
        ),
        Mistake(
            lambda a, b, q, s: a + b - s.log().sum() + q,
            "log q(z | x) is subtracted",
        ),
        Mistake(
            lambda a, b, q, s: a + b - s.prod() - q,
            "the logarithm of the scale is missing",
        ),
    ],
)
