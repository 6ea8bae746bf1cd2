"""Questions of the unit autoregressive/wavenet."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from gdm_course.autoregressive import sound, wavenet, wavernn
from gdm_course.checks.question import Inputs, Mistake, close

# 1. Mu-law --------------------------------------------------------------------------------


def _squash(x: Tensor, mu: float) -> Tensor:
    return x.sign() * torch.log1p(mu * x.abs()) / math.log1p(mu)


def _waves(K: int, *shape: int) -> Inputs:
    """Loud and soft samples, none at the edge of a bin, where rounding would decide."""

    def draw(g: torch.Generator) -> tuple[Tensor, int]:
        x = 2 * torch.rand(shape, generator=g) - 1
        x = x * 10 ** -(3 * torch.rand(shape, generator=g))
        place = (_squash(x, K - 1) + 1) * (K / 2)
        inside = (place - place.round()).abs() > 0.02
        x = torch.where(inside, x, torch.full_like(x, 0.3333))
        x[..., :3] = torch.tensor([-1.0, 0.0, 1.0])  # 0 begins the bin K/2, exactly
        return x, K

    return draw


mulaw_encode = close(
    "mulaw_encode",
    sound.mulaw_encode,
    {
        "": _waves(256, 4, 50),
        "16 codes, a single sound": _waves(16, 60),
        "64 codes, sounds in stereo": _waves(64, 3, 2, 20),
    },
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


def _stack(layers: int, width: int) -> Inputs:
    return lambda g: (torch.randint(2, 20, (layers,), generator=g), width)


receptive_field = close(
    "receptive_field",
    _receptive_field,
    {"width 3": _stack(5, 3), "width 2": _stack(3, 2), "one layer": _stack(1, 5)},
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
        Mistake(
            lambda d, width: 1 + (width - 1) * len(d) * int(d.max()),
            "each layer reaches back by its own dilation, not by the largest one",
        ),
    ],
)


# 3. A causal convolution ------------------------------------------------------------------


def _causal_convolution(h: Tensor, W_now: Tensor, W_past: Tensor, d: int) -> Tensor:
    return h @ W_now.T + wavenet.shift(h, d) @ W_past.T


def _sound_and_weights(B: int, T: int, wide: tuple[int, int], d: int) -> Inputs:
    def inputs(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor, int]:
        now, past = torch.randn(2, *wide, generator=g)
        return torch.randn(B, T, wide[1], generator=g), now, past, d

    return inputs


def _from_the_future(h: Tensor, W_now: Tensor, W_past: Tensor, d: int) -> Tensor:
    return h @ W_now.T + F.pad(h, (0, 0, 0, d))[:, d:] @ W_past.T


causal_convolution = close(
    "causal_convolution",
    _causal_convolution,
    {
        "": _sound_and_weights(2, 12, (5, 3), 4),
        "dilation 1": _sound_and_weights(3, 10, (4, 4), 1),
        "a sound shorter than the dilation": _sound_and_weights(1, 5, (2, 3), 7),
    },
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


def _bins(K: int, n: int, low: float, spread: float) -> Inputs:
    """Codes, both ends among them, up to `spread` from the bump, on either side."""

    def draw(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor, int]:
        k = torch.randint(1, K - 1, (n,), generator=g)
        k[:2] = torch.tensor([0, K - 1])
        away = spread * (0.5 + 0.5 * torch.rand(n, generator=g))
        away[::2] *= -1
        mu = (2 * k + 1) / K - 1 + away
        return k, mu, low + 0.5 * torch.rand(n, generator=g), K

    return draw


def _closed(k: Tensor, mu: Tensor, log_s: Tensor, K: int) -> Tensor:
    a, b = _ends(k, mu, log_s, K)
    return sound.log_logistic_interval(a, b, b - a)


def _plain_difference(k: Tensor, mu: Tensor, log_s: Tensor, K: int) -> Tensor:
    a, b = _ends(k, mu, log_s, K)
    b, a = torch.where(k == K - 1, 1e6, b), torch.where(k == 0, -1e6, a)
    return (b.sigmoid() - a.sigmoid()).log()


def _density(k: Tensor, mu: Tensor, log_s: Tensor, K: int) -> Tensor:
    z = sum(_ends(k, mu, log_s, K)) / 2
    return F.logsigmoid(z) + F.logsigmoid(-z) - log_s


logistic_bin = close(
    "logistic_bin",
    _logistic_bin,
    {
        "": _bins(256, 40, -2.0, 0.1),
        "16 codes": _bins(16, 12, -2.0, 0.3),
        "bins far out in the tails": _bins(256, 40, -5.5, 0.9),
    },
    [
        Mistake(
            _plain_difference,
            "right where the bump is, -inf far from it: take the logs of the three factors",
        ),
        Mistake(
            _closed,
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
    rtol=2e-3,
    atol=2e-3,
)


# 5. A gated recurrent unit ----------------------------------------------------------------


def _gates(B: int, H: int) -> Inputs:
    def inputs(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        a, r = 2 * torch.randn(2, B, 3, H, generator=g)
        return a, r, torch.randn(B, H, generator=g)

    return inputs


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
    {"": _gates(4, 6), "one row of 3 units": _gates(1, 3)},
    [
        Mistake(_keeps_the_rest, "u is what is kept: u h + (1 - u) e, not the reverse"),
        Mistake(_resets_all, "s gates what the old state says, r_e, and not the input a_e"),
        Mistake(_without_reset, "the reset gate s is not used: e = tanh(a_e + s * r_e)"),
        Mistake(
            lambda a, r, h: wavernn.gru_update(a[:, [1, 0, 2]], r[:, [1, 0, 2]], h),
            "the order of the parts is update, reset, candidate",
        ),
        Mistake(
            lambda a, r, h: wavernn.gru_update(a, r, torch.zeros_like(h)),
            "the old state is forgotten: u h is kept of it",
        ),
    ],
)


# 6. Two bytes -----------------------------------------------------------------------------


def _two_byte_log_prob(x: Tensor, coarse: Tensor, fine: Tensor) -> Tensor:
    logits = torch.stack([coarse, fine], dim=-2).log_softmax(-1)
    return logits.gather(-1, wavernn.split_code(x)[..., None]).sum((-1, -2, -3))


def _bytes_and_logits(B: int, T: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        x = torch.randint(65_536, (B, T), generator=g)
        coarse, fine = 2 * torch.randn(2, B, T, 256, generator=g)
        return x, coarse, fine

    return draw


def _unnormalised(x: Tensor, coarse: Tensor, fine: Tensor) -> Tensor:
    logits = torch.stack([coarse, fine], dim=-2)
    return logits.gather(-1, wavernn.split_code(x)[..., None]).sum((-1, -2, -3))


two_byte_log_prob = close(
    "two_byte_log_prob",
    _two_byte_log_prob,
    {"": _bytes_and_logits(3, 7), "one sound": _bytes_and_logits(1, 12)},
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
        Mistake(
            lambda x, c, f: _two_byte_log_prob(x, c, f).sum(),
            "you also summed over the batch: return one number per sound, (B,)",
        ),
    ],
)
