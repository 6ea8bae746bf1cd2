"""Questions of the unit vae/vae."""

import math

import torch
from torch import Tensor
from torch.distributions import Normal

from gdm_course.checks.draws import generator
from gdm_course.checks.question import Arrays, Ask, Mistake, Question, close
from gdm_course.vae import vae
from gdm_course.vae.decoders import logistic_bin as binned
from gdm_course.vae.mixture import Mixture


def _randn(g: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=g)


# 1. The posterior of a mixture ------------------------------------------------------------


def _responsibilities(x: Tensor, log_pi: Tensor, mu: Tensor, log_sigma: Tensor) -> Tensor:
    return Mixture(log_pi, mu, log_sigma).posterior(x)


def _mixture_inputs(g: torch.Generator) -> tuple[Tensor, ...]:
    log_pi = _randn(g, 3).log_softmax(0)
    return 2 * _randn(g, 7, 2), log_pi, 2 * _randn(g, 3, 2), 0.4 * _randn(g, 3)


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
    _mixture_inputs,
    [
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


def _kl_inputs(g: torch.Generator) -> tuple[Tensor, Tensor]:
    return _randn(g, 6, 4), 0.7 * _randn(g, 6, 4)


gaussian_kl = close(
    "gaussian_kl",
    _gaussian_kl,
    _kl_inputs,
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
    ],
)


# 3. The score-function gradient -----------------------------------------------------------


def _score_function(z: Tensor, f: Tensor, mu: Tensor, log_sigma: Tensor) -> Tensor:
    return (f[:, None] * (z - mu) * torch.exp(-2 * log_sigma)).mean(0)


def _score_asks(seed: int) -> list[Ask]:
    g = generator(seed)
    asks = []
    for i in range(3):
        mu, log_sigma = _randn(g, 3), 0.4 * _randn(g, 3)
        z = mu + log_sigma.exp() * _randn(g, 50, 3)
        asks.append(Ask(args=(z, _randn(g, 50), mu, log_sigma), seed=seed + i))
    return asks


def _judge_score(asks: list[Ask], answers: list[Arrays]) -> str | None:
    for ask, answer in zip(asks, answers):
        z, f, mu, log_sigma = (a.double() for a in ask.args)
        mu = mu.requires_grad_()
        log_q = Normal(mu, log_sigma.exp()).log_prob(z).sum(-1)
        (wanted,) = torch.autograd.grad((f * log_q).mean(), mu)
        if len(answer) != 1 or answer[0].shape != wanted.shape:
            return f"expected one tensor of shape {tuple(wanted.shape)}"
        if not torch.allclose(answer[0].double(), wanted, rtol=1e-3, atol=1e-5):
            return "it is not the mean of f(z) times the gradient of log q(z) in mu"
    return None


score_function = Question(
    "score_function",
    _score_function,
    _score_asks,
    _judge_score,
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
    ],
)


# 4. The bound -----------------------------------------------------------------------------


def _elbo(logits: Tensor, x: Tensor, mu: Tensor, log_sigma: Tensor) -> Tensor:
    log_p = x * logits - torch.nn.functional.softplus(logits)
    return log_p.sum(-1) - _gaussian_kl(mu, log_sigma)


def _elbo_inputs(g: torch.Generator) -> tuple[Tensor, ...]:
    x = (torch.rand(6, 9, generator=g) < 0.5).float()
    return 2 * _randn(g, 6, 9), x, _randn(g, 6, 4), 0.5 * _randn(g, 6, 4)


elbo = close(
    "elbo",
    _elbo,
    _elbo_inputs,
    [
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


iwae_bound = close(
    "iwae_bound",
    _iwae_bound,
    lambda g: (4 * _randn(g, 6, 5) - 300,),
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
            "exp(-300) underflows to 0, and log 0 is -inf: use logsumexp",
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


def _bin_inputs(g: torch.Generator) -> tuple:
    """Codes, both ends among them; no probability so small that float32 cancels it."""
    x = torch.randint(9, (40,), generator=g).float()
    x[:4] = torch.tensor([0.0, 8.0, 0.0, 8.0])
    mu, log_s = 8 * torch.rand(40, generator=g), torch.rand(40, generator=g)
    return x, mu, log_s + 0.3, 9


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
    _bin_inputs,
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
    ],
    rtol=1e-3,
    atol=1e-4,
)
