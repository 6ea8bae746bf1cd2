"""challenges/responsibility: right answers in other styles, and what its text demands."""

import math

import numpy as np
import torch


def distance_ratio_loop(x, train):
    different = {*map(tuple, train.tolist())}
    found = []
    for row in x.tolist():
        first, second, *_ = sorted(math.dist(row, other) for other in different)
        found.append(first / second)
    return found


def distance_ratio_torch(x, train):
    d = torch.cdist(
        x.double(),
        torch.unique(train, dim=0).double(),
        compute_mode="donot_use_mm_for_euclid_dist",
    )
    first, second = d.topk(2, largest=False).values.T
    return first.div(second)


def distance_ratio_numpy(x, train):
    x, train = x.double().numpy(), np.unique(train.double().numpy(), axis=0)
    d = np.partition(((x[:, None] - train) ** 2).sum(-1), 1, axis=1)
    return np.sqrt(d[:, 0] / d[:, 1])


def auroc_loop(normal, strange):
    won = 0.0
    for s in strange.tolist():
        for n in normal.tolist():
            won += 1.0 if s > n else 0.5 if s == n else 0.0
    return won / (len(normal) * len(strange))


def auroc_torch(normal, strange):
    return (strange.unsqueeze(1) - normal).sign().add(1).mean() / 2


def auroc_numpy(normal, strange):
    """By ranks, as Mann and Whitney have it."""
    from scipy.stats import rankdata

    N, M = len(normal), len(strange)
    ranks = rankdata(np.concatenate([normal.numpy(), strange.numpy()]))
    return (ranks[N:].sum() - M * (M + 1) / 2) / (N * M)


def surprise_loop(x, mu, sigma):
    rows = []
    for row in x.tolist():
        total = -float(len(row))
        for value, m, s in zip(row, mu.tolist(), sigma.tolist()):
            total += ((value - m) / s) ** 2
        rows.append(total / math.sqrt(2 * len(row)))
    return rows


def surprise_torch(x, mu, sigma):
    law = torch.distributions.Independent(torch.distributions.Normal(mu, sigma), 1)
    return (-law.log_prob(x) - law.entropy()) / (len(mu) / 2) ** 0.5


def surprise_numpy(x, mu, sigma):
    e = (x.double().numpy() - mu.double().numpy()) / sigma.double().numpy()
    return (np.einsum("bd,bd->b", e, e) / 2 - e.shape[1] / 2) / np.sqrt(e.shape[1] / 2)


def excess_bits_loop(nll, size, D):
    return [(a / math.log(2) - 8 * b) / D for a, b in zip(nll.tolist(), size.tolist())]


def excess_bits_torch(nll, size, D):
    return nll.sub(size, alpha=8 * math.log(2)).div(D * math.log(2))


def excess_bits_numpy(nll, size, D):
    return nll.double().numpy() * np.log2(np.e) / D - 8.0 * size.numpy() / D


def green_z_loop(x, green, gamma):
    seen, hits = set(), 0
    for a, b in zip(x.tolist(), x.tolist()[1:]):
        if (a, b) not in seen:
            seen.add((a, b))
            hits += bool(green[a, b])
    return (hits - gamma * len(seen)) / math.sqrt(gamma * (1 - gamma) * len(seen))


def green_z_torch(x, green, gamma):
    there = torch.zeros_like(green)
    there[x[:-1], x[1:]] = True
    n, hits = there.sum().double(), (there & green).sum()
    return hits.sub(gamma * n).div((n * gamma * (1 - gamma)).sqrt())


def green_z_numpy(x, green, gamma):
    K = len(green)
    codes = np.unique(x.numpy()[:-1] * K + x.numpy()[1:])
    colours = green.numpy().ravel()[codes]
    return (colours.mean() - gamma) * np.sqrt(len(codes) / (gamma * (1 - gamma)))


def binomial_tail_loop(hits, n, gamma):
    """From term to term: each is the one before times a ratio."""
    log_term = hits * math.log(gamma) + (n - hits) * math.log(1 - gamma)
    log_term += math.lgamma(n + 1) - math.lgamma(hits + 1) - math.lgamma(n - hits + 1)
    total = 0.0
    for k in range(hits, n + 1):
        total += math.exp(log_term)
        if k < n:
            log_term += math.log(gamma / (1 - gamma) * (n - k) / (k + 1))
    return total


def binomial_tail_torch(hits, n, gamma):
    law = torch.distributions.Binomial(n, torch.tensor(gamma, dtype=torch.float64))
    return law.log_prob(torch.arange(hits, n + 1).double()).logsumexp(0).exp()


def binomial_tail_numpy(hits, n, gamma):
    from scipy.stats import binom

    return binom.sf(hits - 1, n, gamma)


def powers(hits, n, gamma):
    """Right for short texts; the powers of long ones are 0, and their sum with them."""
    k = torch.arange(hits, n + 1, dtype=torch.float64)
    ways = (math.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)).exp()
    return (ways * gamma**k * (1 - gamma) ** (n - k)).sum()


DEMANDS = {
    "distance_ratio": {
        "equal examples count once": "an example that occurs twice",
        "both Euclidean": "these are squared distances",
    },
    "auroc": {
        "all pairs": "all pairs count",
        "equal score counts half": "equal scores count half, not nothing",
        "do not turn it round": "below 1/2 stays below 1/2",
    },
    "surprise": {
        "with its sign": "keep the sign",
        "standard deviation $\\sqrt{D/2}$": "divide by the standard deviation",
        "above its mean": "this compares with the mode",
    },
    "excess_bits": {
        "in bytes": "a byte has 8 bits",
        "$-\\log p$ in nats": "nats less bits",
        "*bits per dimension*": "this is per picture",
    },
    "green_z": {
        "*each different pair once*": "a pair that occurs again",
        "`green[a, b]` for the token $b$ after": "the list is green",
    },
    "binomial_tail": {
        "*or more*": "as many green ones, or more",
        "not a bell curve's tail": "this is the bell curve",
        "add logarithms": powers,
    },
}
