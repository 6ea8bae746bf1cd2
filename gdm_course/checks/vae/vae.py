"""Questions of the unit vae/vae."""

import math

import torch
from torch import Tensor

from gdm_course.checks.question import Inputs, Mistake, close
from gdm_course.vae import vae
from gdm_course.vae.decoders import logistic_bin as binned
from gdm_course.vae.mixture import Mixture


def _randn(g: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=g)


# 1. The posterior of a mixture ------------------------------------------------------------


def _responsibilities(x: Tensor, log_pi: Tensor, mu: Tensor, log_sigma: Tensor) -> Tensor:
    return Mixture(log_pi, mu, log_sigma).posterior(x)


def _mixture_inputs(B: int, K: int, D: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, ...]:
        log_pi = _randn(g, K).log_softmax(0)
        return 2 * _randn(g, B, D), log_pi, 2 * _randn(g, K, D), 0.4 * _randn(g, K)

    return draw


def _alike(g: torch.Generator) -> tuple[Tensor, ...]:
    """Points 60 and 80 away from components that differ little: no answer is near 0.

    So far apart that one shift of the logs for all points is too little. In double
    precision: in single, the logs of e^-2000 and its like keep too few digits.
    """
    mu, log_pi = 0.02 * _randn(g, 4, 2), _randn(g, 4).log_softmax(0)
    x, log_sigma = 0.1 * _randn(g, 5, 2), -0.2 + 0.0003 * _randn(g, 4)
    x = x + torch.tensor([42, 42, 57, 42, 57])[:, None] * x.sign()
    return tuple(a.double() for a in (x, log_pi, mu, log_sigma))


def _naive(x: Tensor, log_pi: Tensor, mu: Tensor, log_sigma: Tensor) -> Tensor:
    p = Mixture(log_pi, mu, log_sigma).log_joint(x).exp()
    return p / p.sum(-1, keepdim=True)


def _one_shift_for_all(x, log_pi, mu, log_sigma):
    joint = Mixture(log_pi, mu, log_sigma).log_joint(x)
    p = (joint - joint.max()).exp()
    return p / p.sum(-1, keepdim=True)


def _uniform(x, log_pi, mu, log_sigma):
    return _responsibilities(x, torch.zeros_like(log_pi), mu, log_sigma)


def _over_points(x, log_pi, mu, log_sigma):
    return Mixture(log_pi, mu, log_sigma).log_joint(x).softmax(0)


def _unscaled(x, log_pi, mu, log_sigma):
    joint = Mixture(log_pi, mu, log_sigma).log_joint(x) + x.shape[1] * log_sigma
    return joint.softmax(-1)


def _one_scale(x, log_pi, mu, log_sigma):
    joint = Mixture(log_pi, mu, log_sigma).log_joint(x)
    return (joint + (x.shape[1] - 1) * log_sigma).softmax(-1)


responsibilities = close(
    "responsibilities",
    _responsibilities,
    {
        "": _mixture_inputs(7, 3, 2),
        "3 dimensions, 4 components": _mixture_inputs(2, 4, 3),
        "points far from all centres": _alike,
    },
    [
        Mistake(
            _naive,
            "right near the centres; far from all of them every p(x, z) underflows, and "
            "0 / 0 is no number: softmax of the logs",
        ),
        Mistake(
            _one_shift_for_all,
            "one shift for all points is too little: each needs its own, as softmax does",
        ),
        Mistake(_uniform, "the prior weights are missing: p(z | x) ~ pi_z p(x | z)"),
        Mistake(
            _over_points, "normalise over the components (last dimension), not the points"
        ),
        Mistake(
            _unscaled,
            "a narrow Gaussian is higher: its density has a factor 1 / sigma per dimension",
        ),
        Mistake(_one_scale, "the factor 1 / sigma belongs to each of the D dimensions"),
    ],
)


# 2. The KL of two Gaussians ---------------------------------------------------------------


def _gaussian_kl(mu: Tensor, log_sigma: Tensor) -> Tensor:
    return vae.gaussian_kl(mu, log_sigma).sum(-1)


def _kl_inputs(B: int, K: int) -> Inputs:
    return lambda g: (_randn(g, B, K), 0.7 * _randn(g, B, K))


gaussian_kl = close(
    "gaussian_kl",
    _gaussian_kl,
    {"": _kl_inputs(6, 4), "one row": _kl_inputs(1, 3)},
    [
        Mistake(
            lambda mu, s: vae.gaussian_kl(mu, s).mean(-1),
            "right up to a factor of K: independent dimensions add, the KL is their sum",
        ),
        Mistake(
            lambda mu, s: vae.gaussian_kl(mu, s / 2).sum(-1),
            "exp(log_sigma) is the standard deviation; the variance is exp(2 log_sigma)",
        ),
        Mistake(
            lambda mu, s: -vae.gaussian_kl(mu, s).sum(-1),
            "the sign is wrong: a KL is never negative",
        ),
        Mistake(
            lambda mu, s: (((1 + mu**2) * (-2 * s).exp() - 1) / 2 + s).sum(-1),
            "this is KL(p || q): the mean is to be taken under q, the encoder's Gaussian",
        ),
        Mistake(
            lambda mu, s: (vae.gaussian_kl(mu, s) + s).sum(-1),
            "the term - log sigma is missing",
        ),
        Mistake(
            lambda mu, s: 2 * vae.gaussian_kl(mu, s).sum(-1),
            "twice the KL: the bracket has a factor 1/2, and log sigma^2 = 2 log sigma",
        ),
        Mistake(
            lambda mu, s: vae.gaussian_kl(mu, s).sum(-1) / math.log(2),
            "this is in bits; asked for are nats, the natural logarithm",
        ),
    ],
)


# 3. The score-function gradient -----------------------------------------------------------


def _score_function(z: Tensor, f: Tensor, mu: Tensor, log_sigma: Tensor) -> Tensor:
    return (f[:, None] * (z - mu) * torch.exp(-2 * log_sigma)).mean(0)


def _draws(n: int, K: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, ...]:
        mu, log_sigma = _randn(g, K), 0.4 * _randn(g, K)
        z = mu + log_sigma.exp() * _randn(g, n, K)
        return z, 1 + _randn(g, n), mu, log_sigma

    return draw


score_function = close(
    "score_function",
    _score_function,
    {"": _draws(50, 3), "a single draw": _draws(1, 4)},
    [
        Mistake(
            lambda z, f, mu, s: (f[:, None] * (z - mu) * torch.exp(-s)).mean(0),
            "the slope of log q in mu is (z - mu) / sigma^2: divide by the variance",
        ),
        Mistake(
            lambda z, f, mu, s: -_score_function(z, f, mu, s),
            "the sign: log q rises when mu moves towards z",
        ),
        Mistake(
            lambda z, f, mu, s: len(z) * _score_function(z, f, mu, s),
            "this is the sum over the draws; an expectation is their mean",
        ),
        Mistake(
            lambda z, f, mu, s: f.mean() * ((z - mu) * torch.exp(-2 * s)).mean(0),
            "average the product: the mean of f times the mean of the score is about 0",
        ),
        Mistake(
            lambda z, f, mu, s: _score_function(z, f - f.mean(), mu, s),
            "f was changed: a baseline is the next step, here f is taken as it is",
        ),
    ],
    rtol=1e-3,
)


# 4. The bound -----------------------------------------------------------------------------


def _elbo(logits: Tensor, x: Tensor, mu: Tensor, log_sigma: Tensor) -> Tensor:
    log_p = x * logits - torch.nn.functional.softplus(logits)
    return log_p.sum(-1) - _gaussian_kl(mu, log_sigma)


def _elbo_inputs(B: int, D: int, K: int, sure: float = 1.0) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, ...]:
        x = (torch.rand(B, D, generator=g) < 0.5).float()
        logits = 2 * _randn(g, B, D) * sure
        logits[0, :2], x[0, :2] = 3.0 * sure, torch.tensor([0.0, 1.0])  # wrong and right
        return logits, x, _randn(g, B, K), 0.5 * _randn(g, B, K)

    return draw


def _by_probabilities(logits: Tensor, x: Tensor, mu: Tensor, log_sigma: Tensor) -> Tensor:
    p = torch.sigmoid(logits)
    log_p = x * p.log() + (1 - x) * (1 - p).log()
    return log_p.sum(-1) - _gaussian_kl(mu, log_sigma)


def _by_exp(logits: Tensor, x: Tensor, mu: Tensor, log_sigma: Tensor) -> Tensor:
    log_p = x * logits - torch.log(1 + logits.exp())
    return log_p.sum(-1) - _gaussian_kl(mu, log_sigma)


elbo = close(
    "elbo",
    _elbo,
    {
        "": _elbo_inputs(6, 9, 4),
        "one image": _elbo_inputs(1, 5, 3),
        "logits in the hundreds": _elbo_inputs(4, 6, 2, sure=300.0),
    },
    [
        Mistake(
            _by_probabilities,
            "a sure decoder's probabilities round to 0 or 1, and log 0 is -inf: use "
            "softplus of the logits",
        ),
        Mistake(
            _by_exp,
            "exp of a large logit is infinite: log(1 + exp(a)) is softplus(a)",
        ),
        Mistake(
            lambda a, x, mu, s: _elbo(a, x, mu, s) + 2 * _gaussian_kl(mu, s),
            "the KL is a charge: subtract it",
        ),
        Mistake(
            lambda a, x, mu, s: -_elbo(a, x, mu, s), "this is the loss; give the bound"
        ),
        Mistake(
            lambda a, x, mu, s: (
                (_elbo(a, x, mu, s) + _gaussian_kl(mu, s)) / x.shape[1]
                - _gaussian_kl(mu, s)
            ),
            "log p(x | z) of an image is the sum over its pixels; a mean over pixels makes "
            "the KL D times too heavy",
        ),
        Mistake(
            lambda a, x, mu, s: _elbo(a, x, mu, s).mean(),
            "one number per example (B,): the mean over the batch belongs to the loss",
        ),
        Mistake(
            lambda a, x, mu, s: (
                (x * a - torch.log1p(x * a.exp())).sum(-1) - _gaussian_kl(mu, s)
            ),
            "black pixels count too: log(1 - p) = -log(1 + exp(logit))",
        ),
    ],
)


# 5. The importance weighted bound ---------------------------------------------------------


def _iwae_bound(log_w: Tensor) -> Tensor:
    return log_w.logsumexp(0) - math.log(len(log_w))


def _log_weights(k: int, *levels: float) -> Inputs:
    """Log weights of k draws for images at different levels."""
    level = torch.tensor(levels)
    return lambda g: (4 * _randn(g, k, len(levels)) + level,)


def _one_shift(log_w: Tensor) -> Tensor:
    return (log_w - log_w.max()).exp().mean(0).log() + log_w.max()


iwae_bound = close(
    "iwae_bound",
    _iwae_bound,
    {
        "": _log_weights(6, *[-90.0] * 5),
        "a single draw": _log_weights(1, -90, -80),
        "log weights from -4,000 to 900": _log_weights(4, -4000, 900, -90),
    },
    [
        Mistake(
            lambda log_w: log_w.mean(0),
            "this is the ELBO with k draws: average the weights, then take the log",
        ),
        Mistake(
            lambda log_w: log_w.logsumexp(0),
            "this sums the k weights; their average needs - log k",
        ),
        Mistake(
            lambda log_w: log_w.exp().mean(0).log(),
            "exp of a large negative log weight is 0, and log 0 is -inf: use logsumexp",
        ),
        Mistake(
            _one_shift,
            "one shift for the whole batch is too little: each image needs its own",
        ),
        Mistake(
            lambda log_w: log_w.logsumexp(1) - math.log(log_w.shape[1]),
            "average over the draws, the first dimension, not over the batch",
        ),
    ],
)


# 6. One bin of a logistic -----------------------------------------------------------------


def _logistic_bin(x: Tensor, mu: Tensor, log_s: Tensor, levels: int) -> Tensor:
    return binned(x, mu, log_s, levels)


def _bins(n: int, levels: int) -> Inputs:
    """Codes, both ends among them; no probability so small that float32 cancels it."""

    def draw(g: torch.Generator) -> tuple:
        x = torch.randint(levels, (n,), generator=g).float()
        x[:4] = torch.tensor([0.0, levels - 1, 0.0, levels - 1])
        mu, log_s = (levels - 1) * torch.rand(n, generator=g), torch.rand(n, generator=g)
        return x, mu, log_s + math.log(levels / 7), levels

    return draw


def _without_tails(x, mu, log_s, levels):
    F = lambda a: torch.sigmoid((a - mu) * (-log_s).exp())  # noqa: E731
    return (F(x + 0.5) - F(x - 0.5)).log()


def _density_of_a_bin(x, mu, log_s, levels):
    z = (x - mu) * (-log_s).exp()
    return torch.nn.functional.logsigmoid(z) + torch.nn.functional.logsigmoid(-z) - log_s


def _probability(x, mu, log_s, levels):
    return binned(x, mu, log_s, levels).exp()


logistic_bin = close(
    "logistic_bin",
    _logistic_bin,
    {"": _bins(40, 9), "17 grey levels": _bins(30, 17), "black and white": _bins(8, 2)},
    [
        Mistake(
            _without_tails,
            "the first and the last code take the tails: otherwise the sum is below 1",
        ),
        Mistake(
            _density_of_a_bin,
            "this is the density at the code; asked for is the probability of its bin",
        ),
        Mistake(_probability, "this is the probability; asked for is its logarithm"),
        Mistake(
            lambda x, mu, s, n: binned(x, mu, -s, n),
            "divide by s = exp(log_s), not multiply",
        ),
        Mistake(
            lambda x, mu, s, n: binned(x, mu - 0.5, s, n),
            "the bin of code x goes from x - 1/2 to x + 1/2, not from x to x + 1",
        ),
    ],
    rtol=1e-3,
    atol=1e-4,
)
