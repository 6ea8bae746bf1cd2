"""vae/vae: right answers in other styles, and what its text demands."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch.distributions import (
    Bernoulli,
    Categorical,
    Independent,
    MixtureSameFamily,
    Normal,
    kl_divergence,
)


def responsibilities_loop(x, log_pi, mu, log_sigma):
    rows = []
    for point in x.tolist():
        logs = []
        for a, m, s in zip(log_pi.tolist(), mu.tolist(), log_sigma.tolist()):
            squared = sum((p - q) ** 2 for p, q in zip(point, m))
            logs.append(a - squared / (2 * math.exp(2 * s)) - len(m) * s)
        e = [math.exp(one - max(logs)) for one in logs]
        rows.append([one / sum(e) for one in e])
    return torch.tensor(rows)


def responsibilities_torch(x, log_pi, mu, log_sigma):
    parts = Independent(Normal(mu, log_sigma.exp()[:, None].expand_as(mu)), 1)
    mixture = MixtureSameFamily(Categorical(logits=log_pi), parts)
    joint = log_pi + parts.log_prob(x[:, None])
    return torch.exp(joint - mixture.log_prob(x)[:, None])


def responsibilities_numpy(x, log_pi, mu, log_sigma):
    x, a, mu, s = (t.double().numpy() for t in (x, log_pi, mu, log_sigma))
    d2 = (x**2).sum(1)[:, None] - 2 * x @ mu.T + (mu**2).sum(1)
    joint = a - d2 / (2 * np.exp(s) ** 2) - x.shape[1] * s
    return np.exp(joint - np.logaddexp.reduce(joint, axis=1, keepdims=True))


def gaussian_kl_loop(mu, log_sigma):
    out = []
    for row, logs in zip(mu.tolist(), log_sigma.tolist()):
        terms = [(m * m + math.exp(2 * s) - 1 - 2 * s) / 2 for m, s in zip(row, logs)]
        out.append(sum(terms))
    return out


def gaussian_kl_torch(mu, log_sigma):
    q = Normal(mu, log_sigma.exp())
    return kl_divergence(q, Normal(0.0, 1.0)).sum(dim=1)


def gaussian_kl_numpy(mu, log_sigma):
    variance = np.exp(log_sigma.numpy()) ** 2
    return 0.5 * (variance + mu.numpy() ** 2 - 1 - np.log(variance)).sum(1)


def score_function_loop(z, f, mu, log_sigma):
    total = torch.zeros(len(mu))
    for one, value in zip(z, f):
        for k in range(len(mu)):
            total[k] += value * (one[k] - mu[k]) / math.exp(log_sigma[k]) ** 2
    return total / len(z)


def score_function_torch(z, f, mu, log_sigma):
    """By autograd through log q."""
    with torch.enable_grad():
        mu = mu.clone().requires_grad_()
        log_q = Normal(mu, log_sigma.exp()).log_prob(z).sum(-1)
        return torch.autograd.grad(log_q, mu, grad_outputs=f / len(f))[0]


def score_function_numpy(z, f, mu, log_sigma):
    z, f, mu, s = (t.numpy() for t in (z, f, mu, log_sigma))
    return f @ ((z - mu) / np.exp(s) ** 2) / len(z)


def elbo_loop(logits, x, mu, log_sigma):
    out = []
    for b in range(len(x)):
        total = 0.0
        for a, pixel in zip(logits[b].tolist(), x[b].tolist()):
            sign = a if pixel else -a  # log sigmoid(sign)
            total -= max(-sign, 0) + math.log1p(math.exp(-abs(sign)))
        for m, s in zip(mu[b].tolist(), log_sigma[b].tolist()):
            total -= (m * m + math.exp(2 * s) - 1) / 2 - s
        out.append(total)
    return torch.tensor(out)


def elbo_torch(logits, x, mu, log_sigma):
    log_p = Bernoulli(logits=logits).log_prob(x).sum(-1)
    q = Independent(Normal(mu, log_sigma.exp()), 1)
    p = Independent(Normal(torch.zeros_like(mu), torch.ones_like(mu)), 1)
    return log_p - kl_divergence(q, p)


def elbo_numpy(logits, x, mu, log_sigma):
    a, x, mu, s = (t.numpy() for t in (logits, x, mu, log_sigma))
    log_p = -np.where(x == 1, np.logaddexp(0, -a), np.logaddexp(0, a)).sum(1)
    return log_p + (0.5 + s - (mu**2 + np.exp(2 * s)) / 2).sum(1)


def iwae_bound_loop(log_w):
    out = []
    for b in range(log_w.shape[1]):
        column = log_w[:, b].tolist()
        best = max(column)
        mean = sum(math.exp(one - best) for one in column) / len(column)
        out.append(best + math.log(mean))
    return torch.tensor(out)


def iwae_bound_torch(log_w):
    return torch.logcumsumexp(log_w, dim=0)[-1].sub(math.log(log_w.size(0)))


def iwae_bound_numpy(log_w):
    w = log_w.numpy()
    return np.logaddexp.reduce(w - np.log(w.shape[0]), axis=0)


def logistic_bin_loop(x, mu, log_s, levels):
    out = []
    for code, m, s in zip(x.tolist(), mu.tolist(), log_s.tolist()):
        below = 0.0 if code == 0 else 1 / (1 + math.exp(-(code - 0.5 - m) / math.exp(s)))
        last = code == levels - 1
        upto = 1.0 if last else 1 / (1 + math.exp(-(code + 0.5 - m) / math.exp(s)))
        out.append(math.log(upto - below))
    return torch.tensor(out)


def logistic_bin_torch(x, mu, log_s, levels):
    """Through the distribution function at all edges."""
    edges = torch.arange(levels + 1) - 0.5
    edges[0], edges[-1] = -torch.inf, torch.inf
    F_ = torch.sigmoid((edges - mu[:, None]) / log_s.exp()[:, None])
    return F_.diff(dim=1).gather(1, x.long()[:, None])[:, 0].log()


def logistic_bin_numpy(x, mu, log_s, levels):
    x, mu, s = x.numpy(), mu.numpy(), np.exp(log_s.numpy())
    F_ = lambda a: 0.5 * (1 + np.tanh((a - mu) / (2 * s)))  # noqa: E731
    upper, lower = (
        np.where(x == levels - 1, 1, F_(x + 0.5)),
        np.where(x == 0, 0, F_(x - 0.5)),
    )
    return np.log(upper - lower)


def normalised_by_the_largest(x, log_pi, mu, log_sigma):
    p = responsibilities_torch(x, log_pi, mu, log_sigma)
    return p / p.amax(-1, keepdim=True)


def clamped(logits, x, mu, log_sigma):
    p = torch.sigmoid(logits).clamp(1e-6, 1 - 1e-6)
    log_p = F.binary_cross_entropy(p, x, reduction="none").sum(-1)
    return -log_p - gaussian_kl_torch(mu, log_sigma)


DEMANDS = {
    "responsibilities": {
        "Far from all centres every $p(x,z)$ underflows": "right near the centres",
        "has the factor $\\sigma^{-D}$": "the factor 1 / sigma belongs to each",
        "rows sum to 1": normalised_by_the_largest,
    },
    "gaussian_kl": {
        "add, or average?": "right up to a factor of K",
        "in nats": "this is in bits",
    },
    "score_function": {
        "the mean over the n draws": "this is the sum over the draws",
        "the values of $f$ at them": "f was changed",
        "\\nabla_\\mu\\log q(z)": "the slope of log q in mu",
    },
    "elbo": {
        "over $D$ pixels and over $K$ latent dimensions": "log p(x | z) of an image",
        "$p$ rounds to 1": "a sure decoder's probabilities",
        "$e^{600}$ is infinite": "exp of a large logit",
        "Use `torch.nn.functional.softplus`": clamped,
        "for every image": "one number per example",
    },
    "iwae_bound": {
        "Stay in the log domain": "exp of a large negative log weight",
        "for one image and 900 for the next": "one shift for the whole batch",
    },
    "logistic_bin": {
        "the first bin reaches down": "the first and the last code take the tails",
        "from $x-\\tfrac12$ to $x+\\tfrac12$": "the bin of code x goes from",
        "Return the log-probability": "this is the probability",
    },
}
