"""Questions of the unit gan/gan."""

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from gdm_course.checks.question import Inputs, Mistake, close


def _normal(g: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=g)


def _between(g: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * torch.rand((), generator=g).item()


# 1. The best discriminator ----------------------------------------------------------------


def _densities(B: int, far: float = 0.0, apart: float = 2.0) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, Tensor]:
        return 2 * _normal(g, B) - far, apart * _normal(g, B) - far

    return draw


optimal_logit = close(
    "optimal_logit",
    lambda log_p, log_q: log_p - log_q,
    {
        "": _densities(6),
        "one point": _densities(1),
        "tiny densities": _densities(4, 900),
        "one much smaller": _densities(9, 900, 200),
    },
    [
        Mistake(
            lambda log_p, log_q: log_q - log_p,
            "p and q are exchanged: a logit is positive where data are more likely",
        ),
        Mistake(
            lambda log_p, log_q: (log_p - log_q).sigmoid(),
            "this is the probability p / (p + q), and its logit is asked for",
        ),
        Mistake(
            lambda log_p, log_q: logsigmoid(log_p - log_q),
            "this is log p / (p + q); the logit also takes log q / (p + q) away",
        ),
        Mistake(
            lambda log_p, log_q: torch.log(log_p.exp() / log_q.exp()),
            "e^-900 is 0, and 0 / 0 is no number: stay with logarithms",
        ),
        Mistake(
            lambda log_p, log_q: torch.logit((log_p - log_q).sigmoid(), 1e-6),
            "the logit of a probability near 0 or 1 loses its digits: stay with logarithms",
        ),
        Mistake(
            lambda log_p, log_q: (log_p - log_q) / 2,
            "this is half of it: sigmoid(logit) has to be p / (p + q)",
        ),
    ],
)


# 2. Both losses ---------------------------------------------------------------------------


def _losses(d_real: Tensor, d_fake: Tensor) -> tuple[Tensor, Tensor]:
    return softplus(-d_real).mean() + softplus(d_fake).mean(), softplus(-d_fake).mean()


def _saturating(d_real: Tensor, d_fake: Tensor) -> tuple[Tensor, Tensor]:
    return _losses(d_real, d_fake)[0], -softplus(d_fake).mean()


def _turned(d_real: Tensor, d_fake: Tensor) -> tuple[Tensor, Tensor]:
    return softplus(d_real).mean() + softplus(-d_fake).mean(), softplus(d_fake).mean()


def _summed(d_real: Tensor, d_fake: Tensor) -> tuple[Tensor, Tensor]:
    return softplus(-d_real).sum() + softplus(d_fake).sum(), softplus(-d_fake).sum()


def _twice(d_real: Tensor, d_fake: Tensor) -> tuple[Tensor, Tensor]:
    return _losses(d_real.sigmoid(), d_fake.sigmoid())


def _halved(d_real: Tensor, d_fake: Tensor) -> tuple[Tensor, Tensor]:
    both, loss = _losses(d_real, d_fake)
    return both / 2, loss


def _by_logarithms(d_real: Tensor, d_fake: Tensor) -> tuple[Tensor, Tensor]:
    real, fake = d_real.float().sigmoid(), d_fake.float().sigmoid()
    return -real.log().mean() - (1 - fake).log().mean(), -fake.log().mean()


def _logits(n: int, m: int, size: float = 2.0) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, Tensor]:
        return 0.5 + size * _normal(g, n), size * _normal(g, m) - 0.5

    return draw


def _sure(n: int, m: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, Tensor]:
        return _normal(g, n) - 200, 200 + _normal(g, m)

    return draw


player_losses = close(
    "player_losses",
    _losses,
    {"": _logits(7, 7), "fewer fakes": _logits(9, 4), "logits of 200": _sure(3, 5)},
    [
        Mistake(
            _saturating,
            "G's loss is the saturating one: it is to be -E log sigmoid(d_fake)",
        ),
        Mistake(
            _turned,
            "the signs are turned: D wants large logits at data and small ones at fakes",
        ),
        Mistake(_summed, "an expectation is a mean over the rows, not a sum"),
        Mistake(
            _twice,
            "sigmoid is taken twice: probabilities were taken for logits",
        ),
        Mistake(_halved, "D's two halves are added, not averaged"),
        Mistake(
            _by_logarithms,
            "1 - sigmoid(200) is 0 in float32, its log infinite: use softplus",
        ),
    ],
)


# 3. What reaches the generator ------------------------------------------------------------


def _slopes(logits: Tensor) -> tuple[Tensor, Tensor]:
    return -logits.sigmoid(), -(-logits).sigmoid()


def _one_logit_each(B: int, far: float = 0.0) -> Inputs:
    return lambda g: (3 * _normal(g, B) - far,)


generator_slopes = close(
    "generator_slopes",
    _slopes,
    {"": _one_logit_each(6), "one fake": _one_logit_each(1), "seen": _one_logit_each(4, 6)},
    [
        Mistake(
            lambda logits: _slopes(logits)[::-1],
            "the two are exchanged: first comes the saturating loss, log(1 - sigmoid)",
        ),
        Mistake(
            lambda logits: (logits.sigmoid(), (-logits).sigmoid()),
            "the sign is missing: a larger logit makes both losses smaller",
        ),
        Mistake(
            lambda logits: (-logits.sigmoid(), (-logits).sigmoid()),
            "the sign of the second is wrong: -log sigmoid falls, too",
        ),
        Mistake(
            lambda logits: (-logits.sigmoid() * (-logits).sigmoid(),) * 2,
            "this is the slope of sigmoid itself: the logarithm divides by it again",
        ),
    ],
    atol=1e-7,
)


# 4. R1 ------------------------------------------------------------------------------------


def _slope(W: Tensor, b: Tensor, v: Tensor, x: Tensor) -> Tensor:
    """The gradient of D(x) = v . tanh(W x + b) at every row."""
    return ((1 - torch.tanh(x @ W.T + b) ** 2) * v) @ W


def _r1(W, b, v, x, gamma):
    return gamma / 2 * _slope(W, b, v, x).square().sum(1).mean()


def _no_graph(W, b, v, x, gamma):
    return _r1(W.detach(), b, v, x, gamma) + 0 * W.sum()


def _critics(B: int, D: int, H: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple:
        W, b, v = _normal(g, H, D), _normal(g, H), 1 + _normal(g, H).abs()
        return W, b, v, _normal(g, B, D) / 2, _between(g, 0.2, 3)

    return draw


r1_penalty = close(
    "r1_penalty",
    _r1,
    {"": _critics(5, 2, 4), "one point": _critics(1, 3, 6), "more": _critics(8, 4, 3)},
    [
        Mistake(
            lambda W, b, v, x, gamma: 2 * _r1(W, b, v, x, gamma),
            "the convention is gamma / 2: a factor of 2 too much",
        ),
        Mistake(
            lambda W, b, v, x, gamma: gamma / 2 * _slope(W, b, v, x).norm(dim=1).mean(),
            "this is the length of the slope; the penalty takes its square",
        ),
        Mistake(
            lambda W, b, v, x, gamma: _r1(W, b, v, x, gamma) / x.shape[1],
            "the squares are averaged over the dimensions of x: they are added",
        ),
        Mistake(
            lambda W, b, v, x, gamma: _r1(W, b, v, x, gamma) * len(x),
            "this is the sum over the batch: its mean is asked for",
        ),
        Mistake(
            _no_graph,
            "the value is right, but it has no slope in W: create_graph=True is missing",
        ),
        Mistake(
            lambda W, b, v, x, gamma: (
                gamma / 2 * (_slope(W, b, v, x).norm(dim=1) - 1).square().mean()
            ),
            "this wants slopes of 1, as WGAN-GP does; R1 wants slopes of 0",
        ),
    ],
    slopes=(0,),
)


# 5. How many modes ------------------------------------------------------------------------


def _found(x: Tensor, centres: Tensor, sigma: float, least: float = 0.1, far: float = 3):
    distance, nearest = torch.cdist(x, centres).min(1)
    good = distance <= far * sigma
    counts = nearest[good].bincount(minlength=len(centres)).double()
    modes = (counts >= max(1.0, least * len(x) / len(centres))).sum()
    return modes, good.double().mean()


def _anywhere(x, centres, sigma):
    modes, _ = _found(x, centres, sigma, far=math.inf)
    return modes, _found(x, centres, sigma)[1]


def _of_the_good(x, centres, sigma):
    _, quality = _found(x, centres, sigma)
    return _found(x, centres, sigma, least=0.1 * quality.item())[0], quality


def _near_two(x, centres, sigma):
    """Every point counts for each mode within 3 sigma."""
    inside = torch.cdist(x, centres) <= 3 * sigma
    found = inside.sum(0) >= 0.1 * len(x) / len(centres)
    return found.sum(), inside.any(1).double().mean()


def _share_of_modes(x, centres, sigma):
    modes, _ = _found(x, centres, sigma)
    return modes, modes.double() / len(centres)


def _points(K: int, full: int, D: int, width: float) -> Inputs:
    """Modes with many points, with one, with strays only, and some near a tenth."""

    def around(g: torch.Generator, centre: Tensor, n: int, radius: float) -> Tensor:
        return centre + radius * torch.nn.functional.normalize(_normal(g, n, D), dim=1)

    def draw(g: torch.Generator) -> tuple[Tensor, Tensor, float]:
        s, first = width * _between(g, 1, 1.2), 40 * torch.arange(K + 7)[:, None]
        centres = first + _normal(g, K + 7, D)
        groups = [(k, full + 9 * k, 1.0) for k in range(K)]
        groups += [(k, full // 2 + k, 2.5) for k in range(K)]
        groups += [(k, 20, 4.5) for k in range(K)]
        groups += [(K, 1, 0.5), (K + 1, 1, 0.5), (K + 2, 30, 5.0), (K + 3, 57, 2.5)]
        edge = sum(n for _, n, _ in groups) / (10 * (K + 7))  # a tenth, before these
        few = int(edge)
        groups += [(K + 4, few, 2.0), (K + 5, few, 2.0), (K + 6, few + 2, 2.0)]
        x = torch.cat([around(g, centres[k], n, r * s) for k, n, r in groups])
        return x, centres, s

    return draw


def _near(g: torch.Generator) -> tuple[Tensor, Tensor, float]:
    """Five modes in a row, 4 sigma apart, and the middle one has no points."""
    s = _between(g, 0.3, 1.0)
    centres = 4 * s * torch.eye(2)[0] * torch.arange(5)[:, None] + _normal(g, 1, 2)
    around = torch.nn.functional.normalize(_normal(g, 200, 2), dim=1)
    return centres[torch.tensor([0, 1, 3, 4]).repeat(50)] + 1.8 * s * around, centres, s


modes_and_quality = close(
    "modes_and_quality",
    _found,
    {
        "": _points(4, 51, 2, 0.2),
        "more modes": _points(6, 43, 3, 0.5),
        "fewer modes": _points(2, 77, 4, 1.2),
        "modes side by side": _near,
    },
    [
        Mistake(
            lambda x, centres, sigma: _found(x, centres, sigma, least=0.0),
            "a mode is counted from one sample: it needs a tenth of its fair share",
        ),
        Mistake(
            _of_the_good,
            "the fair share is that of all n samples, not of the good ones only",
        ),
        Mistake(
            _anywhere,
            "a mode is counted by points that are far from it: only good points count",
        ),
        Mistake(
            _near_two,
            "a point near two modes counts for both: give it to the nearest one only",
        ),
        Mistake(
            _share_of_modes,
            "this is the share of the modes; quality is the share of the good points",
        ),
        Mistake(
            lambda x, centres, sigma: _found(x, centres, sigma, far=1),
            "points within one sigma are counted: good is within 3 sigma",
        ),
        Mistake(
            lambda x, centres, sigma: _found(x, centres, sigma, far=3**0.5),
            "the squared distance is compared with 3 sigma^2: take 9 sigma^2",
        ),
    ],
)


# 6. A bound -------------------------------------------------------------------------------

_OUT = {"kl": lambda v: v, "reverse kl": lambda v: -torch.exp(-v), "pearson": lambda v: v}
_STAR = {
    "kl": lambda t: torch.exp(t - 1),
    "reverse kl": lambda t: -1 - torch.log(-t),
    "pearson": lambda t: t**2 / 4 + t,
}


def _bound(v_p: Tensor, v_q: Tensor, name: str) -> Tensor:
    g, star = _OUT[name], _STAR[name]
    return g(v_p).mean() - star(g(v_q)).mean()


def _answers(n: int, m: int, name: str) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, Tensor, str]:
        return 0.3 + _normal(g, n), _normal(g, m) - 0.2, name

    return draw


conjugate_bound = close(
    "conjugate_bound",
    _bound,
    {
        "the KL": _answers(6, 6, "kl"),
        "the reverse KL": _answers(9, 4, "reverse kl"),
        "Pearson's": _answers(2, 7, "pearson"),
    },
    [
        Mistake(
            lambda v_p, v_q, name: _bound(v_q, v_p, name),
            "p and q are exchanged: T is averaged over data, f* of T over fakes",
        ),
        Mistake(
            lambda v_p, v_q, name: 2 * _OUT[name](v_p).mean() - _bound(v_p, v_q, name),
            "the second part is taken away, not added",
        ),
        Mistake(
            lambda v_p, v_q, name: _OUT[name](v_p).mean() - _OUT[name](v_q).mean(),
            "the conjugate is missing: this is the difference of means of T",
        ),
        Mistake(
            lambda v_p, v_q, name: v_p.mean() - _STAR[name](_OUT[name](v_q)).mean(),
            "the first mean is of v: it is of T = g(v), as the second one",
        ),
    ],
)
