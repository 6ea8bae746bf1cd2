"""Questions of the unit autoregressive/wavenet."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from gdm_course.autoregressive import sound, wavenet, wavernn
from gdm_course.checks.compare import describe
from gdm_course.checks.draws import generator
from gdm_course.checks.question import Arrays, Ask, Mistake, Question, close

# 1. Mu-law --------------------------------------------------------------------------------


def _squash(x: Tensor, mu: float) -> Tensor:
    return x.sign() * torch.log1p(mu * x.abs()) / math.log1p(mu)


def _waves(g: torch.Generator) -> tuple[Tensor, int]:
    """Loud and soft samples, none at the edge of a bin, where rounding would decide."""
    K = int(torch.tensor([64, 128, 256])[torch.randint(3, (), generator=g)])
    x = 2 * torch.rand(4, 50, generator=g) - 1
    x = x * 10 ** -(3 * torch.rand(4, 50, generator=g))
    place = (_squash(x, K - 1) + 1) * (K / 2)
    inside = ((place - place.round()).abs() > 0.02) | (place.round() % K == 0)
    x = torch.where(inside, x, torch.full_like(x, 0.3333))
    return torch.cat([x, torch.tensor([[-1.0, 1.0]]).repeat(4, 25)], dim=1), K


mulaw_encode = close(
    "mulaw_encode",
    sound.mulaw_encode,
    _waves,
    [
        Mistake(
            lambda x, K: sound.linear_encode(x, K),
            "these are equal bins of x: bend the axis by F first",
        ),
        Mistake(
            lambda x, K: (
                ((torch.log1p((K - 1) * x.abs()) / math.log(K) + 1) * K / 2)
                .long()
                .clamp(0, K - 1)
            ),
            "the sign is lost: F(-x) = -F(x)",
        ),
        Mistake(
            lambda x, K: ((_squash(x, K - 1) + 1) * K / 2).floor().long(),
            "x = 1 gets the code K, which does not exist: clamp to 0..K-1",
        ),
        Mistake(
            lambda x, K: ((_squash(x, K - 1) + 1) * K / 2).round().long().clamp(0, K - 1),
            "rounding shifts the bins by half a bin: floor, and silence is K/2",
        ),
        Mistake(
            lambda x, K: sound.linear_encode(_squash(x, K), K),
            "mu is K - 1, not K",
        ),
    ],
)


# 2. The receptive field -------------------------------------------------------------------


def _receptive_field(dilations: Tensor, width: int) -> int:
    return 1 + (width - 1) * int(dilations.sum())


def _stack_inputs(g: torch.Generator) -> tuple[Tensor, int]:
    dilations = torch.randint(
        1, 20, (int(torch.randint(2, 7, (), generator=g)),), generator=g
    )
    return dilations, int(torch.randint(3, 6, (), generator=g))


receptive_field = close(
    "receptive_field",
    _receptive_field,
    _stack_inputs,
    [
        Mistake(
            lambda d, width: (width - 1) * int(d.sum()),
            "the present input counts too: add 1",
        ),
        Mistake(
            lambda d, width: 1 + int(d.sum()),
            "right for width 2 only: a layer of width w reaches back (w - 1) d",
        ),
        Mistake(
            lambda d, width: 1 + width * int(d.sum()),
            "a layer of width w reaches back (w - 1) d steps, not w d",
        ),
        Mistake(
            lambda d, width: 1 + (width - 1) * int(d.prod()),
            "the reaches of the layers add up, they do not multiply",
        ),
    ],
)


# 3. A causal convolution ------------------------------------------------------------------


def _causal_convolution(h: Tensor, W_now: Tensor, W_past: Tensor, d: int) -> Tensor:
    return h @ W_now.T + wavenet.shift(h, d) @ W_past.T


def _sound_and_weights(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor, int]:
    draw = lambda *shape: torch.randn(shape, generator=g)  # noqa: E731
    return draw(2, 12, 3), draw(5, 3), draw(5, 3), int(torch.randint(2, 9, (), generator=g))


def _from_the_future(h: Tensor, W_now: Tensor, W_past: Tensor, d: int) -> Tensor:
    return h @ W_now.T + F.pad(h, (0, 0, 0, d))[:, d:] @ W_past.T


causal_convolution = close(
    "causal_convolution",
    _causal_convolution,
    _sound_and_weights,
    [
        Mistake(
            _from_the_future,
            "this looks d steps ahead: h_{t-d} has to arrive at t, so pad in front",
        ),
        Mistake(
            lambda h, now, past, d: h @ now.T + h.roll(d, dims=1) @ past.T,
            "roll lets the end of the sound come in at the front: pad with zeros",
        ),
        Mistake(
            lambda h, now, past, d: h @ past.T + wavenet.shift(h, d) @ now.T,
            "the two matrices are exchanged: W_now sees h_t",
        ),
        Mistake(
            lambda h, now, past, d: h @ now.T + wavenet.shift(h, 1) @ past.T,
            "the delay is d, not 1",
        ),
        Mistake(
            lambda h, now, past, d: h @ now.T + wavenet.shift(h, d - 1) @ past.T,
            "one step too few: the first d outputs see zeros in place of the past",
        ),
    ],
)


# 4. The mass of a bin ---------------------------------------------------------------------


def _logistic_bin(k: Tensor, mu: Tensor, log_s: Tensor, K: int) -> Tensor:
    return sound.log_logistic_interval(*sound.edges(k, mu, log_s, K))


def _ends(k: Tensor, mu: Tensor, log_s: Tensor, K: int) -> tuple[Tensor, Tensor]:
    a = (2 * k.to(mu) / K - 1 - mu) * torch.exp(-log_s)
    return a, a + 2 / K * torch.exp(-log_s)


def _bin_asks(seed: int) -> list[Ask]:
    """Codes near the middle of the bump, both ends, and codes far out in the tails."""
    g, asks = generator(seed), []
    for spread, low in ((0.1, -2.0), (0.6, -3.0), (0.6, -5.0)):
        k = torch.randint(1, 255, (40,), generator=g)
        k[:2] = torch.tensor([0, 255])
        mu = ((2 * k + 1) / 256 - 1) + spread * (torch.rand(40, generator=g) * 2 - 1)
        log_s = low + 0.5 * torch.rand(40, generator=g)
        asks.append(Ask(args=(k, mu, log_s, 256), seed=seed))
    return asks


def _judge_bins(asks: list[Ask], answers: list[Arrays]) -> str | None:
    for ask, answer in zip(asks, answers):
        k, mu, log_s, K = ask.args
        wanted = (_logistic_bin(k, mu.double(), log_s.double(), K),)
        if wrong := describe(answer, wanted, rtol=2e-3, atol=2e-3):
            return wrong
    return None


def _plain_difference(k: Tensor, mu: Tensor, log_s: Tensor, K: int) -> Tensor:
    a, b = _ends(k, mu, log_s, K)
    b, a = torch.where(k == K - 1, 1e6, b), torch.where(k == 0, -1e6, a)
    return (b.sigmoid() - a.sigmoid()).log()


def _density(k: Tensor, mu: Tensor, log_s: Tensor, K: int) -> Tensor:
    z = sum(_ends(k, mu, log_s, K)) / 2
    return F.logsigmoid(z) + F.logsigmoid(-z) - log_s


logistic_bin = Question(
    "logistic_bin",
    _logistic_bin,
    _bin_asks,
    _judge_bins,
    [
        Mistake(
            _plain_difference,
            "right where the bump is, -inf far from it: take the logs of the three factors",
        ),
        Mistake(
            lambda k, mu, log_s, K: sound.log_logistic_interval(*_ends(k, mu, log_s, K)),
            "the first and the last bin are open: they reach to -inf and to +inf",
        ),
        Mistake(
            _density,
            "this is the log density at the middle; asked for is the mass of the bin",
        ),
        Mistake(
            lambda k, mu, log_s, K: _logistic_bin(k, mu, log_s, K).exp(),
            "this is the probability; asked for is its logarithm, in nats",
        ),
        Mistake(
            lambda k, mu, log_s, K: _logistic_bin(k, mu, log_s / 2, K),
            "s = exp(log_s): divide by s itself, not by its root",
        ),
    ],
)


# 5. A gated recurrent unit ----------------------------------------------------------------


def _gates(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    draw = lambda *shape: torch.randn(shape, generator=g)  # noqa: E731
    return 2 * draw(4, 3, 6), 2 * draw(4, 3, 6), draw(4, 6)


def _keeps_the_rest(a: Tensor, r: Tensor, h: Tensor) -> Tensor:
    u, s = torch.sigmoid(a[:, :2] + r[:, :2]).unbind(1)
    return (1 - u) * h + u * torch.tanh(a[:, 2] + s * r[:, 2])


def _resets_all(a: Tensor, r: Tensor, h: Tensor) -> Tensor:
    u, s = torch.sigmoid(a[:, :2] + r[:, :2]).unbind(1)
    return u * h + (1 - u) * torch.tanh(s * (a[:, 2] + r[:, 2]))


def _without_reset(a: Tensor, r: Tensor, h: Tensor) -> Tensor:
    u = torch.sigmoid(a[:, 0] + r[:, 0])
    return u * h + (1 - u) * torch.tanh(a[:, 2] + r[:, 2])


gru_step = close(
    "gru_step",
    wavernn.gru_update,
    _gates,
    [
        Mistake(_keeps_the_rest, "u is what is kept: u h + (1 - u) e, not the reverse"),
        Mistake(_resets_all, "s gates what the old state says, r_e, and not the input a_e"),
        Mistake(_without_reset, "the reset gate s is not used: e = tanh(a_e + s * r_e)"),
        Mistake(
            lambda a, r, h: wavernn.gru_update(a[:, [1, 0, 2]], r[:, [1, 0, 2]], h),
            "the order of the parts is update, reset, candidate",
        ),
    ],
)


# 6. Two bytes -----------------------------------------------------------------------------


def _two_byte_log_prob(x: Tensor, coarse: Tensor, fine: Tensor) -> Tensor:
    logits = torch.stack([coarse, fine], dim=-2).log_softmax(-1)
    return logits.gather(-1, wavernn.split_code(x)[..., None]).sum((-1, -2, -3))


def _bytes_and_logits(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    x = torch.randint(65_536, (3, 7), generator=g)
    coarse, fine = 2 * torch.randn(2, 3, 7, 256, generator=g)
    return x, coarse, fine


def _unnormalised(x: Tensor, coarse: Tensor, fine: Tensor) -> Tensor:
    logits = torch.stack([coarse, fine], dim=-2)
    return logits.gather(-1, wavernn.split_code(x)[..., None]).sum((-1, -2, -3))


two_byte_log_prob = close(
    "two_byte_log_prob",
    _two_byte_log_prob,
    _bytes_and_logits,
    [
        Mistake(_unnormalised, "logits are not log-probabilities yet: log_softmax"),
        Mistake(
            lambda x, c, f: _two_byte_log_prob(x, f, c),
            "the bytes are exchanged: coarse is x // 256, fine is x % 256",
        ),
        Mistake(
            lambda x, c, f: _two_byte_log_prob(x, c, f) / 2,
            "both bytes count in full: the log of a product is a sum, not a mean",
        ),
        Mistake(
            lambda x, c, f: _two_byte_log_prob(x, c, f) / x.shape[1],
            "the sound's log-probability sums over time; this is the mean per sample",
        ),
        Mistake(
            lambda x, c, f: _two_byte_log_prob(x, c, f) / math.log(2),
            "these are bits; asked for are nats",
        ),
    ],
)
