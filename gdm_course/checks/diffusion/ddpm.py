"""Questions of the unit diffusion/ddpm."""

import torch
from torch import Tensor

from gdm_course.checks.question import Inputs, Mistake, close


def _normal(g: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=g)


def _between(g: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * torch.rand((), generator=g).item()


def _falling(g: torch.Generator, T: int) -> Tensor:
    """alpha_bar (T + 1,) of random noise: from 1 down to about a tenth."""
    beta = 2.3 / T * (0.3 + 1.4 * torch.rand(T, generator=g))
    return torch.cat([torch.ones(1), (1 - beta.clamp(max=0.6)).cumprod(0)])


# 1. Many steps at once --------------------------------------------------------------------


def _noisy(x0: Tensor, t: Tensor, eps: Tensor, alpha_bar: Tensor) -> Tensor:
    ab = alpha_bar[t][:, None]
    return ab.sqrt() * x0 + (1 - ab).sqrt() * eps


def _of_one_step(x0: Tensor, t: Tensor, eps: Tensor, alpha_bar: Tensor) -> Tensor:
    beta = 1 - alpha_bar[t] / alpha_bar[(t - 1).clamp_min(0)]
    return alpha_bar[t][:, None].sqrt() * x0 + beta[:, None].sqrt() * eps


def _clean_rows(B: int, D: int, T: int, untouched: bool = False) -> Inputs:
    """Rows with steps of their own; one of them may have taken none."""

    def draw(g: torch.Generator) -> tuple[Tensor, ...]:
        t = torch.randint(1, T + 1, (B,), generator=g)
        t[0] = 0 if untouched else T
        return 1 + _normal(g, B, D), t, 1 + _normal(g, B, D), _falling(g, T)

    return draw


noisy = close(
    "noisy",
    _noisy,
    {
        "": _clean_rows(6, 3, 10),
        "as many rows as dimensions": _clean_rows(4, 4, 7),
        "no step for one row": _clean_rows(5, 2, 5, untouched=True),
    },
    [
        Mistake(
            lambda x0, t, eps, ab: ab[t][:, None] * x0 + (1 - ab[t])[:, None].sqrt() * eps,
            "alpha_bar is the share of variance: the signal is multiplied by its root",
        ),
        Mistake(
            lambda x0, t, eps, ab: ab[t][:, None].sqrt() * x0 + (1 - ab[t])[:, None] * eps,
            "1 - alpha_bar is the variance of the noise: its root multiplies eps",
        ),
        Mistake(
            _of_one_step,
            "this adds the noise of step t alone: all t steps have added some",
        ),
        Mistake(
            lambda x0, t, eps, ab: _noisy(x0, (t - 1).clamp_min(0), eps, ab),
            "this is x after t - 1 steps: alpha_bar[0] = 1 is there, index with t",
        ),
        Mistake(
            lambda x0, t, eps, ab: _noisy(x0, t * 0 + t.max(), eps, ab),
            "each row has taken its own number of steps",
        ),
    ],
)


# 2. The best denoiser ---------------------------------------------------------------------


def _denoise(
    x, alpha, sigma, means, std, weights, at=None, seen=None, logs=1, gain=None, soft=True
):
    """E[x0 | x_t]; what may be wrong: middles, variances, widths, gains, exponentials."""
    var = alpha**2 * std**2 + sigma**2
    at, v = (alpha if at is None else at), (seen(var, sigma) if seen else var)
    away = x[:, None] - at * means
    log_p = weights.log() - (away.square().sum(2) / v + logs * x.shape[1] * v.log()) / 2
    r = log_p.softmax(1) if soft else log_p.exp() / log_p.exp().sum(1, keepdim=True)
    gain = gain(alpha, std, var) if gain else alpha * std**2 / var
    return (r[..., None] * (means + gain[:, None] * away)).sum(1)


def _modes(B: int, K: int, D: int, far: float = 0.0, points: bool = False) -> Inputs:
    """A mixture with unequal widths, and noisy points near it or far out."""

    def draw(g: torch.Generator) -> tuple:
        angle = _between(g, 0.5, 1.1)
        alpha, sigma = torch.tensor(angle).cos().item(), torch.tensor(angle).sin().item()
        weights = 0.5 + torch.rand(K, generator=g)
        std = torch.zeros(K) if points else 0.3 + 0.9 * torch.rand(K, generator=g)
        x = 1.2 * _normal(g, B, D) + far
        return x, alpha, sigma, 1.5 * _normal(g, K, D), std, weights / weights.sum()

    return draw


denoise_mixture = close(
    "denoise_mixture",
    _denoise,
    {
        "": _modes(5, 3, 2),
        "four dimensions": _modes(6, 5, 4),
        "components without width": _modes(4, 6, 3, points=True),
        "far from all components": _modes(3, 3, 2, far=40.0),
    },
    [
        Mistake(
            lambda *a: _denoise(*a, at=1.0),
            "the components of x_t lie at alpha m, not at m: the signal has shrunk",
        ),
        Mistake(
            lambda *a: _denoise(*a, seen=lambda var, sigma: 0 * var + sigma**2),
            "x_t varies by its component, too: its variance is alpha^2 s^2 + sigma^2",
        ),
        Mistake(
            lambda *a: _denoise(*a, seen=lambda var, sigma: var.sqrt()),
            "in the exponent stands the variance, not the standard deviation",
        ),
        Mistake(
            lambda *a: _denoise(*a, logs=0),
            "a wide component is lower in its middle: divide by the width to the power D",
        ),
        Mistake(
            lambda *a: _denoise(*a, gain=lambda alpha, std, var: var - alpha**2 * std**2),
            "the share of a deviation that belongs to the signal is alpha s^2 / variance",
        ),
        Mistake(
            lambda *a: _denoise(*a, gain=lambda alpha, std, var: 0 * var),
            "this returns a mean of the components' middles: within a component the point "
            "itself says more",
        ),
        Mistake(
            lambda x, alpha, sigma, means, std, w: _denoise(
                x, alpha, sigma, means, std, torch.ones_like(w)
            ),
            "the components have unequal weights",
        ),
        Mistake(
            lambda *a: _denoise(*a, soft=False),
            "far out every exponential is 0 and their ratio NaN: subtract the largest "
            "exponent first, as softmax does",
        ),
    ],
    rtol=1e-3,
    atol=1e-4,
)


# 3. Between a clean and a noisy point -----------------------------------------------------


def _posterior(x0, x_t, s, t, alpha_bar):
    a, b = alpha_bar[s], alpha_bar[t]
    ratio = b / a
    mean = ratio.sqrt() * (1 - a) / (1 - b) * x_t + a.sqrt() * (1 - ratio) / (1 - b) * x0
    return mean, (1 - a) / (1 - b) * (1 - ratio)


def _one_beta(x0, x_t, s, t, alpha_bar):
    """The noise of step t alone, where that of all steps from s to t is asked for."""
    a, b = alpha_bar[s], alpha_bar[t]
    ratio = b / alpha_bar[t - 1]
    mean = ratio.sqrt() * (1 - a) / (1 - b) * x_t + a.sqrt() * (1 - ratio) / (1 - b) * x0
    return mean, (1 - a) / (1 - b) * (1 - ratio)


def _pair(B: int, D: int, T: int, low: int, high: int) -> Inputs:
    """Clean and noisy rows, with a jump from a step below `low` to one above `high`."""

    def draw(g: torch.Generator) -> tuple:
        s = int(torch.randint(1, low + 1, (), generator=g)) if low else 0
        t = int(torch.randint(high, T + 1, (), generator=g))
        return _normal(g, B, D), _normal(g, B, D), s, t, _falling(g, T)

    return draw


posterior = close(
    "posterior",
    _posterior,
    {
        "": _pair(4, 3, 12, 4, 8),
        "a long jump": _pair(3, 2, 30, 3, 25),
        "to the clean end, s = 0": _pair(3, 2, 9, 0, 5),
        "few steps": _pair(2, 5, 5, 2, 4),
    },
    [
        Mistake(
            lambda x0, x_t, s, t, ab: (_posterior(x0, x_t, s, t, ab)[0], 1 - ab[t] / ab[s]),
            "this is the variance of the way there: knowing x0 makes it smaller",
        ),
        Mistake(
            lambda x0, x_t, s, t, ab: (
                _posterior(x_t, x0, s, t, ab)[0],
                _posterior(x0, x_t, s, t, ab)[1],
            ),
            "the two coefficients are swapped: for small s the mean is near x0",
        ),
        Mistake(
            lambda x0, x_t, s, t, ab: (
                (ab[t] / ab[s]).sqrt() * (1 - ab[s]) / (1 - ab[t]) * x_t
                + ab[t].sqrt() * (1 - ab[t] / ab[s]) / (1 - ab[t]) * x0,
                _posterior(x0, x_t, s, t, ab)[1],
            ),
            "x0 is multiplied by the root of alpha_bar_s: the mean is a point at step s",
        ),
        Mistake(
            lambda x0, x_t, s, t, ab: (
                _posterior(x0, x_t, s, t, ab)[0],
                _posterior(x0, x_t, s, t, ab)[1].sqrt(),
            ),
            "the variance is asked for, not the standard deviation",
        ),
        Mistake(
            _one_beta,
            "this beta belongs to step t alone: from s to t it is 1 - alpha_bar_t / "
            "alpha_bar_s",
        ),
    ],
    also=[lambda *a: (_posterior(*a)[0], _posterior(*a)[1].view(1, 1))],  # as the lecture
)


# 4. The velocity --------------------------------------------------------------------------


def _from_velocity(v, x_t, alpha, sigma):
    return alpha * x_t - sigma * v


def _velocities(B: int, D: int, low: float, high: float) -> Inputs:
    def draw(g: torch.Generator) -> tuple:
        angle = torch.tensor(_between(g, low, high))
        return _normal(g, B, D), _normal(g, B, D), angle.cos().item(), angle.sin().item()

    return draw


clean_from_velocity = close(
    "clean_from_velocity",
    _from_velocity,
    {
        "": _velocities(5, 3, 0.4, 0.7),
        "hardly any signal": _velocities(4, 2, 1.5707, 1.57075),
        "hardly any noise": _velocities(3, 4, 0.02, 0.1),
    },
    [
        Mistake(
            lambda v, x, alpha, sigma: alpha * x + sigma * v,
            "the sign: v contains -sigma x0, so that it has to be subtracted",
        ),
        Mistake(
            lambda v, x, alpha, sigma: sigma * x - alpha * v,
            "alpha and sigma are swapped",
        ),
        Mistake(
            lambda v, x, alpha, sigma: sigma * x + alpha * v,
            "this is the noise eps: x0 is asked for",
        ),
        Mistake(
            lambda v, x, alpha, sigma: (x - sigma * v) / alpha,
            "this takes v for the noise eps",
        ),
        Mistake(
            lambda v, x, alpha, sigma: alpha**2 * x - sigma**2 * v,
            "alpha and sigma themselves, not their squares",
        ),
    ],
)


# 5. What a wrong guess costs --------------------------------------------------------------


def _kl(x0, x0_hat, s, t, alpha_bar, half=0.5, power=1.0):
    snr = (alpha_bar / (1 - alpha_bar)) ** power
    return half * (snr[s] - snr[t]) * (x0 - x0_hat).square().sum(1)


def _log_difference(x0, x0_hat, s, t, alpha_bar):
    snr = alpha_bar / (1 - alpha_bar)
    return 0.5 * (snr[s].log() - snr[t].log()) * (x0 - x0_hat).square().sum(1)


step_kl = close(
    "step_kl",
    _kl,
    {
        "": _pair(4, 3, 12, 4, 8),
        "as many rows as dimensions": _pair(3, 3, 10, 3, 6),
        "one row": _pair(1, 5, 20, 8, 15),
    },
    [
        Mistake(
            lambda x0, h, s, t, ab: _kl(x0, h, s, t, ab) / x0.shape[1],
            "a KL of a vector sums over its dimensions, it does not average",
        ),
        Mistake(
            lambda *a: _kl(*a, half=1.0),
            "half of the difference of the ratios is asked for",
        ),
        Mistake(
            lambda *a: _kl(*a, power=0.5),
            "the ratio is alpha^2 / sigma^2, of variances, not alpha / sigma",
        ),
        Mistake(
            lambda x0, h, s, t, ab: -_kl(x0, h, s, t, ab),
            "a KL is not negative: s has more signal than t",
        ),
        Mistake(
            _log_difference,
            "the difference of the ratios themselves, not of their logarithms",
        ),
        Mistake(
            lambda x0, h, s, t, ab: _kl(x0, h, s, t, ab).mean(),
            "one number for each row is asked for: (B,)",
        ),
    ],
    rtol=1e-3,
)


# 6. Jumps with and without noise ----------------------------------------------------------


def _ddim(x, eps_hat, noise, s, t, alpha_bar, eta, power=2, keep=False, beta=None):
    a, b = alpha_bar[s], alpha_bar[t]
    var = (1 - a) / (1 - b) * (1 - b / a) if beta is None else beta(alpha_bar, s, t)
    c2 = eta**power * var
    x0 = (x - (1 - b).sqrt() * eps_hat) / b.sqrt()
    left = (1 - a - (0 if keep else c2)).clamp_min(0).sqrt()
    return a.sqrt() * x0 + left * eps_hat + c2.sqrt() * noise


def _backwards(x, eps_hat, noise, s, t, alpha_bar, eta):
    a, b = alpha_bar[t], alpha_bar[s]
    x0 = (x - (1 - b).sqrt() * eps_hat) / b.sqrt()
    return a.sqrt() * x0 + (1 - a).sqrt() * eps_hat


def _jump(B: int, D: int, T: int, low: int, high: int, eta: float | None) -> Inputs:
    pair = _pair(B, D, T, low, high)

    def draw(g: torch.Generator) -> tuple:
        x, eps_hat, s, t, alpha_bar = pair(g)
        much = _between(g, 0.3, 0.9) if eta is None else eta
        return x, eps_hat, _normal(g, B, D), s, t, alpha_bar, much

    return draw


ddim_step = close(
    "ddim_step",
    _ddim,
    {
        "": _jump(4, 3, 12, 4, 8, None),
        "eta = 0": _jump(3, 2, 20, 5, 12, 0.0),
        "eta = 1": _jump(3, 4, 9, 2, 6, 1.0),
        "to the clean end, s = 0": _jump(3, 2, 8, 0, 4, None),
    },
    [
        Mistake(
            lambda *a: _ddim(*a, keep=True),
            "fresh noise takes the place of old noise: the variance c^2 has to be "
            "subtracted under the root, else too much noise is left",
        ),
        Mistake(
            lambda *a: _ddim(*a, power=1),
            "eta multiplies the standard deviation of the noise: eta^2 its variance",
        ),
        Mistake(
            lambda *a: _ddim(
                *a,
                beta=lambda ab, s, t: (1 - ab[s]) / (1 - ab[t]) * (1 - ab[t] / ab[t - 1]),
            ),
            "this beta belongs to step t alone: from s to t it is 1 - alpha_bar_t / "
            "alpha_bar_s",
        ),
        Mistake(_backwards, "s and t are swapped: the step goes from t to s"),
        Mistake(
            lambda x, e, n, s, t, ab, eta: _ddim(x, e, e, s, t, ab, eta),
            "the fresh noise is the argument `noise`, not eps_hat once more",
        ),
    ],
    rtol=1e-3,
)
