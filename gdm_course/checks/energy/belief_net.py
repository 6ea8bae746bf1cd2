"""Questions of the unit energy/belief_net."""

import torch
import torch.nn.functional as F
from torch import Tensor

from gdm_course.checks.question import Inputs, Mistake, close


def _normal(g: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=g)


def _coins(g: torch.Generator, *shape: int) -> Tensor:
    return torch.randint(2, shape, generator=g).float()


def _between(g: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * torch.rand((), generator=g).item()


def states(n: int) -> Tensor:
    """All patterns of n bits (2^n, n), counting upwards.

    The box withholds what this file imports, and `normalise.states` is for students' use.
    """
    places = torch.arange(n - 1, -1, -1)
    return torch.arange(2**n)[:, None] >> places & 1


def _log_coins(logits: Tensor, x: Tensor) -> Tensor:
    """The log-probability of every single bit."""
    return x * logits - F.softplus(logits)


# 1. Explaining away -----------------------------------------------------------------------


def _table(p: float, b: float, w: float, v: int = 1, prior: bool = True) -> Tensor:
    """p(h1, h2, v), row h1 and column h2."""
    on = torch.tensor([0.0, 1.0]).double()
    cause = torch.tensor([1 - p, p]).double() if prior else torch.ones(2).double()
    effect = torch.sigmoid(b + w * (on[:, None] + on))
    return cause[:, None] * cause * (effect if v else 1 - effect)


def _two(table: Tensor, second: int = 1) -> tuple[Tensor, Tensor]:
    column = table[:, second]
    return table[1].sum() / table.sum(), column[1] / column.sum()


def _alarm(p: float, b: float, w: float) -> tuple[Tensor, Tensor]:
    return _two(_table(p, b, w))


def _not_normalised(p: float, b: float, w: float) -> tuple[Tensor, Tensor]:
    table = _table(p, b, w)
    return _alarm(p, b, w)[0], table[1, 1] / table.sum()


def _rare(low: float, high: float) -> Inputs:
    """Causes with a prior between low and high, and an effect that seldom comes alone."""

    def draw(g: torch.Generator) -> tuple[float, float, float]:
        return _between(g, low, high), _between(g, -4, -2.5), _between(g, 3, 6)

    return draw


explaining_away = close(
    "explaining_away",
    _alarm,
    {"": _rare(0.05, 0.15), "frequent causes": _rare(0.5, 0.7)},
    [
        Mistake(
            lambda p, b, w: _two(_table(p, b, w, prior=False)),
            "the prior is missing: causes are on with the probability p, before we look",
        ),
        Mistake(
            lambda p, b, w: _two(_table(p, b, w, v=0)),
            "this is what to believe when the effect did not come; it did, v = 1",
        ),
        Mistake(
            _not_normalised,
            "the second number is p(h1 = 1, h2 = 1 | v = 1): h2 is known to be on, so "
            "divide by p(h2 = 1, v = 1) alone",
        ),
        Mistake(
            lambda p, b, w: _two(_table(p, b, w), second=0),
            "the second number is for h2 = 0: without the other cause this one is likelier",
        ),
        Mistake(
            lambda p, b, w: _alarm(p, b, w)[::-1],
            "the two numbers are exchanged",
        ),
        Mistake(
            lambda p, b, w: (_table(p, b, w)[1].sum(), _table(p, b, w)[1, 1]),
            "these are joint probabilities with v = 1: divide by that of what is known",
        ),
    ],
    atol=1e-6,
)


# 2. The loss of sleep ---------------------------------------------------------------------


def _sleep(v: Tensor, h: Tensor, R: Tensor, r: Tensor) -> Tensor:
    return -_log_coins(r + v @ R, h).sum(1).mean()


def _plain_logs(v: Tensor, h: Tensor, R: Tensor, r: Tensor) -> Tensor:
    q = torch.sigmoid(r + v @ R)
    return -(h * q.log() + (1 - h) * (1 - q).log()).sum(1).mean()


def _dreams(n: int, D: int, H: int, scale: float = 1.0) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, ...]:
        R, r = scale * _normal(g, D, H), scale * (1 + _normal(g, H).abs())
        return _coins(g, n, D), _coins(g, n, H), R, r

    return draw


sleep_loss = close(
    "sleep_loss",
    _sleep,
    {
        "": _dreams(6, 5, 3),
        "a recogniser that is very sure": _dreams(12, 4, 5, 60.0),
        "three dreams": _dreams(3, 7, 4),
    },
    [
        Mistake(
            lambda v, h, R, r: _log_coins(r + v @ R, h).sum(1).mean(),
            "this is what should become large; a loss is minimised: minus log q",
        ),
        Mistake(
            lambda v, h, R, r: -_log_coins(h @ R.T, v).sum(1).mean(),
            "this predicts v from h, as wake does; sleep teaches the guess of h from v",
        ),
        Mistake(
            lambda v, h, R, r: -_log_coins(r + v @ R, h).mean(),
            "the causes' terms add up: sum over H, then average over the dreams",
        ),
        Mistake(
            lambda v, h, R, r: -_log_coins(r + v @ R, h).sum(),
            "average over the dreams: the loss is not to grow with their number",
        ),
        Mistake(
            lambda v, h, R, r: _sleep(v, 1 - h, R, r),
            "on and off are exchanged: q is the probability of h = 1",
        ),
        Mistake(
            lambda v, h, R, r: -(h * F.logsigmoid(r + v @ R)).sum(1).mean(),
            "causes that were off count, too: log(1 - q) for them",
        ),
        Mistake(
            _plain_logs,
            "where q rounds to 0 or 1 its log is infinite: work with logits and softplus",
        ),
    ],
)


# 3. The bound of a deep belief net --------------------------------------------------------


def _bound(v, h, W, b, c, F_top, log_z: float) -> Tensor:
    down = _log_coins(b + h @ W.T, v).sum(1)
    return down - _log_coins(c + v @ W, h).sum(1) - F_top - log_z


def _guesses(v, h, W, c) -> Tensor:
    return _log_coins(c + v @ W, h).sum(1)


def _guessed(B: int, D: int, H: int) -> Inputs:
    """Data, drawn h, the lower RBM, and of the upper one what is needed."""

    def draw(g: torch.Generator) -> tuple:
        W, b, c = _normal(g, D, H), 0.5 + _normal(g, D), 0.5 + _normal(g, H)
        F_top = -3 + _normal(g, B)
        return _coins(g, B, D), _coins(g, B, H), W, b, c, F_top, _between(g, 4, 9)

    return draw


dbn_bound = close(
    "dbn_bound",
    _bound,
    {
        "": _guessed(6, 5, 3),
        "one row": _guessed(1, 4, 2),
        "a wide layer": _guessed(4, 3, 6),
    },
    [
        Mistake(
            lambda v, h, W, b, c, F_top, log_z: (
                _bound(v, h, W, b, c, F_top, log_z) + _guesses(v, h, W, c)
            ),
            "- log q(h | v) is missing, whose mean is the entropy of the guess",
        ),
        Mistake(
            lambda v, h, W, b, c, F_top, log_z: (
                _bound(v, h, W, b, c, F_top, log_z) + 2 * _guesses(v, h, W, c)
            ),
            "log q(h | v) has the wrong sign: it is subtracted",
        ),
        Mistake(
            lambda v, h, W, b, c, F_top, log_z: _bound(v, h, W, b, c, -F_top, log_z),
            "the free energy has the wrong sign: log p(h) = -F(h) - log Z",
        ),
        Mistake(
            lambda v, h, W, b, c, F_top, log_z: _bound(v, h, W, b, c, F_top, 0.0),
            "log Z of the upper RBM is missing: without it, this is no bound",
        ),
        Mistake(
            lambda v, h, W, b, c, F_top, log_z: _bound(v, h, W, b, c, F_top, -log_z),
            "log Z has the wrong sign: log p(h) = -F(h) - log Z",
        ),
        Mistake(
            lambda v, h, W, b, c, F_top, log_z: (
                _bound(v, h, W, b, c, F_top, log_z)
                + _guesses(v, h, W, c) * (1 - 1 / h.shape[1])
            ),
            "the bits of h are guessed each on its own: their logs add up, they are not "
            "averaged",
        ),
        Mistake(
            lambda v, h, W, b, c, F_top, log_z: _bound(v, h, W, 0 * b, 0 * c, F_top, log_z),
            "both layers of the lower RBM have biases: b of v and c of h",
        ),
        Mistake(
            lambda *given: _bound(*given).mean(),
            "one bound for each row is asked for: (B,)",
        ),
    ],
)


# 4. Upside down ---------------------------------------------------------------------------


def _tie(W: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return W.T, c, b


def _rbm(D: int, H: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, ...]:
        return _normal(g, D, H), _normal(g, D), _normal(g, H)

    return draw


tie = close(
    "tie",
    _tie,
    {"": _rbm(5, 3), "as many hidden as visible units": _rbm(4, 4), "wide": _rbm(2, 7)},
    [
        Mistake(
            lambda W, b, c: (W, c, b),
            "W stands the wrong way round: what was hidden is visible now, so W'",
        ),
        Mistake(
            lambda W, b, c: (W.T, b, c),
            "the biases change places, as the sides do",
        ),
        Mistake(
            lambda W, b, c: (W.T, c, 0 * b),
            "the new hidden units need the old visible biases, else p(h) changes",
        ),
        Mistake(
            lambda W, b, c: (W.T, 0 * c, b),
            "the new visible units keep their biases c, else p(h) changes",
        ),
        Mistake(
            lambda W, b, c: (-W.T, c, b),
            "the wires keep their sign: only the drawing is turned",
        ),
    ],
)


# 5. One step of mean field ----------------------------------------------------------------


def _others(q: Tensor, k: int, h: Tensor, keep: bool = False) -> Tensor:
    """The probability under q of all bits but bit k, for every state."""
    each = torch.where(h.bool(), q, 1 - q)
    return each.prod(1) if keep else each.prod(1) / each[:, k]


def _field(log_p: Tensor, q: Tensor, k: int, sign: int = 1, keep: bool = False) -> Tensor:
    h = states(len(q)).to(log_p)
    weights = _others(q, k, h, keep) * (2 * h[:, k] - 1)
    return torch.sigmoid(sign * (weights * log_p).sum())


def _of_averages(log_p: Tensor, q: Tensor, k: int) -> Tensor:
    h = states(len(q)).to(log_p)
    weighted = _others(q, k, h) * torch.softmax(log_p, 0)
    return (weighted * h[:, k]).sum() / weighted.sum()


def _marginal(log_p: Tensor, q: Tensor, k: int) -> Tensor:
    return torch.softmax(log_p, 0) @ states(len(q)).to(log_p)[:, k]


def _beliefs(H: int, k: int, offset: float = 0.0) -> Inputs:
    """log p of all 2^H states, probabilities q, and which of them is to move."""

    def draw(g: torch.Generator) -> tuple[Tensor, Tensor, int]:
        q = 0.15 + 0.3 * torch.rand(H, generator=g)
        return offset + 1.5 * _normal(g, 2**H), q, k

    return draw


mean_field_step = close(
    "mean_field_step",
    _field,
    {
        "": _beliefs(3, 1),
        "two causes": _beliefs(2, 0),
        "not normalised, far below 0": _beliefs(4, 3, -300.0),
    },
    [
        Mistake(
            lambda log_p, q, k: _field(log_p, q, k, sign=-1),
            "on and off are exchanged: this is the probability that h_k = 0",
        ),
        Mistake(
            lambda log_p, q, k: _field(log_p, q, k, keep=True),
            "the mean is over the others alone: q_k itself is no weight",
        ),
        Mistake(
            _of_averages,
            "this averages p and takes the logarithm later; average log p",
        ),
        Mistake(
            _marginal,
            "this is the marginal of p, which lowers KL(p || q), the other direction",
        ),
        Mistake(
            lambda log_p, q, k: torch.logit(_field(log_p, q, k)),
            "this is the logit of q_k: a sigmoid is missing",
        ),
        Mistake(
            lambda log_p, q, k: _field(log_p, q, k, sign=2),
            "the two means of log p are subtracted once, without a factor",
        ),
    ],
    rtol=1e-3,
    atol=1e-4,
)
