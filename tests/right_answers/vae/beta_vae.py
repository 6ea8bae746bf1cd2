"""vae/beta_vae: right answers in other styles, and what its text demands."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch.distributions import Categorical, MultivariateNormal, Normal, kl_divergence


def priced_loss_loop(log_p, mu, log_sigma, beta):
    total = 0.0
    for b in range(len(log_p)):
        rate = 0.0
        for m, s in zip(mu[b].tolist(), log_sigma[b].tolist()):
            rate += 0.5 * (m * m + math.exp(2 * s) - 1) - s
        total += beta * rate - float(log_p[b])
    return total / len(log_p)


def priced_loss_torch(log_p, mu, log_sigma, beta):
    rate = kl_divergence(Normal(mu, log_sigma.exp()), Normal(0.0, 1.0)).sum(dim=1)
    return torch.sub(beta * rate, log_p).mean()


def priced_loss_numpy(log_p, mu, log_sigma, beta):
    m, s = mu.numpy(), log_sigma.numpy()
    rate = (m**2 + np.exp(s) ** 2 - 1 - 2 * s).sum() / 2
    return (beta * rate - log_p.numpy().sum()) / len(m)


def water_filling_loop(v, theta):
    rate, error = 0.0, 0.0
    for one in v.tolist():
        if one > theta:
            rate += math.log(one / theta) / 2
            error += theta
        else:
            error += one
    return rate, error


def water_filling_torch(v, theta):
    error = torch.minimum(v, torch.tensor(theta))
    return torch.stack([0.5 * (v / error).log().sum(), error.sum()])  # one tensor of two


def water_filling_numpy(v, theta):
    v = v.numpy()
    return np.maximum(0, np.log(v / theta) / 2).sum(), np.minimum(v, theta).sum()


def kl_parts_loop(q, p_a, p_b):
    N, A, B = q.shape
    joint = [
        [sum(float(q[n, i, j]) for n in range(N)) / N for j in range(B)] for i in range(A)
    ]
    a = [sum(row) for row in joint]
    b = [sum(row[j] for row in joint) for j in range(B)]
    information = correlation = 0.0
    for i in range(A):
        for j in range(B):
            correlation += joint[i][j] * math.log(joint[i][j] / (a[i] * b[j]))
            for n in range(N):
                information += float(q[n, i, j]) * math.log(q[n, i, j] / joint[i][j]) / N
    marginals = sum(x * math.log(x / y) for x, y in zip(a, p_a.tolist()))
    marginals += sum(x * math.log(x / y) for x, y in zip(b, p_b.tolist()))
    return information, correlation, marginals


def kl_parts_torch(q, p_a, p_b):
    joint = q.mean(0)
    a, b = joint.sum(1), joint.sum(0)
    kl = lambda p, r: kl_divergence(Categorical(p), Categorical(r))  # noqa: E731
    information = kl(q.flatten(1), joint.flatten()).mean()
    product = torch.outer(a, b).flatten()
    return [information, kl(joint.flatten(), product), kl(a, p_a) + kl(b, p_b)]


def kl_parts_numpy(q, p_a, p_b):
    q, p_a, p_b = q.numpy(), p_a.numpy(), p_b.numpy()
    H = lambda p: -(p * np.log(p)).sum()  # noqa: E731
    joint = q.mean(0)
    a, b = joint.sum(1), joint.sum(0)
    information = H(joint) - H(q) / len(q)
    correlation = H(a) + H(b) - H(joint)
    return information, correlation, -H(a) - H(b) - a @ np.log(p_a) - b @ np.log(p_b)


def log_aggregate_loop(log_q, N):
    B, out = len(log_q), []
    for i in range(B):
        terms = []
        for k in range(B):
            weight = 1 / N if k == i else (N - 1) / (N * (B - 1))
            terms.append(math.log(weight) + float(log_q[i, k]))
        best = max(terms)
        out.append(best + math.log(sum(math.exp(t - best) for t in terms)))
    return torch.tensor(out)


def log_aggregate_torch(log_q, N):
    B = len(log_q)
    own = log_q.diagonal() - math.log(N)
    others = log_q.masked_fill(torch.eye(B, dtype=torch.bool), -torch.inf).logsumexp(1)
    return torch.logaddexp(own, others + math.log((N - 1) / N / (B - 1)))


def log_aggregate_numpy(log_q, N):
    B, a = len(log_q), log_q.double().numpy()
    w = np.where(np.eye(B) == 1, 1 / N, (N - 1) / (N * (B - 1)))
    best = a.max(1, keepdims=True)
    return best[:, 0] + np.log((w * np.exp(a - best)).sum(1))


def factor_gap_loop(counts):
    def entropy(numbers):
        total = sum(numbers)
        return -sum(n / total * math.log(n / total) for n in numbers if n > 0)

    told = []
    for table in counts.tolist():
        bins, values = [sum(row) for row in table], [sum(column) for column in zip(*table)]
        whole = [n for row in table for n in row]
        told.append(entropy(bins) + entropy(values) - entropy(whole))
    told.sort()
    return (told[-1] - told[-2]) / entropy(values)


def factor_gap_torch(counts):
    p = counts / counts.sum((1, 2), keepdim=True)
    z, v = p.sum(2, keepdim=True), p.sum(1, keepdim=True)
    told = F.kl_div((z * v).log(), p, reduction="none").nan_to_num().sum((1, 2))
    top = torch.topk(told, 2).values
    return -torch.diff(top)[0] / torch.special.entr(v[0]).sum()


def factor_gap_numpy(counts):
    counts = counts.numpy()

    def entropy(n):
        p = n[n > 0] / n.sum()
        return -(p * np.log(p)).sum()

    H = entropy(counts[0].sum(0))
    told = np.sort([entropy(t.sum(1)) + H - entropy(t) for t in counts])
    return (told[-1] - told[-2]) / H


def diagonal_gap_loop(P):
    """By elimination: the determinant is the product of the pivots."""
    rows, gap = P.double().tolist(), 0.0
    for j in range(len(rows)):
        gap += math.log(float(P[j, j])) - math.log(rows[j][j])
        for i in range(j + 1, len(rows)):
            factor = rows[i][j] / rows[j][j]
            rows[i] = [a - factor * b for a, b in zip(rows[i], rows[j])]
    return gap / 2


def diagonal_gap_torch(P):
    mean = P.new_zeros(len(P))
    q = MultivariateNormal(mean, torch.diag(1 / P.diagonal()))
    return kl_divergence(q, MultivariateNormal(mean, precision_matrix=P))


def diagonal_gap_numpy(P):
    P = P.numpy()
    return 0.5 * (np.log(np.diag(P)).sum() - np.linalg.slogdet(P)[1])


def first_is_best(counts):
    """Takes the first dimension for the most telling one."""
    told = [factor_gap_loop(torch.stack([t, torch.ones_like(t)])) for t in counts]
    return told[0] - max(told[1:])


DEMANDS = {
    "priced_loss": {
        "in nats per example": "average over the batch",
        "log of the standard deviation": "log_sigma is the log of the standard deviation",
    },
    "water_filling": {
        "every direction that stands out of the water": "directions under water",
        "up to an error $\\theta$": "a direction that is told keeps an error",
        "the rate in nats": "these are bits",
    },
    "kl_parts": {
        "information": "your first part is the whole rate",
        "\\mathrm{KL}\\bigl(q(z_1)\\|p(z_1)\\bigr)": "the KL runs from",
        "\\tfrac1N\\sum_n": "n is drawn from 1..N",
    },
    "log_aggregate": {
        "Stay in the log domain": "exp of a log-density near -1000",
        "the code was drawn from the example of the same number": "the code's own example",
        "Row $i$": "row i holds code i",
    },
    "factor_gap": {
        "Many counts are 0": "this is not a number",
        "takes $V$ values, not equally often": "log V is the entropy of a uniform",
        "z_\\text{second}": "the gap is to the second best",
        "z_\\text{best}": first_is_best,
    },
    "diagonal_gap": {
        "The best diagonal $q$": "you matched the variances",
        "what it loses": "a KL is not negative",
    },
}
