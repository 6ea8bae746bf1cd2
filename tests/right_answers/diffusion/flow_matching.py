"""diffusion/flow_matching: right answers in other styles, and what its text demands."""

import itertools
import math

import numpy as np
import torch


def line_loop(x0, x1, t):
    rows = list(zip(x0.tolist(), x1.tolist(), t.tolist()))
    z = [[(1 - s) * a + s * b for a, b in zip(p, q)] for p, q, s in rows]
    return z, [[b - a for a, b in zip(p, q)] for p, q, _ in rows]


def line_torch(x0, x1, t):
    return torch.lerp(x0, x1, t.unsqueeze(1)), torch.sub(x1, x0)


def line_numpy(x0, x1, t):
    x0, x1, t = (v.double().numpy() for v in (x0, x1, t))
    return x0 + t[:, None] * (x1 - x0), x1 - x0


def marginal_velocity_loop(z, t, means, std):
    """As the mean of the velocities of all bells, each of which is a line's."""
    out = []
    for p in z.double():
        var = (1 - t) ** 2 * std**2 + t**2
        w = [math.exp(-float(((p - (1 - t) * m) ** 2).sum()) / (2 * var)) for m in means]
        speed = (t - (1 - t) * std**2) / var
        v = [-m + speed * (p - (1 - t) * m) for m in means.double()]
        out.append(sum(a * b for a, b in zip(w, v)) / sum(w))
    return torch.stack(out)


def marginal_velocity_torch(z, t, means, std):
    """By the score, the gradient of log p_t."""
    with torch.enable_grad():
        x = z.detach().double().requires_grad_()
        var = (1 - t) ** 2 * std**2 + t**2
        far = torch.cdist(x, (1 - t) * means.double()).square()
        (score,) = torch.autograd.grad((-far / (2 * var)).logsumexp(1).sum(), x)
    return ((-t * score - x) / (1 - t)).detach()


def marginal_velocity_numpy(z, t, means, std):
    z, means = z.double().numpy(), means.double().numpy()
    var = (1 - t) ** 2 * std**2 + t**2
    gap = z[:, None] - (1 - t) * means
    w = np.exp(-(gap**2).sum(-1) / (2 * var))
    w /= w.sum(1, keepdims=True)
    x1 = (w[..., None] * gap * t / var).sum(1)
    return (x1 - z) / (1 - t)


def _cheapest(cost):
    rows = range(len(cost))
    orders = list(itertools.permutations(rows))
    sums = [sum(cost[i][k] for i, k in zip(rows, order)) for order in orders]
    return list(orders[sums.index(min(sums))])


def optimal_pairs_loop(x0, x1):
    cost = [[sum((a - b) ** 2 for a, b in zip(p, q)) for q in x1] for p in x0]
    return [x1[k] for k in _cheapest(cost)]


def optimal_pairs_torch(x0, x1):
    """Large inner products are small distances, for the squares alone are all the same."""
    orders = torch.tensor(list(itertools.permutations(range(len(x1)))))
    return x1[orders[(x1[orders] * x0).sum((1, 2)).argmax()]]


def optimal_pairs_numpy(x0, x1):
    a, b = x0.double().numpy(), x1.double().numpy()
    return b[_cheapest(((a[:, None] - b) ** 2).sum(-1))]


def score_from_velocity_loop(v, z, t):
    return [[-(b + (1 - t) * a) / t for a, b in zip(p, q)] for p, q in zip(v, z)]


def score_from_velocity_torch(v, z, t):
    return torch.add(z, v, alpha=1 - t).div(-t)


def score_from_velocity_numpy(v, z, t):
    v, z = v.double().numpy(), z.double().numpy()
    x0 = z - t * v
    return -(x0 + v) / t


def straightness_loop(path):
    T, bend, length = len(path) - 1, 0.0, 0.0
    for b in range(path.shape[1]):
        chord = path[-1, b] - path[0, b]
        length += float((chord**2).sum())
        for k in range(T):
            v = T * (path[k + 1, b] - path[k, b])
            bend += float(((v - chord) ** 2).sum()) / T
    return bend / length


def straightness_torch(path):
    """By Pythagoras: the mean of the velocities is the chord."""
    v, chord = path.diff(dim=0) * (len(path) - 1), path[-1] - path[0]
    return v.square().sum(-1).mean() / chord.square().sum(-1).mean() - 1


def straightness_numpy(path):
    path = path.double().numpy()
    v, chord = np.diff(path, axis=0) * (len(path) - 1), path[-1] - path[0]
    return ((v - chord) ** 2).mean() / (chord**2).mean()


def latent_elbo_loop(log_px, log_pu, log_q, scale):
    det = sum(math.log(s) for s in scale.tolist())
    return [a + b - det - q for a, b, q in zip(log_px, log_pu, log_q)]


def latent_elbo_torch(log_px, log_pu, log_q, scale):
    return torch.stack([log_px, log_pu, -log_q]).sum(0) - scale.prod().log()


def latent_elbo_numpy(log_px, log_pu, log_q, scale):
    a, b, q, s = (v.double().numpy() for v in (log_px, log_pu, log_q, scale))
    return a + b - q + np.log(1 / s).sum()


DEMANDS = {
    "line": {
        "$t=0$": "the line runs the other way",
        "from data to the source": "the velocity has the wrong sign",
    },
    "marginal_velocity": {
        "how likely": "all bells count alike",
        "its own width": "the bells have a width",
        "to noise": "the sign",
    },
    "optimal_pairs": {
        "squared distances": "the cost is the squared distance",
        "exactly once": "each x0 has its nearest x1",
        "keeps its order": "this moves x0",
        "the sum": "who comes first",
    },
    "score_from_velocity": {
        "divided by $t$": "this is minus the noise",
        "minus": "the score points to the data",
    },
    "straightness": {
        "the mean over all steps and paths": "the mean over paths is taken before",
        "$T$ times": "a difference of stations",
        "divided by the mean": "divide by the mean square",
    },
    "latent_elbo": {
        "all dimensions": "the log-determinant is the sum",
        "of $z$, not of $u$": "log p(z) is not log p(u)",
    },
}
