"""Questions of the unit diffusion/guidance."""

import torch
from torch import Tensor

from gdm_course.checks.question import Inputs, Mistake, close


def _normal(g: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=g)


def _between(g: torch.Generator, low: float, high: float, *shape: int) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=g)


# 1. Past the label ------------------------------------------------------------------------


def _guided(conditional: Tensor, free: Tensor, w: float) -> Tensor:
    return free + (1 + w) * (conditional - free)


def _answers(B: int, *shape: int, w: float | None = None) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, Tensor, float]:
        weight = _between(g, 0.5, 4).item() if w is None else w
        return _normal(g, B, *shape), _normal(g, B, *shape), weight

    return draw


guided = close(
    "guided",
    _guided,
    {
        "": _answers(5, 2),
        "w = 0": _answers(3, 2, w=0.0),
        "pictures": _answers(2, 3, 4, 4),
        "one": _answers(1, 1, 5, 3),
    },
    [
        Mistake(
            lambda c, u, w: u + w * (c - u),
            "this is the other convention, scale = 1 + w: at w = 0 it is the free one",
        ),
        Mistake(
            lambda c, u, w: c + (1 + w) * (u - c),
            "this goes past the free answer: start there, and go past the conditional one",
        ),
        Mistake(
            lambda c, u, w: (c + w * u) / (1 + w),
            "this is a mean of both: it stays between them, and guidance goes beyond",
        ),
        Mistake(
            lambda c, u, w: c + (1 + w) * (c - u),
            "one step too far: at w = 0 the conditional answer itself is wanted",
        ),
    ],
)


# 2. A classifier steers -------------------------------------------------------------------


def _log_p(x: Tensor, W: Tensor, b: Tensor) -> Tensor:
    return torch.log_softmax(x @ W + b, 1)


def _pull(x: Tensor, W: Tensor, b: Tensor, y: Tensor) -> Tensor:
    """The slope in x of log p(y | x)."""
    return W.T[y] - torch.softmax(x @ W + b, 1) @ W.T


def _steered(eps, x, W, b, y, sigma, scale) -> Tensor:
    return eps - scale * sigma[:, None] * _pull(x, W, b, y)


def _of_p(eps, x, W, b, y, sigma, scale):
    p = _log_p(x, W, b).gather(1, y[:, None]).exp()
    return eps - scale * sigma[:, None] * p * _pull(x, W, b, y)


def _of_all(eps, x, W, b, y, sigma, scale):
    every = W.sum(1) - W.shape[1] * torch.softmax(x @ W + b, 1) @ W.T
    return eps - scale * sigma[:, None] * every


def _of_logit(eps, x, W, b, y, sigma, scale):
    return eps - scale * sigma[:, None] * W.T[y]


def _classified(B: int, D: int, K: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple:
        y = torch.randint(K, (B,), generator=g)
        sigma, scale = _between(g, 0.2, 0.9, B), _between(g, 1.5, 4).item()
        eps, x, W = _normal(g, B, D), _normal(g, B, D), _normal(g, D, K)
        return eps, x, W, _normal(g, K), y, sigma, scale

    return draw


classifier_noise = close(
    "classifier_noise",
    _steered,
    {
        "": _classified(6, 3, 4),
        "one point": _classified(1, 5, 3),
        "two classes": _classified(8, 2, 2),
    },
    [
        Mistake(
            _of_p,
            "this is the slope of p(y | x): Bayes' rule for scores adds that of its log",
        ),
        Mistake(_of_all, "the slopes of all classes are added: take the class y alone"),
        Mistake(
            _of_logit,
            "this is the slope of a logit: the log-sum of the others has a slope, too",
        ),
        Mistake(
            lambda eps, x, W, b, y, sigma, scale: eps - scale * _pull(x, W, b, y),
            "sigma is missing: eps is -sigma times the score",
        ),
        Mistake(
            lambda eps, x, W, b, y, sigma, scale: (
                eps + scale * sigma[:, None] * _pull(x, W, b, y)
            ),
            "the sign is wrong: the noise points away from where the score points",
        ),
        Mistake(
            lambda eps, x, W, b, y, sigma, scale: (
                eps - scale * sigma[:, None] ** 2 * _pull(x, W, b, y)
            ),
            "sigma stands once here: sigma^2 goes with the clean point, not with the noise",
        ),
    ],
)


# 3. What is promised, what is drawn -------------------------------------------------------


def _widths(a: Tensor, A: Tensor, w: float) -> tuple[Tensor, Tensor]:
    return ((1 + w) / a**2 - w / A**2) ** -0.5, a * (a / A) ** w


def _classes(B: int, w: float | None = None) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, Tensor, float]:
        a = _between(g, 0.4, 1.2, B)
        weight = _between(g, 0.5, 3).item() if w is None else w
        return a, a * _between(g, 1.3, 2.5, B), weight

    return draw


two_widths = close(
    "two_widths",
    _widths,
    {"": _classes(5), "w = 0": _classes(3, 0.0), "one class": _classes(1)},
    [
        Mistake(
            lambda a, A, w: _widths(a, A, w)[::-1],
            "the two are exchanged: first the width that is promised, then the drawn one",
        ),
        Mistake(
            lambda a, A, w: (_widths(a, A, w)[0],) * 2,
            "the sampler does not draw the sharpened density, so its width is another one",
        ),
        Mistake(
            lambda a, A, w: tuple(t**2 for t in _widths(a, A, w)),
            "these are variances: a width is a standard deviation",
        ),
        Mistake(
            lambda a, A, w: ((w / a**2 + (1 - w) / A**2).abs() ** -0.5, a * (a / A) ** w),
            "this is p(x)^(1 - w) p(x|c)^w: with 1 + w, w = 0 is the class itself",
        ),
        Mistake(
            lambda a, A, w: (((1 + w) / a - w / A).abs() ** -1, a * (a / A) ** w),
            "precisions add, 1 / a^2, not the inverses of widths",
        ),
    ],
)


# 4. Only what is missing ------------------------------------------------------------------


def _missing_mean(error: Tensor, known: Tensor) -> Tensor:
    missing = (1 - known).expand_as(error)
    return (missing * error).sum() / missing.sum()


def _error(out, x0, eps, alpha, sigma):
    return (out - (alpha * eps - sigma * x0)).square()


def _palette(out, x0, eps, known, alpha, sigma) -> Tensor:
    return _missing_mean(_error(out, x0, eps, alpha, sigma), known)


def _row_means(out, x0, eps, known, alpha, sigma):
    error = _error(out, x0, eps, alpha, sigma)
    return torch.stack([_missing_mean(e, k) for e, k in zip(error, known)]).mean()


def _per_pixel(out, x0, eps, known, alpha, sigma):
    return _palette(out, x0, eps, known, alpha, sigma) * out.shape[1]


def _masked(B: int, C: int, side: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple:
        x0, eps, off = (_normal(g, B, C, side, side) for _ in range(3))
        share = _between(g, 0.2, 0.8, B, 1, 1, 1)  # rows miss unequal shares
        known = (torch.rand(B, 1, side, side, generator=g) < share).float()
        known[:, :, 0, 0], known[:, :, 0, 1] = 1, 0
        angle = _between(g, 0.3, 1.2, B, 1, 1, 1)
        out = angle.cos() * eps - angle.sin() * x0 + (1 + 2 * known) * off
        return out, x0, eps, known, angle.cos(), angle.sin()

    return draw


palette_loss = close(
    "palette_loss",
    _palette,
    {"": _masked(4, 3, 4), "grey": _masked(3, 1, 5), "one picture": _masked(1, 2, 4)},
    [
        Mistake(
            lambda out, x0, eps, known, a, s: _error(out, x0, eps, a, s).mean(),
            "known pixels count, too: there is nothing to find out about them",
        ),
        Mistake(
            lambda out, x0, eps, known, a, s: _palette(out, x0, eps, 1 - known, a, s),
            "the mask is inverted: these are the errors of the known pixels",
        ),
        Mistake(
            lambda out, x0, eps, known, a, s: (
                (1 - known) * _error(out, x0, eps, a, s)
            ).mean(),
            "divide by how many numbers are missing, not by how many there are",
        ),
        Mistake(
            _per_pixel,
            "a missing pixel misses all of its channels: divide by the missing numbers",
        ),
        Mistake(
            lambda out, x0, eps, known, a, s: (
                (1 - known) * _error(out, x0, eps, a, s)
            ).sum(),
            "a mean is asked for, not a sum",
        ),
        Mistake(
            lambda out, x0, eps, known, a, s: _missing_mean((out - eps).square(), known),
            "the network's answer is v = alpha eps - sigma x0, not the noise",
        ),
        Mistake(
            _row_means,
            "one mean over the missing numbers of the batch, not a mean of rows' means",
        ),
    ],
)


# 5. A step of RePaint ---------------------------------------------------------------------


def _posterior(x_t, x0_hat, xi, ab_s, ab_t):
    step = ab_t / ab_s
    mean = (ab_s.sqrt() * (1 - step) * x0_hat + step.sqrt() * (1 - ab_s) * x_t) / (1 - ab_t)
    return mean + ((1 - ab_s) / (1 - ab_t) * (1 - step)).sqrt() * xi


def _repainted(x_t, x0_hat, seen, known, eps, xi, ab_s, ab_t) -> Tensor:
    drawn = _posterior(x_t, x0_hat, xi, ab_s, ab_t)
    return known * (ab_s.sqrt() * seen + (1 - ab_s).sqrt() * eps) + (1 - known) * drawn


def _known_at(level):
    def step(x_t, x0_hat, seen, known, eps, xi, ab_s, ab_t):
        drawn = _posterior(x_t, x0_hat, xi, ab_s, ab_t)
        return known * level(seen, eps, ab_s, ab_t) + (1 - known) * drawn

    return step


def _drawn_by(draw):
    def step(x_t, x0_hat, seen, known, eps, xi, ab_s, ab_t):
        noisy = ab_s.sqrt() * seen + (1 - ab_s).sqrt() * eps
        return known * noisy + (1 - known) * draw(x_t, x0_hat, xi, ab_s, ab_t)

    return step


def _states(B: int, D: int, last: bool = False) -> Inputs:
    def draw(g: torch.Generator) -> tuple:
        x_t, x0_hat, seen, eps, xi = (_normal(g, B, D) for _ in range(5))
        known = (torch.rand(B, D, generator=g) < 0.5).float()
        known[:, 0], known[:, 1] = 1, 0
        seen[::2, 0] = 0  # known, and 0: the mask says what is known, not the value
        ab_t = _between(g, 0.1, 0.5)
        ab_s = torch.ones(()) if last else _between(g, 0.6, 0.9)
        return x_t, x0_hat, known * seen, known, eps, xi, ab_s, ab_t

    return draw


repaint_step = close(
    "repaint_step",
    _repainted,
    {"": _states(5, 4), "the last step, s = 0": _states(3, 3, True), "one": _states(1, 6)},
    [
        Mistake(
            _known_at(lambda x, e, ab_s, ab_t: ab_t.sqrt() * x + (1 - ab_t).sqrt() * e),
            "the known part has the noise of level t: after the step all is at level s",
        ),
        Mistake(
            _known_at(lambda x, e, ab_s, ab_t: x),
            "the known part is clean: among noisy numbers it looks like no data at all",
        ),
        Mistake(
            lambda x_t, x0_hat, seen, known, *rest: _repainted(
                x_t, x0_hat, seen, 1 - known, *rest
            ),
            "the mask is inverted: known numbers come from `seen`, others from the step",
        ),
        Mistake(
            lambda x_t, x0_hat, seen, known, *rest: _repainted(
                x_t, x0_hat, seen, (seen != 0).float(), *rest
            ),
            "a known number may be 0: `known` says what is known, not the value in `seen`",
        ),
        Mistake(
            _drawn_by(
                lambda x, x0, xi, ab_s, ab_t: ab_s.sqrt() * x0 + (1 - ab_s).sqrt() * xi
            ),
            "this forgets x_t: the posterior lies between the clean point and x_t",
        ),
        Mistake(
            _drawn_by(lambda x, x0, xi, ab_s, ab_t: _posterior(x, x0, 0 * xi, ab_s, ab_t)),
            "the noise xi of the step is missing",
        ),
        Mistake(
            _drawn_by(
                lambda x, x0, xi, ab_s, ab_t: (
                    _posterior(x, x0, 0 * xi, ab_s, ab_t) + (1 - ab_t / ab_s).sqrt() * xi
                )
            ),
            "the posterior's variance is (1 - ab_s) / (1 - ab_t) times 1 - ab_t / ab_s",
        ),
    ],
)


# 6. Is the spread right? ------------------------------------------------------------------


def _ratio(draws: Tensor, x: Tensor) -> Tensor:
    return (draws - x).square().mean() / (draws.mean(0) - x).square().mean()


def _restored(K: int, B: int, D: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, Tensor]:
        centre, width = _normal(g, B, D), _between(g, 0.3, 1.5, B, 1)
        draws = centre + width * _normal(g, K, B, D)
        return draws, centre + width * _normal(g, B, D)

    return draw


calibration_ratio = close(
    "calibration_ratio",
    _ratio,
    {
        "": _restored(8, 20, 3),
        "two draws": _restored(2, 9, 4),
        "one row": _restored(5, 1, 8),
    },
    [
        Mistake(
            lambda d, x: (d.mean(0) - x).square().mean() / (d - x).square().mean(),
            "it is upside down: a single draw is worse than the mean of several",
        ),
        Mistake(
            lambda d, x: (d - x).square().mean() / (d - d.mean(0)).square().mean(),
            "this divides by the spread of the draws: compare their mean with the truth",
        ),
        Mistake(
            lambda d, x: (d - x).abs().mean() / (d.mean(0) - x).abs().mean(),
            "squares are asked for: only for them is the right value 2 K / (K + 1)",
        ),
        Mistake(
            lambda d, x: (
                (d - x).square().mean(-1) / (d.mean(0) - x).square().mean(-1)
            ).mean(),
            "a ratio of means, not a mean of ratios: rows with a small error would rule",
        ),
    ],
)
