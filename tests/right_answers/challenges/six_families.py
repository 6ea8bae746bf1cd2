"""challenges/six_families: right answers in other styles, and what its text demands."""

import math
import statistics

import numpy as np
import torch


def bits_of_density_loop(log_p, D, levels, low, high):
    out = []
    for each in log_p.tolist():
        for _ in range(D):
            each += math.log(high - low) - math.log(levels)
        out.append(-each / D / math.log(2))
    return out


def bits_of_density_torch(log_p, D, levels, low, high):
    width = torch.tensor((high - low) / levels, dtype=torch.float64)
    return log_p.double().div(D).add(width.log()).neg().div(math.log(2))


def bits_of_density_numpy(log_p, D, levels, low, high):
    return np.log2(levels / (high - low)) - log_p.double().numpy() / (D * np.log(2))


def paired_difference_loop(a, b):
    gaps = [x - y for x, y in zip(a.tolist(), b.tolist())]
    return statistics.fmean(gaps), statistics.stdev(gaps) / math.sqrt(len(gaps))


def paired_difference_torch(a, b):
    var, mean = torch.var_mean(a.double() - b.double())
    return mean, var.div(len(a)).sqrt()


def paired_difference_numpy(a, b):
    gap = a.double().numpy() - b.double().numpy()
    return gap.mean(), gap.std(ddof=1) / np.sqrt(len(gap))


def proven_loop(gap, error, a_exact, b_exact):
    out = []
    for d, e, a, b in zip(gap.tolist(), error.tolist(), a_exact, b_exact):
        out.append(1 if b and d < -2 * e else -1 if a and d > 2 * e else 0)
    return out


def proven_torch(gap, error, a_exact, b_exact):
    loser_exact = torch.where(gap < 0, b_exact, a_exact)
    return torch.where(loser_exact & (gap.abs() > 2 * error), -gap.sign(), 0 * gap)


def proven_numpy(gap, error, a_exact, b_exact):
    gap, error, a, b = (t.numpy() for t in (gap, error, a_exact, b_exact))
    return np.select([b & (gap < -2 * error), a & (gap > 2 * error)], [1, -1], 0)


def evaluations_loop(network, rows, B, K):
    each, calls = [0.0] * K, [0] * K
    for k, n in zip(network.tolist(), rows.tolist()):
        each[k] += n / B
        calls[k] += 1
    return torch.tensor(each), torch.tensor(calls)


def evaluations_torch(network, rows, B, K):
    hot = torch.nn.functional.one_hot(network, K)  # (calls, K)
    return (hot * rows[:, None]).sum(0) / B, hot.sum(0)


def evaluations_numpy(network, rows, B, K):
    each, calls = np.zeros(K), np.zeros(K)
    np.add.at(each, network.numpy(), rows.numpy() / B)
    np.add.at(calls, network.numpy(), 1)
    return each, calls


def pareto_front_loop(distance, cost):
    points = [*zip(distance.tolist(), cost.tolist())]
    return [
        not any(a <= x and b <= y and (a, b) != (x, y) for a, b in points)
        for x, y in points
    ]


def pareto_front_torch(distance, cost):
    """In order of the distance, whoever costs less than all before is on the front."""
    points = torch.stack([distance, cost], 1)
    order = sorted(range(len(points)), key=lambda i: points[i].tolist())
    front, best = torch.zeros(len(points), dtype=torch.bool), None
    for i in order:
        if best is None or cost[i] < best[1] or torch.equal(points[i], best):
            front[i] = True
            best = points[i]
    return front


def pareto_front_numpy(distance, cost):
    p = np.stack([distance.numpy(), cost.numpy()], 1)
    beats = (p[:, None] <= p[None]).all(2) & (p[:, None] < p[None]).any(2)
    return ~beats.any(0)


def times_likelier_loop(bits_a, bits_b, D):
    pairs = [*zip(bits_a.tolist(), bits_b.tolist())]
    return (
        torch.tensor([D * (b - a) / math.log2(10) for a, b in pairs]),
        torch.tensor([2.0**a for a, _ in pairs]),
    )


def times_likelier_torch(bits_a, bits_b, D):
    gap = bits_b.double() - bits_a.double()
    return gap * D * math.log10(2), torch.exp2(bits_a)


def times_likelier_numpy(bits_a, bits_b, D):
    a, b = bits_a.double().numpy(), bits_b.double().numpy()
    return D * (b - a) * np.log10(2), np.exp(a * np.log(2))


def without_self(distance, cost):
    """Equal models beat each other."""
    points = [*zip(distance.tolist(), cost.tolist())]
    return [
        not any(i != j and a <= x and b <= y for j, (a, b) in enumerate(points))
        for i, (x, y) in enumerate(points)
    ]


def overflowing(bits_a, bits_b, D):
    """Right, but for pictures whose likelihood is no float."""
    return torch.log10(2.0 ** (-D * bits_a) / 2.0 ** (-D * bits_b)), 2**bits_a


DEMANDS = {
    "bits_of_density": {
        "a cube of $D$ sides": "the cell has D sides",
        "from `low` to `high`": "the cells lie between",
        "negative $\\log_2$": "these are nats",
        "per dimension": "these are bits per example",
    },
    "paired_difference": {
        "of the *differences*": "this is the error of two independent",
        "with $n - 1$": "divide the squares by n - 1",
        "the mean of $a - b$": "the difference is a - b",
    },
    "proven": {
        "an *upper bound* of the exact value": "who has the lower figure",
        "up to two errors proves nothing": "one standard error",
        "whose true value may lie below": "the other way round",
    },
    "evaluations": {
        "a call with many rows is many evaluations": "a call may look at many rows",
        "per example": "this is for all B examples",
        "was never called has 0": "a network that was never called",
        "need not divide them": "evaluations per example need not be whole",
    },
    "pareto_front": {
        "Two equal models do not beat each other": without_self,
        "better in at least one": "every point is as good as itself",
        "as good or better in both": "as good in one and better",
    },
    "times_likelier": {
        "has no place in a float": overflowing,
        "$\\log_{10}$ of that ratio": "this is log2 of the ratio",
        "positive if $a$ is better": "fewer bits are likelier",
        "$2^{\\text{bits}}$": "bits are powers of two",
    },
}
