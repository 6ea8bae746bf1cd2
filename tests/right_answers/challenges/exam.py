"""challenges/exam: right answers in other styles, and what its text demands."""

import math

import numpy as np
import torch
from torch.distributions import (
    AffineTransform,
    Independent,
    MultivariateNormal,
    Normal,
    TransformedDistribution,
)
from torch.distributions.transforms import TanhTransform


def _numpy(*tensors):
    return [t.double().numpy() if torch.is_tensor(t) else t for t in tensors]


def shared_information_loop(C):
    """Elimination: the product of the pivots is the determinant."""
    A, total = C.double().clone(), 0.0
    for i in range(len(A)):
        total += math.log(C[i, i].item()) - math.log(A[i, i].item())
        for j in range(i + 1, len(A)):
            A[j] = A[j] - A[j, i] / A[i, i] * A[i]
    return total / 2


def shared_information_torch(C):
    C = C.double()
    zero = torch.zeros(len(C), dtype=C.dtype)
    alone = Independent(Normal(zero, C.diagonal().sqrt()), 1)
    return alone.entropy() - MultivariateNormal(zero, C).entropy()


def shared_information_numpy(C):
    (C,) = _numpy(C)
    width = np.sqrt(np.diag(C))
    return -0.5 * np.log(np.linalg.eigvalsh(C / width / width[:, None])).sum()


def speculative_loop(p, q):
    kept, laws = [], []
    for a, b in zip(p.tolist(), q.tolist()):
        kept.append(sum(b_k * min(1.0, a_k / b_k) for a_k, b_k in zip(a, b)))
        left = [max(a_k - b_k, 0.0) for a_k, b_k in zip(a, b)]
        laws.append([part / sum(left) for part in left] if sum(left) > 0 else a)
    return torch.tensor(kept), torch.tensor(laws)


def speculative_torch(p, q):
    left = torch.relu(p - q)
    same = (p == q).all(1, keepdim=True)
    law = torch.nn.functional.normalize(torch.where(same, p, left), p=1, dim=1)
    return 1 - (p - q).abs().sum(1) / 2, law


def speculative_numpy(p, q):
    p, q = _numpy(p, q)
    left = np.where((p == q).all(1, keepdims=True), p, np.maximum(p - q, 0))
    return np.minimum(p, q).sum(1), left / left.sum(1, keepdims=True)


def squashed_log_prob_loop(z, mu, sigma):
    out = []
    for row in z.tolist():
        total = 0.0
        for a, m, s in zip(row, mu.tolist(), sigma.tolist()):
            total -= ((a - m) / s) ** 2 / 2 + math.log(s) + math.log(2 * math.pi) / 2
            total -= 2 * (math.log(2) - abs(a) - math.log1p(math.exp(-2 * abs(a))))
        out.append(total)
    return torch.tensor(out)


def squashed_log_prob_torch(z, mu, sigma):
    tanh = TanhTransform(cache_size=1)  # remembers z, so that y = 1 has its own again
    law = TransformedDistribution(
        Normal(torch.zeros_like(mu), 1.0), [AffineTransform(mu, sigma), tanh]
    )
    return law.log_prob(tanh(z)).sum(1)


def squashed_log_prob_numpy(z, mu, sigma):
    z, mu, sigma = _numpy(z, mu, sigma)
    log_slope = 2 * np.log(2) - 2 * np.logaddexp(z, -z)
    normal = -(((z - mu) / sigma) ** 2) / 2 - np.log(sigma * np.sqrt(2 * np.pi))
    return (normal - log_slope).sum(1)


def leave_one_out_loop(f):
    out = torch.empty_like(f)
    for b, row in enumerate(f.tolist()):
        for k, reward in enumerate(row):
            rest = row[:k] + row[k + 1 :]
            out[b, k] = reward - sum(rest) / len(rest)
    return out


def leave_one_out_torch(f):
    K = f.shape[1]
    return f @ (torch.eye(K) * K - 1).to(f) / (K - 1)


def leave_one_out_numpy(f):
    (f,) = _numpy(f)
    n = f.shape[1]
    return [row - np.array([np.delete(row, k).mean() for k in range(n)]) for row in f]


def swap_log_accept_loop(e_cold, e_hot, beta_cold, beta_hot):
    pairs = zip(e_cold.tolist(), e_hot.tolist())
    return [min(0.0, (beta_cold - beta_hot) * (c - h)) for c, h in pairs]


def swap_log_accept_torch(e_cold, e_hot, beta_cold, beta_hot):
    return -torch.relu((beta_cold - beta_hot) * (e_hot - e_cold))


def swap_log_accept_numpy(e_cold, e_hot, beta_cold, beta_hot):
    e, beta = np.stack(_numpy(e_cold, e_hot)), np.array([beta_cold, beta_hot])
    return np.minimum(beta @ e - beta[::-1] @ e, 0)


def with_variety_loop(x, n):
    rows = []
    for start in range(0, len(x), n):
        group = x[start : start + n]
        spread = [math.sqrt(column.var(correction=0).item()) for column in group.T]
        told = torch.full((n, 1), sum(spread) / len(spread))
        rows.append(torch.cat([group, told], 1))
    return torch.cat(rows)


def with_variety_torch(x, n):
    parts = torch.stack(x.split(n))
    told = (parts - parts.mean(1, True)).square().mean(1).sqrt().mean(1)
    return torch.column_stack([x, told.repeat_interleave(n)])


def with_variety_numpy(x, n):
    (x,) = _numpy(x)
    told = x.reshape(-1, n, x.shape[1]).std(1).mean(1)
    return np.hstack([x, np.repeat(told, n)[:, None]])


def path_velocity_loop(x, x0_hat, alpha, sigma, d_alpha, d_sigma):
    out = torch.empty_like(x)
    for b in range(len(x)):
        for d in range(x.shape[1]):
            eps = (x[b, d] - alpha * x0_hat[b, d]) / sigma
            out[b, d] = d_alpha * x0_hat[b, d] + d_sigma * eps
    return out


def path_velocity_torch(x, x0_hat, alpha, sigma, d_alpha, d_sigma):
    """Solve for clean point and noise, then take their slopes."""
    ratio = d_sigma / sigma
    return torch.addcmul(ratio * x, x0_hat, torch.tensor(d_alpha - ratio * alpha))


def path_velocity_numpy(x, x0_hat, alpha, sigma, d_alpha, d_sigma):
    x, x0 = _numpy(x, x0_hat)
    both = np.array([[d_alpha, d_sigma]]) @ np.array(
        [[1.0, 0.0], [-alpha / sigma, 1 / sigma]]
    )
    return both[0, 0] * x0 + both[0, 1] * x


def neighbours_tell_loop(x, y):
    heap = [(row, 0) for row in x.double()] + [(row, 1) for row in y.double()]
    right = {0: [], 1: []}
    for i, (a, kind) in enumerate(heap):
        others = [((a - b).norm().item(), k) for j, (b, k) in enumerate(heap) if j != i]
        right[kind].append(min(others)[1] == kind)
    return [sum(r) / len(r) for r in right.values()]


def neighbours_tell_torch(x, y):
    heap = torch.cat([x, y]).double()
    second = torch.cdist(heap, heap).topk(2, largest=False).indices[:, 1]
    same = ((second < len(x)) == (torch.arange(len(heap)) < len(x))).double()
    return tuple(part.mean() for part in same.split([len(x), len(y)]))


def neighbours_tell_numpy(x, y):
    x, y = _numpy(x, y)

    def closest(a, b, without_own):
        square = ((a[:, None] - b) ** 2).sum(-1)
        return (square + np.diag([np.inf] * len(a)) if without_own else square).min(1)

    data = (closest(x, x, True) < closest(x, y, False)).mean()
    return np.array([data, (closest(y, y, True) < closest(y, x, False)).mean()])


DEMANDS = {
    "shared_information": {
        "How many nats": "this is in bits",
        "the sum of the entropies of the single coordinates, less": "the sign",
        "need not be 1": "the variances are not 1",
        "no number that float32 can hold": "the determinant itself is too small",
    },
    "speculative": {
        "Symbols are proposed with the probabilities $q$": "symbols are proposed",
        "what is still missing of $p$": "drawing from p after a refusal",
        "made to sum to 1": "the second law has to sum to 1",
        "If both models agree": "where p = q nothing",
    },
    "squashed_log_prob": {
        "standard deviations $\\sigma$": "sigma is the standard deviation",
        "density of $y$ (not of $z$)": "this is the density of z",
        "a sum over the coordinates": "a log density of a vector sums",
        "is rounded to $\\pm1$": "1 - tanh^2 is rounded to 0",
    },
    "leave_one_out": {
        "must not depend on the draw": "a draw must not be in its own",
        "*other* draws": "the other draws are K - 1",
        "of the same row": "only draws of the same row",
    },
    "swap_log_accept": {
        "inverse temperatures": "beta is the inverse temperature",
        "Both chains move": "both chains move",
        "the logarithm of the probability": "the logarithm of the probability",
        "at most 0": "a probability is at most 1",
    },
    "with_variety": {
        "groups of $n$ consecutive rows": "groups are consecutive rows",
        "divide by $n$": "divide by n",
        "the standard deviation of every feature": "the standard deviation is asked",
        "for each group": "each group of n rows",
        "one feature more": "the number is one feature more",
    },
    "path_velocity": {
        "may be any functions": "right only where alpha and sigma",
        "slopes in $t$": "this is the velocity of the straight path",
        "x_t = \\alpha_t x_0+\\sigma_t\\epsilon": "the noise is (x - alpha x0) / sigma",
    },
    "neighbours_tell": {
        "the nearest *other* point": "every point is its own nearest",
        "for the data, and how often for the samples": "the first number is that",
        "the mean of the two would hide": "two numbers are asked for",
        "how often it is right": "this is how often the neighbour is wrong",
    },
}
