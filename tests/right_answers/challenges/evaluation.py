"""challenges/evaluation: right answers in other styles, and what its text demands."""

import math

import numpy as np
import torch
from torch.distributions import Categorical, kl_divergence


def inception_score_loop(logits):
    rows = [[float(v) for v in row] for row in logits]
    p = []
    for row in rows:
        e = [math.exp(v - max(row)) for v in row]
        p.append([v / sum(e) for v in e])
    mean = [sum(col) / len(p) for col in zip(*p)]
    kl = [sum(a * math.log(a / m) for a, m in zip(row, mean) if a > 0) for row in p]
    return math.exp(sum(kl) / len(kl))


def inception_score_torch(logits):
    each = Categorical(logits=logits.double())
    return kl_divergence(each, Categorical(probs=each.probs.mean(0))).mean().exp()


def inception_score_numpy(logits):
    """As the entropy of the mean less the mean entropy."""
    x = logits.double().numpy()
    p = np.exp(x - x.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    entropy = lambda q: -(q * np.log(np.where(q > 0, q, 1))).sum(-1)  # noqa: E731
    return np.exp(entropy(p.mean(0)) - entropy(p).mean())


def frechet_loop(a, b):
    """The trace of the root from the eigenvalues of the plain product."""
    a, b = a.double(), b.double()

    def moments(x):
        n, K = x.shape
        mean = [sum(x[:, i].tolist()) / n for i in range(K)]
        C = torch.zeros(K, K, dtype=torch.float64)
        for row in x.tolist():
            for i in range(K):
                for j in range(K):
                    C[i, j] += (row[i] - mean[i]) * (row[j] - mean[j]) / (n - 1)
        return mean, C

    (m, A), (k, B) = moments(a), moments(b)
    roots = torch.linalg.eigvals(A @ B).sqrt().real.sum()
    return sum((s - t) ** 2 for s, t in zip(m, k)) + A.trace() + B.trace() - 2 * roots


def frechet_torch(a, b):
    """The trace of the root as the nuclear norm of a product of two factors."""
    a, b = a.double(), b.double()
    x, y = ((t - t.mean(0)) / (len(t) - 1) ** 0.5 for t in (a, b))
    R, Q = (torch.linalg.qr(t)[1] for t in (x, y))
    cross = torch.linalg.matrix_norm(R @ Q.T, "nuc")
    gap = torch.linalg.vector_norm(a.mean(0) - b.mean(0)) ** 2
    return gap + x.square().sum() + y.square().sum() - 2 * cross


def frechet_numpy(a, b):
    a, b = a.double().numpy(), b.double().numpy()
    A, B = (np.atleast_2d(np.cov(t, rowvar=False)) for t in (a, b))
    cross = np.sqrt(np.linalg.eigvals(A @ B).astype(complex)).real.sum()
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(A + B) - 2 * cross


def kid_loop(a, b):
    def mean(pairs):
        values = [(float(x @ y) / len(x) + 1) ** 3 for x, y in pairs]
        return sum(values) / len(values)

    own = lambda t: [  # noqa: E731
        (t[i], t[j]) for i in range(len(t)) for j in range(len(t)) if i != j
    ]
    return mean(own(a)) + mean(own(b)) - 2 * mean([(x, y) for x in a for y in b])


def kid_torch(a, b):
    x, n = torch.cat([a, b]), len(a)
    k = (x @ x.T).div(x.shape[1]).add(1).pow(3).fill_diagonal_(0)
    m = len(b)
    within = k[:n, :n].sum() / (n * (n - 1)) + k[n:, n:].sum() / (m * (m - 1))
    return within - 2 * k[:n, n:].mean()


def kid_numpy(a, b):
    a, b = a.double().numpy(), b.double().numpy()
    k = lambda x, y: (x @ y.T / x.shape[1] + 1) ** 3  # noqa: E731
    off = lambda x: k(x, x)[~np.eye(len(x), dtype=bool)].mean()  # noqa: E731
    return off(a) + off(b) - 2 * k(a, b).mean()


def precision_recall_loop(real, fake, k):
    def far(x, y):
        return math.dist(x.tolist(), y.tolist())

    def share(points, centres):
        reach = [sorted(far(c, o) for o in centres)[k] for c in centres]
        hits = [any(far(x, c) < r for c, r in zip(centres, reach)) for x in points]
        return sum(hits) / len(hits)

    return share(fake, real), share(real, fake)


def precision_recall_torch(real, fake, k):
    def distances(x, y):
        return (x[:, None] - y).norm(dim=-1)

    def share(points, centres):
        own = distances(centres, centres).fill_diagonal_(math.inf)
        reach = own.topk(k, largest=False).values[:, -1]
        return (distances(points, centres) - reach).amin(1).lt(0).float().mean()

    return torch.stack([share(fake, real), share(real, fake)])


def precision_recall_numpy(real, fake, k):
    real, fake = real.double().numpy(), fake.double().numpy()
    far = lambda x, y: np.sqrt(((x[:, None] - y) ** 2).sum(-1))  # noqa: E731
    reach = lambda x: np.sort(far(x, x), 1)[:, k]  # noqa: E731
    return (
        (far(fake, real) < reach(real)).any(1).mean(),
        (far(real, fake) < reach(fake)).any(1).mean(),
    )


def c2st_p_value_loop(right, n):
    """From one count to the next, in logs."""
    log_p, total = -n * math.log(2), 0.0
    for i in range(n + 1):
        if i >= right:
            total += math.exp(log_p)
        log_p += math.log(n - i) - math.log(i + 1) if i < n else 0.0
    return total


def c2st_p_value_torch(right, n):
    i = torch.arange(right, n + 1).double()
    log_ways = math.lgamma(n + 1) - torch.lgamma(i + 1) - torch.lgamma(n - i + 1)
    return torch.logsumexp(log_ways - n * math.log(2), 0).exp()


def c2st_p_value_numpy(right, n):
    """The other way round: less the tail of those that are fewer."""
    steps = np.log(np.arange(n, 0, -1)) - np.log(np.arange(1, n + 1))
    log_p = np.concatenate([[0.0], np.cumsum(steps)]) - n * np.log(2)
    return 1 - np.exp(log_p[:right]).sum()


def copying_share_loop(d_held, d_fake):
    n, m, share = len(d_held), len(d_fake), 0.0
    for h in d_held.tolist():
        for f in d_fake.tolist():
            share += (1.0 if f < h else 0.5 if f == h else 0.0) / (n * m)
    return share, (share - 0.5) / math.sqrt((n + m + 1) / 12 / n / m)


def copying_share_torch(d_held, d_fake):
    ordered, n, m = d_fake.sort().values, len(d_held), len(d_fake)
    below = torch.searchsorted(ordered, d_held)
    up_to = torch.searchsorted(ordered, d_held, right=True)
    share = (below + up_to).double().mean() / (2 * m)
    return share, (share - 0.5) * (12 * n * m / (n + m + 1)) ** 0.5


def copying_share_numpy(d_held, d_fake):
    """By ranks, a tie has the mean rank: the statistic of Mann and Whitney."""
    held, fake = d_held.double().numpy(), d_fake.double().numpy()
    n, m, both = len(held), len(fake), np.concatenate([held, fake])
    ranks = (both[:, None] > both).sum(1) + ((both[:, None] == both).sum(1) + 1) / 2
    share = (ranks[:n].sum() - n * (n + 1) / 2) / (n * m)
    return np.array([share, (share - 0.5) / np.sqrt((n + m + 1) / (12 * n * m))])


def underflowing(logits):
    """Right, but for probabilities that are 0."""
    p = logits.double().softmax(-1)
    return (p * (p / p.mean(0)).log()).sum(-1).mean().exp()


def in_single(a, b):
    """Right, but for features in the millions."""
    A, B = (
        torch.atleast_2d(t.T @ t - len(t) * torch.outer(t.mean(0), t.mean(0)))
        / (len(t) - 1)
        for t in (a, b)
    )
    cross = torch.linalg.eigvals(A @ B).sqrt().real.sum()
    return (a.mean(0) - b.mean(0)).square().sum() + A.trace() + B.trace() - 2 * cross


def overflowing(right, n):
    """Right, but for 2^-n of more than a thousand rows."""
    try:
        return sum(math.comb(n, i) * 0.5**n for i in range(right, n + 1))
    except OverflowError:
        return math.nan


def clipped(a, b):
    """No negative estimates."""
    return kid_torch(a, b).clamp_min(0)


DEMANDS = {
    "inception_score": {
        "logits in the hundreds": underflowing,
        "mean of the $p(y\\mid x)$": "p(y) is the mean of the probabilities",
        "first the mean, then the exponential": "the mean comes first",
    },
    "frechet": {
        "in float64": in_single,
        "divided by $n - 1$": "divide a covariance by n - 1",
        "square of the distance": "what is reported is the square",
    },
    "kid": {
        "a row and itself are no pair": "a row and itself are no pair",
        "divided by the number of features": "the inner product is divided",
        "as it is": clipped,
    },
    "precision_recall": {
        "no neighbour of its own": "a point is no neighbour of its own",
        "strictly less": "a point on the rim",
        "its centre's": "a ball belongs to its centre",
    },
    "c2st_p_value": {
        "or more": "so many or more",
        "exact": "the bell's tail is an approximation",
        "more than a thousand rows": overflowing,
        "One-sided": "one-sided",
    },
    "copying_share": {
        "a tie counts half": "a tie counts half: it is neither",
        "All pairs": "all pairs count",
        "$z$": "pairs share rows",
    },
}
