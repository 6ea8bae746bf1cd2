"""Questions of the unit autoregressive/nade."""

import math

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal

from gdm_course.autoregressive import made, nade
from gdm_course.checks import sample_nade as drawing
from gdm_course.checks.draws import generator
from gdm_course.checks.laws import all_bits
from gdm_course.checks.question import (
    Arrays,
    Ask,
    Inputs,
    Mistake,
    Question,
    close,
    describe,
    remark,
    run,
)


def _bits(g: torch.Generator, *shape: int) -> Tensor:
    return (torch.rand(shape, generator=g) < 0.5).float()


# 1. From conditionals to the density ------------------------------------------------------


def _log_prob_from_conditionals(p: Tensor, x: Tensor) -> Tensor:
    return Bernoulli(p).log_prob(x.to(p.dtype)).sum(-1)


def _conditionals_and_bits(B: int, D: int) -> Inputs:
    return lambda g: (torch.rand(B, D, generator=g) * 0.9 + 0.05, _bits(g, B, D))


log_prob_from_conditionals = close(
    "log_prob_from_conditionals",
    _log_prob_from_conditionals,
    {"": _conditionals_and_bits(7, 5), "one image": _conditionals_and_bits(1, 8)},
    [
        Mistake(
            lambda p, x: Bernoulli(p).log_prob(x).mean(-1),
            "right up to a factor of D: the log of a product is a sum of logs, not a mean",
        ),
        Mistake(
            lambda p, x: p.log().sum(-1),
            "you used p for every pixel; a black pixel (x = 0) has probability 1 - p",
        ),
        Mistake(
            lambda p, x: (x * p.log()).sum(-1),
            "black pixels count too: add (1 - x) log(1 - p)",
        ),
        Mistake(
            lambda p, x: Bernoulli(p).log_prob(x).sum(-1).exp(),
            "this is the probability; asked for is its logarithm, in nats",
        ),
        Mistake(
            lambda p, x: Bernoulli(p).log_prob(x).sum(-1) / math.log(2),
            "this is in bits; asked for are nats, the natural logarithm",
        ),
        Mistake(
            lambda p, x: -Bernoulli(p).log_prob(x).sum(-1),
            "this is the loss, -log p(x); asked for is log p(x), which is negative",
        ),
    ],
)


# 2. The activations of NADE ---------------------------------------------------------------


def _nade_activations(x: Tensor, W: Tensor, c: Tensor) -> Tensor:
    return torch.cat([a for _, a in nade.prefix_activations(x, W, c)], dim=1)


def _inclusive(x: Tensor, W: Tensor, c: Tensor) -> Tensor:
    return c + (x[:, :, None] * W).cumsum(1)


def _activation_inputs(B: int, D: int, H: int) -> Inputs:
    return lambda g: (
        _bits(g, B, D),
        torch.randn(D, H, generator=g),
        torch.randn(H, generator=g),
    )


nade_activations = close(
    "nade_activations",
    _nade_activations,
    {"": _activation_inputs(4, 9, 6), "one image of 3 bits": _activation_inputs(1, 3, 4)},
    [
        Mistake(
            _inclusive,
            "a_d holds x_d itself: the sum runs over k < d, strictly (a model that peeks)",
        ),
        Mistake(
            lambda x, W, c: _nade_activations(x, W, 0 * c),
            "the shared bias c is missing: a_1 = c",
        ),
        Mistake(
            lambda x, W, c: c + x[:, :, None] * W,
            "each a_d holds one term only: sum over all k < d",
        ),
        Mistake(
            lambda x, W, c: _nade_activations(x.flip(1), W.flip(0), c).flip(1),
            "you summed over what comes after d; the past is k < d",
        ),
    ],
)


# 3. Ancestral sampling --------------------------------------------------------------------


sample_nade = Question(
    "sample_nade",
    drawing.sample,
    drawing.asks,
    drawing.judge,
    drawing.mistakes,
    kind="statistical",
)


# 4. A mixture of Gaussians ----------------------------------------------------------------


def _mixture_log_prob(x: Tensor, logits: Tensor, mu: Tensor, log_sigma: Tensor) -> Tensor:
    return nade.gaussian_mixture(torch.cat([logits, mu, log_sigma], -1)).log_prob(x)


def _parts(x, mu, log_sigma):
    return Normal(mu, log_sigma.exp()).log_prob(x[..., None])


def _mixture_inputs(g: torch.Generator, B: int = 6, D: int = 3, K: int = 4) -> tuple:
    draw = lambda *shape: torch.randn(shape, generator=g)  # noqa: E731
    x, scale = 2 * draw(B, D), 0.7 * draw(B, D, K).clamp(-2, 2)
    return x, draw(B, D, K), 2 * draw(B, D, K), scale


def _far_points(g: torch.Generator) -> tuple:
    """Points at a hundred times the largest sigma and more: exp(-5000) is 0 in float64."""
    x, logits, mu, log_sigma = _mixture_inputs(g, 4, 2, 3)
    return (600 + 50 * x.abs()) * x.sign(), logits, mu, log_sigma


def _tiny_weights(g: torch.Generator) -> tuple:
    """Each point sits on a component whose weight is e^-1000, with no other one near."""
    B, D, K = 5, 2, 3
    place = torch.randint(K, (B, D, 1), generator=g)
    mu = 60.0 * torch.arange(K) + torch.randn(B, D, K, generator=g)
    x = mu.gather(-1, place)[..., 0] + torch.randn(B, D, generator=g)
    logits = torch.randn(B, D, K, generator=g).scatter_add(
        -1, place, torch.full((B, D, 1), -1000.0)
    )
    return x, logits, mu, 0.2 * torch.randn(B, D, K, generator=g)


def _naive(x: Tensor, logits: Tensor, mu: Tensor, log_sigma: Tensor) -> Tensor:
    weights = logits.exp() / logits.exp().sum(-1, keepdim=True)
    return (weights * _parts(x, mu, log_sigma).exp()).sum(-1).log()


mixture_log_prob = close(
    "mixture_log_prob",
    _mixture_log_prob,
    {
        "": _mixture_inputs,
        "points far from every mean": _far_points,
        "points on a component of weight e^-1000": _tiny_weights,
    },
    [
        Mistake(
            _naive,
            "right near the means; far from them exp underflows to 0 and its log is -inf: "
            "use logsumexp",
        ),
        Mistake(
            lambda x, a, mu, s: (a.softmax(-1).log() + _parts(x, mu, s)).logsumexp(-1),
            "the weights leave the log domain: a tiny one becomes 0; use log_softmax",
        ),
        Mistake(
            lambda x, a, mu, s: (a + _parts(x, mu, s)).logsumexp(-1),
            "the logits are not log weights yet: normalise them with log_softmax",
        ),
        Mistake(
            lambda x, a, mu, s: (a.log_softmax(-1) + _parts(x, mu, s)).sum(-1),
            "a mixture adds densities, not logs: use logsumexp over the components",
        ),
        Mistake(
            lambda x, a, mu, s: (a.softmax(-1) * _parts(x, mu, s)).sum(-1),
            "this averages log densities; asked for is the log of the average density",
        ),
        Mistake(
            lambda x, a, mu, s: (a.log_softmax(-1) + _parts(x, mu, s / 2)).logsumexp(-1),
            "exp(log_sigma) is the standard deviation, not the variance",
        ),
        Mistake(
            lambda x, a, mu, s: (a.log_softmax(-1) + _parts(x, mu, s) + s).logsumexp(-1),
            "the factor 1 / sigma of the Gaussian density is missing: subtract log_sigma",
        ),
    ],
)


# 5. The masks of MADE ---------------------------------------------------------------------


def _made_masks(inputs: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
    first, last = made.masks([inputs, hidden])
    return first.float(), last.float()


def _degree_inputs(D: int, H: int) -> Inputs:
    return lambda g: (
        torch.randperm(D, generator=g) + 1,
        torch.randint(1, D, (H,), generator=g),
    )


made_masks = close(
    "made_masks",
    _made_masks,
    {"": _degree_inputs(6, 9), "4 inputs": _degree_inputs(4, 7)},
    [
        Mistake(
            lambda m, h: ((h[:, None] >= m).float(), (m[:, None] >= h).float()),
            "outputs need > : with >= output d sees input d itself",
        ),
        Mistake(
            lambda m, h: ((h[:, None] > m).float(), (m[:, None] > h).float()),
            "hidden units need >= : a unit of degree m may look at input m",
        ),
        Mistake(
            lambda m, h: ((m[:, None] <= h).float(), (h[:, None] < m).float()),
            "transposed: a mask has the shape of the weight of nn.Linear, (out, in)",
        ),
        Mistake(
            lambda m, h: ((m <= h[:, None]).float(), (m[:, None] < h).float()),
            "the last comparison is the wrong way round: output d sees lower degrees",
        ),
    ],
)


# 6. An ensemble of orders -----------------------------------------------------------------


def _ensemble_log_prob(log_p: Tensor) -> Tensor:
    return log_p.logsumexp(0) - math.log(len(log_p))


def _log_p(M: int, *levels: float) -> Inputs:
    """Log-probabilities under M orders of images at different levels."""
    level = torch.tensor(levels)
    return lambda g: (torch.randn(M, len(levels), generator=g) * 3 + level,)


def _one_shift(log_p: Tensor) -> Tensor:
    return (log_p - log_p.max()).exp().mean(0).log() + log_p.max()


ensemble_log_prob = close(
    "ensemble_log_prob",
    _ensemble_log_prob,
    {
        "": _log_p(5, *[-90.0] * 8),
        "log-probabilities from -5,000 to 100": _log_p(3, -5000, 100, -90, -2000),
    },
    [
        Mistake(
            lambda log_p: log_p.mean(0),
            "the mean of the logs is only a lower bound (Jensen): average the densities",
        ),
        Mistake(
            lambda log_p: log_p.logsumexp(0),
            "this sums the M densities; their average needs - log M",
        ),
        Mistake(
            lambda log_p: log_p.exp().mean(0).log(),
            "exp(-5000) underflows to 0, and log 0 is -inf: use logsumexp",
        ),
        Mistake(
            _one_shift,
            "one shift for the whole batch is too little: each image needs its own",
        ),
        Mistake(
            lambda log_p: log_p.max(0).values,
            "this keeps the best order only; all M densities count, each with 1 / M",
        ),
    ],
)


# 7. The ancestor of NADE ------------------------------------------------------------------


class _SigmoidBeliefNet(nn.Module):
    def __init__(self, D: int):
        super().__init__()
        self.W = nn.Parameter(torch.zeros(D, D))
        self.b = nn.Parameter(torch.zeros(D))

    def allowed(self) -> Tensor:
        return self.W.tril(-1)

    def log_prob(self, x: Tensor) -> Tensor:
        return Bernoulli(logits=x @ self.allowed().T + self.b).log_prob(x).sum(-1)


class _Peeking(_SigmoidBeliefNet):
    def allowed(self) -> Tensor:
        return self.W.tril()


class _Unmasked(_SigmoidBeliefNet):
    def allowed(self) -> Tensor:
        return self.W


class _Upper(_SigmoidBeliefNet):
    def allowed(self) -> Tensor:
        return self.W.T.tril(-1)


class _WithoutBias(_SigmoidBeliefNet):
    def log_prob(self, x: Tensor) -> Tensor:
        return Bernoulli(logits=x @ self.allowed().T).log_prob(x).sum(-1)


class _Averaged(_SigmoidBeliefNet):
    def log_prob(self, x: Tensor) -> Tensor:
        return super().log_prob(x) / x.shape[-1]


_ABOUT = ("", "images of 3 bits", "the parameter W", "the parameter b")


def _belief_net_asks(seed: int) -> list[Ask]:
    g = generator(seed)
    build, call = [], {"seed": seed, "method": "log_prob"}
    for D in (5, 3):
        state = {"W": torch.randn(D, D, generator=g), "b": torch.randn(D, generator=g)}
        build.append({"init": (D,), "state": state})
    read = {**build[0], "seed": seed, "method": "get_parameter"}
    return [
        Ask(args=(all_bits(5),), **build[0], **call),
        Ask(args=(_bits(g, 6, 3),), **build[1], **call),
        *(Ask(args=(name,), **read) for name in ("W", "b")),
    ]


def _judge_belief_net(asks: list[Ask], answers: list[Arrays]) -> str | None:
    for i, (ask, answer) in enumerate(zip(asks, answers)):
        wanted = run(ask, _SigmoidBeliefNet)
        wrong = describe(answer, wanted, rtol=1e-4, atol=1e-5)
        if wrong and answer[0].shape == wanted[0].shape == (32,):
            total = answer[0].double().exp().sum().item()
            if abs(total - 1) > 1e-3:
                return "the 32 states' probabilities do not sum to 1"
        if wrong:
            return wrong + remark(_ABOUT, i)
    return None


FVSBN = Question(
    "FVSBN",
    _SigmoidBeliefNet,
    _belief_net_asks,
    _judge_belief_net,
    [
        Mistake(_Peeking, "the diagonal of W takes part: x_d helps to guess itself"),
        Mistake(_Unmasked, "all of W takes part: keep what is strictly below the diagonal"),
        Mistake(_Upper, "row d of W belongs to guess d: logits = x @ tril(W, -1).T + b"),
        Mistake(_WithoutBias, "the bias b is missing from the logits"),
        Mistake(_Averaged, "the log of a product of conditionals is their sum, not a mean"),
    ],
    kind="property",
    about=_ABOUT,
)
