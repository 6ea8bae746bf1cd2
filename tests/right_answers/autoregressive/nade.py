"""autoregressive/nade: right answers in other styles, and what its text demands."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Categorical, MixtureSameFamily, Normal


def log_prob_from_conditionals_loop(p, x):
    log_p = torch.zeros(len(p))
    for i in range(len(p)):
        for d in range(p.shape[1]):
            chance = p[i, d] if x[i, d] == 1 else 1 - p[i, d]
            log_p[i] += math.log(chance)
    return log_p


def log_prob_from_conditionals_torch(p, x):
    return -F.binary_cross_entropy(p, x, reduction="none").sum(dim=1)


def log_prob_from_conditionals_numpy(p, x):
    p, x = p.numpy(), x.numpy()
    return np.log(np.where(x == 1, p, 1 - p)).sum(1)


class FVSBN_loop(nn.Module):
    def __init__(self, D):
        super().__init__()
        self.W, self.b = nn.Parameter(torch.randn(D, D)), nn.Parameter(torch.randn(D))

    def log_prob(self, x):
        log_p = 0
        for d in range(x.shape[1]):
            p = torch.sigmoid(self.b[d] + x[:, :d] @ self.W[d, :d])
            log_p = log_p + torch.where(x[:, d] == 1, p, 1 - p).log()
        return log_p


class FVSBN_torch(nn.Module):
    def __init__(self, D):
        super().__init__()
        self.W = nn.Parameter(torch.empty(D, D).normal_())
        self.b = nn.Parameter(torch.empty(D).normal_())
        self.allowed = torch.ones(D, D).tril(-1)

    def log_prob(self, x):
        logits = F.linear(x, self.W * self.allowed, self.b)
        return -F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)


class FVSBN_numpy(FVSBN_loop):
    def log_prob(self, x):
        W, b, x = self.W.detach().numpy(), self.b.detach().numpy(), x.numpy()
        a = x @ np.tril(W, -1).T + b
        return (x * a - np.logaddexp(0, a)).sum(1)


def nade_activations_loop(x, W, c):
    rows = []
    for one in x:
        a, row = c.clone(), []
        for d in range(len(W)):
            row.append(a)
            a = a + one[d] * W[d]
        rows.append(torch.stack(row))
    return torch.stack(rows)


def nade_activations_torch(x, W, c):
    before = torch.ones(len(W), len(W)).tril(-1)
    return c + torch.einsum("bk,dk,kh->bdh", x, before, W)


def nade_activations_numpy(x, W, c):
    terms = x.numpy()[:, :, None] * W.numpy()
    return c.numpy() + np.cumsum(terms, 1) - terms


def sample_nade_loop(W, V, b, c, n):
    D, x = len(W), torch.zeros(n, len(W))
    for d in range(D):
        h = torch.sigmoid(c + x[:, :d] @ W[:d])
        p = torch.sigmoid(b[d] + h @ V[d])
        x[:, d] = (torch.rand(n) < p).float()
    return x


def sample_nade_torch(W, V, b, c, n):
    x = W.new_zeros(n, len(W))
    a = c.repeat(n, 1)
    for d, (row, out) in enumerate(zip(W, V)):
        logit = F.linear(a.sigmoid(), out[None], b[d, None]).squeeze(1)
        x[:, d] = torch.distributions.Bernoulli(logits=logit).sample()
        a = torch.addr(a, x[:, d], row)
    return x.long()


def sample_nade_numpy(W, V, b, c, n):
    chance = np.random.default_rng(int(torch.randint(2**31, ())))
    W, V, b, c = (t.numpy() for t in (W, V, b, c))
    x = np.zeros((n, len(W)))
    for d in range(len(W)):
        h = 1 / (1 + np.exp(-(c + x @ W)))  # what is not drawn yet is 0
        x[:, d] = chance.random(n) < 1 / (1 + np.exp(-(b[d] + h @ V[d])))
    return x


def mixture_log_prob_loop(x, logits, mu, log_sigma):
    out = torch.empty(x.shape)
    for i in range(x.shape[0]):
        for d in range(x.shape[1]):
            a = logits[i, d] - torch.logsumexp(logits[i, d], 0)
            terms = [
                a[k] + Normal(mu[i, d, k], log_sigma[i, d, k].exp()).log_prob(x[i, d])
                for k in range(len(a))
            ]
            best = max(terms)
            out[i, d] = best + sum((t - best).exp() for t in terms).log()
    return out


def mixture_log_prob_torch(x, logits, mu, log_sigma):
    parts = Normal(mu, log_sigma.exp())
    return MixtureSameFamily(Categorical(logits=logits), parts).log_prob(x)


def mixture_log_prob_numpy(x, logits, mu, log_sigma):
    x, a, mu, s = (t.numpy() for t in (x, logits, mu, log_sigma))
    a = a - np.logaddexp.reduce(a, axis=-1, keepdims=True)
    z = (x[..., None] - mu) / np.exp(s)
    parts = a - z**2 / 2 - s - 0.5 * np.log(2 * np.pi)
    return np.logaddexp.reduce(parts, axis=-1).tolist()


def made_masks_loop(inputs, hidden):
    D, H = len(inputs), len(hidden)
    first, last = torch.zeros(H, D), torch.zeros(D, H)
    for h in range(H):
        for d in range(D):
            first[h, d] = 1.0 if hidden[h] >= inputs[d] else 0.0
            last[d, h] = 1.0 if inputs[d] > hidden[h] else 0.0
    return first, last


def made_masks_torch(inputs, hidden):
    last = torch.gt(inputs.unsqueeze(1), hidden)
    return torch.logical_not(last).T, last


def made_masks_numpy(inputs, hidden):
    return [
        [[float(h >= m) for m in inputs.tolist()] for h in hidden.tolist()],
        [[float(m > h) for h in hidden.tolist()] for m in inputs.tolist()],
    ]


def ensemble_log_prob_loop(log_p):
    total = log_p[0]
    for row in log_p[1:]:
        total = torch.logaddexp(total, row)
    return total - math.log(len(log_p))


def ensemble_log_prob_torch(log_p):
    best = log_p.amax(0)
    return (log_p - best).exp().mean(0).log() + best


def ensemble_log_prob_numpy(log_p):
    log_p = log_p.numpy()
    return list(np.logaddexp.reduce(log_p, axis=0) - np.log(log_p.shape[0]))


class BufferedFVSBN(FVSBN_torch):
    def __init__(self, D):
        super().__init__(D)
        W, b = self.W.data, self.b.data
        del self.W, self.b
        self.register_buffer("W", W)
        self.register_buffer("b", b)


def copied_draws(W, V, b, c, n):
    x = sample_nade_loop(W, V, b, c, n - n // 2)
    return torch.cat([x, x])[:n][torch.randperm(n)]


def mirrored_draws(W, V, b, c, n):
    """Antithetic: every second draw uses 1 - u where the first one used u."""
    D, x = len(W), torch.zeros(n, len(W))
    for d in range(D):
        u = torch.rand(n - n // 2)
        u = torch.stack([u, 1 - u], 1).flatten()[:n]
        p = torch.sigmoid(b[d] + torch.sigmoid(c + x[:, :d] @ W[:d]) @ V[d])
        x[:, d] = (u < p).float()
    return x


# What the text demands, in its words: the start of the hint for what breaks it, or that.
DEMANDS = {
    "log_prob_from_conditionals": {
        "which factor does a *black* pixel contribute": "black pixels count too",
        "Return log p(x) in nats": "this is in bits",
    },
    "FVSBN": {
        "use only what is *strictly* below the diagonal": "the diagonal of W takes part",
        "both `nn.Parameter`": BufferedFVSBN,
    },
    "nade_activations": {"a_d = c + \\sum_{k<d} x_k W_k": "a_d holds x_d itself"},
    "sample_nade": {
        "Draw $n$ points": "all n draws are the same one",
        "each one anew": copied_draws,
        "independently of the others": mirrored_draws,
        "x_d\\sim\\mathrm{Bernoulli}(p_d)": "you took the likelier bit",
    },
    "mixture_log_prob": {
        "for a point far from every mean": "right near the means",
        "**without leaving the log domain**": "the weights leave the log domain",
        "log weights up to a constant": "the logits are not log weights yet",
    },
    "made_masks": {"in the shape of the weights of `nn.Linear`": "transposed"},
    "ensemble_log_prob": {
        "Stay in the log domain": "exp(-5000) underflows",
        "that of a colour image below $-5{,}000$": "one shift for the whole batch",
    },
}
