"""energy/belief_net: right answers in other styles, and what its text demands."""

import itertools
import math

import numpy as np
import torch
import torch.nn.functional as F


def explaining_away_loop(p, b, w):
    joint = {}
    for h1, h2 in itertools.product((0, 1), repeat=2):
        prior = (p if h1 else 1 - p) * (p if h2 else 1 - p)
        joint[h1, h2] = prior / (1 + math.exp(-b - w * (h1 + h2)))
    first = (joint[1, 0] + joint[1, 1]) / sum(joint.values())
    return first, joint[1, 1] / (joint[0, 1] + joint[1, 1])


def explaining_away_torch(p, b, w):
    h = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 2)
    log_p = torch.distributions.Bernoulli(p).log_prob(h).sum(1)
    post = torch.softmax(log_p + F.logsigmoid(b + w * h.sum(1)), 0)
    return post[2:].sum(), post[3] / (post[1] + post[3])


def explaining_away_numpy(p, b, w):
    prior = np.outer([1 - p, p], [1 - p, p])
    joint = prior / (1 + np.exp(-(b + w * np.add.outer([0, 1], [0, 1]))))
    return np.array([joint[1].sum() / joint.sum(), joint[1, 1] / joint[:, 1].sum()])


def sleep_loss_loop(v, h, R, r):
    total = 0.0
    for seen, cause in zip(v.double(), h):
        for k in range(len(r)):
            a = float(r[k].double() + seen @ R[:, k].double())
            a = a if cause[k] else -a
            total += max(-a, 0) + math.log1p(math.exp(-abs(a)))
    return total / len(v)


def sleep_loss_torch(v, h, R, r):
    logits = torch.addmm(r, v, R)
    summed = F.binary_cross_entropy_with_logits(logits, h, reduction="sum")
    return summed / v.shape[0]


def sleep_loss_numpy(v, h, R, r):
    v, h, R, r = (t.double().numpy() for t in (v, h, R, r))
    return np.logaddexp(0, (1 - 2 * h) * (r + v @ R)).sum(1).mean()


def dbn_bound_loop(v, h, W, b, c, F_top, log_z):
    out = []
    for at in range(len(v)):
        total = -float(F_top[at]) - log_z
        for i in range(len(b)):
            p = torch.sigmoid(b[i] + W[i] @ h[at])
            total += math.log(p if v[at, i] else 1 - p)
        for j in range(len(c)):
            q = torch.sigmoid(c[j] + v[at] @ W[:, j])
            total -= math.log(q if h[at, j] else 1 - q)
        out.append(total)
    return out


def dbn_bound_torch(v, h, W, b, c, F_top, log_z):
    """In the lower RBM, p(v | h) / p(h | v) is e^-F(v) over the same of h."""
    of_v = v.mv(b) + F.softplus(torch.addmm(c, v, W)).sum(1)
    of_h = h.mv(c) + F.softplus(torch.addmm(b, h, W.T)).sum(1)
    return of_v - of_h - F_top - log_z


def dbn_bound_numpy(v, h, W, b, c, F_top, log_z):
    v, h, W, b, c, F_top = (t.double().numpy() for t in (v, h, W, b, c, F_top))
    down = -np.logaddexp(0, (1 - 2 * v) * (b + h @ W.T)).sum(1)
    up = -np.logaddexp(0, (1 - 2 * h) * (c + v @ W)).sum(1)
    return down - up - F_top - log_z


def tie_loop(W, b, c):
    turned = torch.zeros(len(c), len(b))
    for i in range(len(b)):
        for j in range(len(c)):
            turned[j, i] = W[i, j]
    return turned, c.clone(), b.clone()


def tie_torch(W, b, c):
    return W.mT.contiguous(), c.detach().clone(), b.detach().clone()


def tie_numpy(W, b, c):
    return [np.swapaxes(W.numpy(), 0, 1), c.numpy(), b.numpy()]


def mean_field_step_loop(log_p, q, k):
    push = 0.0
    for at, bits in enumerate(itertools.product((0, 1), repeat=len(q))):
        weight = 1.0 if bits[k] else -1.0
        for i, bit in enumerate(bits):
            if i != k:
                weight *= float(q[i]) if bit else 1 - float(q[i])
        push += weight * float(log_p[at])
    return 1 / (1 + math.exp(-push))


def mean_field_step_torch(log_p, q, k):
    """A cube with one axis for each bit: average all axes but one away."""
    cube = log_p.double().view([2] * len(q)).movedim(k, -1)
    for i in range(len(q)):
        if i != k:
            cube = torch.lerp(cube[0], cube[1], q[i].double())
    return torch.sigmoid(cube[1] - cube[0])


def mean_field_step_numpy(log_p, q, k):
    q, n = q.double().numpy(), len(q)
    h = (np.arange(2**n)[:, None] >> np.arange(n)[::-1]) & 1
    each = np.where(h == 1, q, 1 - q)
    weights = np.delete(each, k, 1).prod(1) * np.where(h[:, k] == 1, 1, -1)
    return 1 / (1 + np.exp(-weights @ log_p.double().numpy()))


def in_bits(*given):
    return dbn_bound_torch(*given) / math.log(2)


def reversed_order(log_p, q, k):
    """Takes the first cause for the fastest bit."""
    cube = log_p.view([2] * len(q)).permute(*range(len(q) - 1, -1, -1))
    return mean_field_step_loop(cube.flatten(), q, k)


def last_alone(log_p, q, k):
    return mean_field_step_loop(log_p, q, len(q) - 1)


DEMANDS = {
    "explaining_away": {
        "each on with the probability $p$": "the prior is missing",
        "given that the effect came": "this is what to believe when",
        "that $h_2 = 1$": "the second number is for h2 = 0",
        "two probabilities": "these are joint probabilities",
    },
    "sleep_loss": {
        "sum over the causes, mean over the dreams": "the causes' terms add up",
        "finite where the recogniser is very sure": "where q rounds to 0 or 1",
        "something to be minimised": "this is what should become large",
        "with biases $r$": lambda v, h, R, r: sleep_loss_torch(v, h, R, 0 * r),
    },
    "dbn_bound": {
        "minus what the guess had to pay": "- log q(h | v) is missing",
        "\\log p(h) = -F(h) - \\log Z": "the free energy has the wrong sign",
        "for each row": "one bound for each row",
        "in nats": in_bits,
    },
    "tie": {
        "so that its *visible* units are the old hidden ones": "W stands the wrong way",
        "the same distribution": "the biases change places",
    },
    "mean_field_step": {
        "the mean of $\\log p$": "this averages p and takes",
        "all others": "the mean is over the others alone",
        "the last one changes fastest": reversed_order,
        "cause $k$": last_alone,
    },
}
