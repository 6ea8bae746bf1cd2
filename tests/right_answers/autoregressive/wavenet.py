"""autoregressive/wavenet: right answers in other styles, and what its text demands."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch.distributions import Categorical


def mulaw_encode_loop(x, K):
    codes = []
    for one in x.flatten().tolist():
        size = math.log(1 + (K - 1) * abs(one)) / math.log(K)
        codes.append(min(K - 1, math.floor((math.copysign(size, one) + 1) * K / 2)))
    return torch.tensor(codes).view(x.shape)


def mulaw_encode_torch(x, K):
    """Look the sample up among the edges of the bins."""
    ends = torch.linspace(-1, 1, K + 1, dtype=torch.float64)
    ends = ends.sign() * torch.expm1(ends.abs() * math.log(K)) / (K - 1)
    return torch.bucketize(x.double(), ends[1:-1], right=True)


def mulaw_encode_numpy(x, K):
    x = x.numpy()
    f = np.sign(x) * np.log1p((K - 1) * np.abs(x)) / np.log(K)
    return np.clip(np.floor(K / 2 * (f + 1)), 0, K - 1).astype(int)


def receptive_field_loop(dilations, width):
    seen = {0}
    for d in dilations:
        seen = {t + i * int(d) for t in seen for i in (0, width - 1)}
    return max(seen) - min(seen) + 1


def receptive_field_torch(dilations, width):
    return dilations.sum().mul(width - 1).add(1)


def receptive_field_numpy(dilations, width):
    return np.sum((width - 1) * dilations.numpy()) + 1


def causal_convolution_loop(h, W_now, W_past, d):
    out = torch.zeros(*h.shape[:2], len(W_now))
    for b in range(h.shape[0]):
        for t in range(h.shape[1]):
            out[b, t] = W_now @ h[b, t] + (W_past @ h[b, t - d] if t >= d else 0)
    return out


def causal_convolution_torch(h, W_now, W_past, d):
    kernel = torch.stack([W_past, W_now], dim=-1)  # (C', C, 2)
    return F.conv1d(F.pad(h.mT, (d, 0)), kernel, dilation=d).mT


def causal_convolution_numpy(h, W_now, W_past, d):
    h = h.numpy()
    before = np.zeros_like(h)
    before[:, d:] = h[:, : max(0, h.shape[1] - d)]
    return h @ W_now.numpy().T + before @ W_past.numpy().T


def logistic_bin_loop(k, mu, log_s, K):
    def log_sigmoid(a):
        return -math.log1p(math.exp(-a)) if a > 0 else a - math.log1p(math.exp(a))

    out = []
    for code, m, log_scale in zip(k.tolist(), mu.tolist(), log_s.tolist()):
        s = math.exp(log_scale)
        a, b = (2 * code / K - 1 - m) / s, (2 * (code + 1) / K - 1 - m) / s
        if code == 0:
            out.append(log_sigmoid(b))
        elif code == K - 1:
            out.append(log_sigmoid(-a))
        else:
            out.append(log_sigmoid(b) + log_sigmoid(-a) + math.log(-math.expm1(a - b)))
    return torch.tensor(out)


def logistic_bin_torch(k, mu, log_s, K):
    s = log_s.exp()
    a, width = ((2 * k / K - 1) - mu) / s, 2 / K / s
    inside = -F.softplus(-a - width) - F.softplus(a) + torch.log(-torch.expm1(-width))
    inside = inside.where(k > 0, F.logsigmoid(a + width))
    return inside.where(k < K - 1, F.logsigmoid(-a))


def logistic_bin_numpy(k, mu, log_s, K):
    k, mu, s = k.numpy(), mu.double().numpy(), np.exp(log_s.double().numpy())
    log_sigmoid = lambda z: -np.logaddexp(0, -z)  # noqa: E731
    a, b = (2 * k / K - 1 - mu) / s, (2 * (k + 1) / K - 1 - mu) / s
    upper = np.where(k == K - 1, 0, log_sigmoid(b))
    lower = np.where(k == 0, 0, log_sigmoid(-a))
    ends = (k == 0) | (k == K - 1)
    return upper + lower + np.where(ends, 0, np.log(-np.expm1(a - b)))


def gru_step_loop(a, r, h):
    sigmoid = lambda x: 1 / (1 + math.exp(-x))  # noqa: E731
    new = torch.empty_like(h)
    for b in range(h.shape[0]):
        for i in range(h.shape[1]):
            u, s = (sigmoid(a[b, part, i] + r[b, part, i]) for part in (0, 1))
            e = math.tanh(a[b, 2, i] + s * r[b, 2, i])
            new[b, i] = u * h[b, i] + (1 - u) * e
    return new


def gru_step_torch(a, r, h):
    (a_u, a_s, a_e), (r_u, r_s, r_e) = a.unbind(1), r.unbind(1)
    e = torch.addcmul(a_e, (a_s + r_s).sigmoid(), r_e).tanh()
    return torch.lerp(e, h, (a_u + r_u).sigmoid())


def gru_step_numpy(a, r, h):
    a, r, h = a.numpy(), r.numpy(), h.numpy()
    u, s = np.moveaxis(1 / (1 + np.exp(-a[:, :2] - r[:, :2])), 1, 0)
    return u * h + (1 - u) * np.tanh(a[:, 2] + s * r[:, 2])


def two_byte_log_prob_loop(x, coarse, fine):
    out = []
    for b in range(len(x)):
        total = 0.0
        for t, code in enumerate(x[b].tolist()):
            c, f = divmod(code, 256)
            total += coarse[b, t, c] - torch.logsumexp(coarse[b, t], 0)
            total += fine[b, t, f] - torch.logsumexp(fine[b, t], 0)
        out.append(total)
    return out


def two_byte_log_prob_torch(x, coarse, fine):
    high = Categorical(logits=coarse).log_prob(x >> 8)
    return (high + Categorical(logits=fine).log_prob(x & 255)).sum(dim=1)


def two_byte_log_prob_numpy(x, coarse, fine):
    x, total = x.numpy(), 0
    for logits, byte in ((coarse.numpy(), x // 256), (fine.numpy(), x % 256)):
        log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        total = total + np.take_along_axis(log_p, byte[..., None], -1)[..., 0].sum(1)
    return total


def cut_and_pad(h, W_now, W_past, d):
    """Wrong where nothing is left to cut: d zeros are more than the sound is long."""
    before = torch.cat([torch.zeros(len(h), d, h.shape[2]), h[:, :-d]], 1)
    return h @ W_now.T + before @ W_past.T


def only_two_axes(x, K):
    return mulaw_encode_loop(x, K).view(len(x), -1)


FIXED = {
    "mulaw_encode": {(0, 2)},  # one of the shapes has three axes
    "gru_step": {(0, 1), (1, 1)},  # update, reset, candidate
    "two_byte_log_prob": {(1, 2), (2, 2)},  # a byte has 256 values
}
DEMANDS = {
    "mulaw_encode": {
        "where does $x=1$ go": "x = 1 gets the code K",
        "any shape": only_two_axes,
    },
    "receptive_field": {
        "Let the width be $w$": "right for width 2 only",
        "How long is the window of the whole stack": "the present input counts too",
    },
    "causal_convolution": {
        "before the sound": "roll lets the end of the sound come in",
        "the dilation, at least 1": "the delay is d, not 1",
        "A sound may be shorter than $d$": cut_and_pad,
    },
    "logistic_bin": {
        "far out in the tails": "right where the bump is",
        "the first code everything below as well": "the first and the last bin are open",
    },
    "gru_step": {"in the order update, reset, candidate": "the order of the parts"},
    "two_byte_log_prob": {
        "the log probability of a whole sound": "the sound's log-probability sums",
        "two rows of 256 logits": "logits are not log-probabilities",
        "in nats": "these are bits",
    },
}
