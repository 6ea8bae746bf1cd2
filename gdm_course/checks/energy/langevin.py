"""Questions of the unit energy/langevin."""

import torch
from torch import Tensor

from gdm_course.checks.question import Inputs, Mistake, close


def _normal(g: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=g)


def _between(g: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * torch.rand((), generator=g).item()


# 1. One step ------------------------------------------------------------------------------


def _step(x: Tensor, slope: Tensor, eps: float, xi: Tensor) -> Tensor:
    return x - eps / 2 * slope + eps**0.5 * xi


def _chains(B: int, D: int, low: float = 0.1, high: float = 0.6) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, Tensor, float, Tensor]:
        eps = _between(g, low, high)
        return _normal(g, B, D), 2 * _normal(g, B, D), eps, _normal(g, B, D)

    return draw


langevin_step = close(
    "langevin_step",
    _step,
    {"": _chains(5, 3), "one chain": _chains(1, 4), "a large step": _chains(6, 2, 2, 3)},
    [
        Mistake(
            lambda x, slope, eps, xi: x - eps * slope + eps**0.5 * xi,
            "the slope is taken in full: with kicks of variance eps it is half of eps",
        ),
        Mistake(
            lambda x, slope, eps, xi: x + eps / 2 * slope + eps**0.5 * xi,
            "this climbs: energy is low where points are likely, so go against the slope",
        ),
        Mistake(
            lambda x, slope, eps, xi: x - eps / 2 * slope + eps * xi,
            "eps is the variance of a kick, and its standard deviation is the root of it",
        ),
        Mistake(
            lambda x, slope, eps, xi: x - eps / 2 * slope + (2 * eps) ** 0.5 * xi,
            "two conventions are mixed: sqrt(2 eta) goes with eta, sqrt(eps) with eps / 2",
        ),
        Mistake(
            lambda x, slope, eps, xi: x - eps / 2 * slope,
            "without the kick this is gradient descent: it ends in the nearest valley",
        ),
    ],
)


# 2. Whether to go there -------------------------------------------------------------------


def _log_q(y: Tensor, x: Tensor, slope: Tensor, eps: float) -> Tensor:
    return -(y - x + eps / 2 * slope).square().sum(1) / (2 * eps)


def _ratio(x: Tensor, y: Tensor, slope_x: Tensor, slope_y: Tensor, eps: float) -> Tensor:
    return _log_q(x, y, slope_y, eps) - _log_q(y, x, slope_x, eps)


def _log_accept(E_x, E_y, x, y, slope_x, slope_y, eps) -> Tensor:
    return E_x - E_y + _ratio(x, y, slope_x, slope_y, eps)


def _proposals(B: int, D: int, low: float = 0.2, high: float = 0.8) -> Inputs:
    """Steps of Langevin, and energies and slopes at both ends."""

    def draw(g: torch.Generator) -> tuple:
        x, slope_x, slope_y = (_normal(g, B, D) for _ in range(3))
        eps = _between(g, low, high)
        y = _step(x, slope_x, eps, _normal(g, B, D))
        return 3 * _normal(g, B), 3 * _normal(g, B), x, y, slope_x, slope_y, eps

    return draw


mala_log_accept = close(
    "mala_log_accept",
    _log_accept,
    {
        "": _proposals(6, 3),
        "one chain": _proposals(1, 5),
        "a large step": _proposals(9, 2, 2, 4),
    },
    [
        Mistake(
            lambda E_x, E_y, *rest: E_x - E_y,
            "the two proposals are missing: a step there is not as likely as a step back",
        ),
        Mistake(
            lambda E_x, E_y, *rest: E_y - E_x + _ratio(*rest),
            "the energies have the wrong sign: going down, E(y) < E(x), is welcome",
        ),
        Mistake(
            lambda E_x, E_y, *rest: E_x - E_y - _ratio(*rest),
            "the proposals are exchanged: q(x | y), the way back, stands above",
        ),
        Mistake(
            lambda E_x, E_y, *rest: E_x - E_y + 2 * _ratio(*rest),
            "the squares are divided by 2 eps, twice the variance of a kick, not by eps",
        ),
        Mistake(
            lambda E_x, E_y, x, y, s, _, eps: E_x - E_y + _ratio(x, y, s, s, eps),
            "the way back starts at y: it rolls down the slope at y, not that at x",
        ),
        Mistake(
            lambda E_x, E_y, x, *rest: E_x - E_y + _ratio(x, *rest) / x.shape[1],
            "the densities of D independent kicks multiply: sum over D, do not average",
        ),
        Mistake(
            lambda *all_of_it: _log_accept(*all_of_it).clamp(max=0),
            "log a is cut at 0: that is the log of min(1, a), and a itself is asked for",
        ),
        Mistake(
            lambda *all_of_it: _log_accept(*all_of_it).exp(),
            "this is a; its logarithm is asked for",
        ),
        Mistake(
            lambda *all_of_it: _log_accept(*all_of_it).clamp(max=0).exp(),
            "this is min(1, a), the probability; log a is asked for, and not cut",
        ),
    ],
)


# 3. Without friction ----------------------------------------------------------------------


def _slide(x: Tensor, p: Tensor, A: Tensor, h: float, steps: int) -> tuple[Tensor, Tensor]:
    p = p - h / 2 * x @ A
    for left in range(steps - 1, -1, -1):
        x = x + h * p
        p = p - (h if left else h / 2) * x @ A
    return x, p


def _whole_pushes(x, p, A, h, steps):
    for _ in range(steps):
        p = p - h * x @ A
        x = x + h * p
    return x, p


def _euler(x, p, A, h, steps):
    for _ in range(steps):
        x, p = x + h * p, p - h * x @ A
    return x, p


def _unfinished(x, p, A, h, steps):
    x, q = _slide(x, p, A, h, steps)
    return x, q - h / 2 * x @ A


def _downhill(x, p, A, h, steps):
    return _slide(x, p, -A, h, steps)


def _tracks(B: int, D: int, steps: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor, float, int]:
        M = _normal(g, D, D)
        A = M @ M.T / D + 0.5 * torch.eye(D)
        return _normal(g, B, D), _normal(g, B, D), A, _between(g, 0.1, 0.4), steps

    return draw


leapfrog = close(
    "leapfrog",
    _slide,
    {"": _tracks(4, 3, 5), "one step": _tracks(3, 2, 1), "one chain": _tracks(1, 4, 8)},
    [
        Mistake(
            _whole_pushes,
            "every push is whole: the first and the last are half ones, else the way back "
            "is another",
        ),
        Mistake(
            _euler,
            "x and p move at once (Euler): the total energy grows; push, drift, push",
        ),
        Mistake(
            _unfinished,
            "the last push is whole: x and p are then half a step apart; end with a half",
        ),
        Mistake(
            _downhill,
            "the push has the wrong sign: p loses the slope of the energy",
        ),
        Mistake(
            lambda x, p, A, h, steps: _slide(x, p, A, h / steps, steps),
            "h is the time of one step, not of all of them",
        ),
    ],
)


# 4. What is minimised ---------------------------------------------------------------------


def _contrast(E_data: Tensor, E_chains: Tensor, alpha: float) -> Tensor:
    size = E_data.square().mean() + E_chains.square().mean()
    return E_data.mean() - E_chains.mean() + alpha * size


def _energies(n: int, m: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, Tensor, float]:
        return 1 + _normal(g, n), 2 + 2 * _normal(g, m), _between(g, 0.2, 0.8)

    return draw


contrastive_loss = close(
    "contrastive_loss",
    _contrast,
    {"": _energies(7, 7), "fewer chains": _energies(9, 4), "more chains": _energies(2, 5)},
    [
        Mistake(
            lambda E, F, alpha: (
                F.mean() - E.mean() + alpha * (E**2).mean() + alpha * (F**2).mean()
            ),
            "this raises the data: their energy is lowered, that of the chains raised",
        ),
        Mistake(
            lambda E, F, alpha: E.mean() - F.mean(),
            "the squares are missing, which keep the energies near 0",
        ),
        Mistake(
            lambda E, F, alpha: (
                E.mean() - F.mean() + alpha * (E**2).mean() - alpha * (F**2).mean()
            ),
            "both squares are costs: that of the chains is added, too",
        ),
        Mistake(
            lambda E, F, alpha: (
                E.mean() - F.mean() + alpha * (E.mean() ** 2 + F.mean() ** 2)
            ),
            "the mean of the squares is asked for, not the square of the mean",
        ),
        Mistake(
            lambda E, F, alpha: E.sum() - F.sum() + alpha * ((E**2).sum() + (F**2).sum()),
            "an expectation is a mean over the rows, not a sum",
        ),
        Mistake(
            lambda E, F, alpha: _contrast(E, F, alpha).detach(),
            "the value is right, but it has no slope in the energies: nothing is learned; "
            "do not detach it",
        ),
        Mistake(
            lambda E, F, alpha: _contrast(E, F.detach(), alpha),
            "the chains' energies are detached: then nothing raises them; it is the places "
            "of the chains that carry no gradient",
        ),
    ],
    slopes=(0, 1),
)


# 5. How warm ------------------------------------------------------------------------------


def _temperature(step: Tensor, noise: Tensor) -> Tensor:
    return noise**2 / (2 * step)


def _settings(B: int, low: float, high: float) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, Tensor]:
        step = low + (high - low) * torch.rand(B, generator=g)
        return step, 0.2 + torch.rand(B, generator=g)

    return draw


temperature_of = close(
    "temperature_of",
    _temperature,
    {
        "": _settings(4, 0.1, 0.9),
        "one setting": _settings(1, 0.1, 0.4),
        "large steps": _settings(6, 5, 12),
    },
    [
        Mistake(
            lambda step, noise: noise**2 / step,
            "a factor of 2 is missing: at temperature 1 the noise is sqrt(2 step)",
        ),
        Mistake(
            lambda step, noise: noise / (2 * step).sqrt(),
            "this is the root of it: noise^2 = 2 T step",
        ),
        Mistake(
            lambda step, noise: 2 * step / noise**2,
            "this is 1 / T, by which E is multiplied; more noise is warmer",
        ),
        Mistake(
            lambda step, noise: noise / (2 * step),
            "the noise counts by its variance: square it",
        ),
    ],
)


# 6. One or the other ----------------------------------------------------------------------


def _mixture(E: Tensor, log_z: Tensor, w: Tensor) -> Tensor:
    return -torch.logsumexp(w.log()[:, None] - E - log_z[:, None], 0)


def _parts(K: int, B: int, far: float = 0.0) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        w = 0.1 + torch.rand(K, generator=g)
        return far + 2 * _normal(g, K, B), 2 * _normal(g, K), w / w.sum()

    return draw


mixture_energy = close(
    "mixture_energy",
    _mixture,
    {"": _parts(3, 5), "two parts": _parts(2, 1), "large energies": _parts(4, 6, 900.0)},
    [
        Mistake(
            lambda E, log_z, w: -torch.logsumexp(w.log()[:, None] - E, 0),
            "the parts' log Z are missing: a part with a large Z would get more than its w",
        ),
        Mistake(
            lambda E, log_z, w: -torch.logsumexp(w.log()[:, None] - E + log_z[:, None], 0),
            "log Z has the wrong sign: the density of a part is e^-E divided by Z",
        ),
        Mistake(
            lambda E, log_z, w: w @ (E + log_z[:, None]),
            "this is the mean of energies: a product of densities, not their sum",
        ),
        Mistake(
            lambda E, log_z, w: torch.logsumexp(w.log()[:, None] - E - log_z[:, None], 0),
            "this is log p(x); its energy is minus that",
        ),
        Mistake(
            lambda E, log_z, w: -torch.logsumexp(-E - log_z[:, None], 0),
            "the weights w are missing",
        ),
        Mistake(
            lambda E, log_z, w: (
                -torch.log((w[:, None] * torch.exp(-E - log_z[:, None])).sum(0))
            ),
            "e^-900 is 0 in floating point: add in the log domain, with torch.logsumexp",
        ),
    ],
)
