"""Questions of the unit autoregressive/nade."""

import itertools
import math

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal

from gdm_course.autoregressive import made, nade
from gdm_course.checks.draws import generator
from gdm_course.checks.question import Arrays, Ask, Mistake, Question, close, describe, run


def _bits(g: torch.Generator, *shape: int) -> Tensor:
    return (torch.rand(shape, generator=g) < 0.5).float()


# 1. From conditionals to the density ------------------------------------------------------


def _log_prob_from_conditionals(p: Tensor, x: Tensor) -> Tensor:
    return Bernoulli(p).log_prob(x.to(p.dtype)).sum(-1)


def _conditionals_and_bits(g: torch.Generator) -> tuple[Tensor, Tensor]:
    p = torch.rand(7, 5, generator=g) * 0.9 + 0.05
    return p, _bits(g, 7, 5)


log_prob_from_conditionals = close(
    "log_prob_from_conditionals",
    _log_prob_from_conditionals,
    _conditionals_and_bits,
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
    ],
)


# 2. The activations of NADE ---------------------------------------------------------------


def _nade_activations(x: Tensor, W: Tensor, c: Tensor) -> Tensor:
    return torch.cat([a for _, a in nade.prefix_activations(x, W, c)], dim=1)


def _inclusive(x: Tensor, W: Tensor, c: Tensor) -> Tensor:
    return c + (x[:, :, None] * W).cumsum(1)


def _activation_inputs(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    return _bits(g, 4, 9), torch.randn(9, 6, generator=g), torch.randn(6, generator=g)


nade_activations = close(
    "nade_activations",
    _nade_activations,
    _activation_inputs,
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


def _sample_nade(W: Tensor, V: Tensor, b: Tensor, c: Tensor, n: int) -> Tensor:
    model = _nade_with(W, V, b, c)
    return model.sample(n)


def _nade_with(W: Tensor, V: Tensor, b: Tensor, c: Tensor) -> nade.NADE:
    model = nade.NADE(len(W), hidden=W.shape[1]).to(W.dtype)
    model.load_state_dict({"W": W, "V": V, "c": c, "b": b})
    return model


def _sampling_asks(seed: int) -> list[Ask]:
    """Four models of 3 bits, with weights so large that forgetting one shows."""
    g = generator(seed)
    asks = []
    for i in range(4):
        W, V = 4 * torch.randn(3, 8, generator=g), 2 * torch.randn(3, 8, generator=g)
        b, c = -V.sum(1) / 2, torch.randn(8, generator=g)  # guesses near one half
        asks.append(Ask(args=(W, V, b, c, 10_000), seed=seed + i))
    return asks


def _judge_sampling(asks: list[Ask], answers: list[Arrays]) -> str | None:
    states = torch.tensor(list(itertools.product([0.0, 1.0], repeat=3)))
    for ask, answer in zip(asks, answers):
        *weights, n = ask.args
        if wrong := _not_bits(answer, n, 3):
            return wrong
        p = _nade_with(*weights).log_prob(states).exp().detach().double()
        codes = (answer[0].double() @ torch.tensor([4.0, 2.0, 1.0]).double()).long()
        frequency = codes.bincount(minlength=8).double() / n
        # 6 sigma of a binomial, plus a few counts for states that hardly ever come
        allowed = 6 * (p * (1 - p) / n).sqrt() + 12 / n
        if ((frequency - p).abs() > allowed).any():
            return "the 8 states do not come as often as the model's density says"
    return None


def _not_bits(answer: Arrays, n: int, D: int) -> str | None:
    if len(answer) != 1 or answer[0].shape != (n, D):
        return f"expected one tensor of shape ({n}, {D})"
    if not ((answer[0] == 0) | (answer[0] == 1)).all():
        return "samples are bits: every entry must be 0 or 1"
    return None


def _most_likely(W, V, b, c, n):
    a, x = c.expand(n, -1), []
    for W_d, V_d, b_d in zip(W, V, b):
        x.append((torch.sigmoid(torch.sigmoid(a) @ V_d + b_d) > 0.5).float())
        a = a + x[-1][:, None] * W_d
    return torch.stack(x, 1)


def _without_memory(W, V, b, c, n):
    return torch.sigmoid(b + V @ torch.sigmoid(c)).expand(n, -1).bernoulli()


def _fed_with_probabilities(W, V, b, c, n):
    a, x = c.expand(n, -1), []
    for W_d, V_d, b_d in zip(W, V, b):
        p = torch.sigmoid(torch.sigmoid(a) @ V_d + b_d)
        x.append(p.bernoulli())
        a = a + p[:, None] * W_d
    return torch.stack(x, 1)


sample_nade = Question(
    "sample_nade",
    _sample_nade,
    _sampling_asks,
    _judge_sampling,
    [
        Mistake(
            _most_likely, "you took the likelier bit each time; draw it: torch.bernoulli"
        ),
        Mistake(
            _without_memory, "the drawn bit must change the next guess: a <- a + x_d W_d"
        ),
        Mistake(_fed_with_probabilities, "feed the drawn bit back, not its probability"),
    ],
    kind="statistical",
)


# 4. A mixture of Gaussians ----------------------------------------------------------------


def _mixture_log_prob(x: Tensor, logits: Tensor, mu: Tensor, log_sigma: Tensor) -> Tensor:
    return nade.gaussian_mixture(torch.cat([logits, mu, log_sigma], -1)).log_prob(x)


def _parts(x, mu, log_sigma):
    return Normal(mu, log_sigma.exp()).log_prob(x[..., None])


def _mixture_inputs(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    draw = lambda *shape: torch.randn(shape, generator=g)  # noqa: E731
    return 2 * draw(6, 3), draw(6, 3, 4), 2 * draw(6, 3, 4), 0.7 * draw(6, 3, 4)


mixture_log_prob = close(
    "mixture_log_prob",
    _mixture_log_prob,
    _mixture_inputs,
    [
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


def _degree_inputs(g: torch.Generator) -> tuple[Tensor, Tensor]:
    inputs = torch.randperm(6, generator=g) + 1
    return inputs, torch.randint(1, 6, (9,), generator=g).sort().values


made_masks = close(
    "made_masks",
    _made_masks,
    _degree_inputs,
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


ensemble_log_prob = close(
    "ensemble_log_prob",
    _ensemble_log_prob,
    lambda g: (torch.randn(5, 8, generator=g) * 3 - 300,),
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
            "exp(-300) underflows to 0, and log 0 is -inf: use logsumexp",
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


def _belief_net_asks(seed: int) -> list[Ask]:
    g = generator(seed)
    D = 5
    state = {"W": torch.randn(D, D, generator=g), "b": torch.randn(D, generator=g)}
    states = torch.tensor(list(itertools.product([0.0, 1.0], repeat=D)))
    ask = {"seed": seed, "init": (D,), "state": state, "method": "log_prob"}
    return [Ask(args=(states,), **ask), Ask(args=(_bits(g, 6, D),), **ask)]


def _judge_belief_net(asks: list[Ask], answers: list[Arrays]) -> str | None:
    for ask, answer in zip(asks, answers):
        wanted = run(ask, _SigmoidBeliefNet)
        wrong = describe(answer, wanted, rtol=1e-4, atol=1e-5)
        if wrong and answer[0].shape == wanted[0].shape == (32,):
            total = answer[0].double().exp().sum().item()
            return (
                wrong
                if abs(total - 1) < 1e-3
                else "the 32 states' probabilities do not sum to 1"
            )
        if wrong:
            return wrong
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
    ],
    kind="property",
)
