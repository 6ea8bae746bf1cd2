"""gan/gan: right answers in other styles, and what its text demands."""

import math

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.functional import logsigmoid


def optimal_logit_loop(log_p, log_q):
    return [a - b for a, b in zip(log_p.tolist(), log_q.tolist())]


def optimal_logit_torch(log_p, log_q):
    both = torch.stack([log_p, log_q]).double()
    ours, theirs = both.log_softmax(0)  # log p / (p + q), log q / (p + q)
    return ours - theirs


def optimal_logit_numpy(log_p, log_q):
    return np.subtract(log_p.numpy(), log_q.numpy())


def player_losses_loop(d_real, d_fake):
    def costs(logits, sign):
        ones = [sign * d for d in logits.tolist()]
        return sum(max(d, 0) + math.log1p(math.exp(-abs(d))) for d in ones) / len(ones)

    return costs(d_real, -1) + costs(d_fake, 1), costs(d_fake, -1)


def player_losses_torch(d_real, d_fake):
    ones = torch.ones_like
    D = bce(d_real, ones(d_real)) + bce(d_fake, torch.zeros_like(d_fake))
    return D, bce(d_fake, ones(d_fake))


def player_losses_numpy(d_real, d_fake):
    real, fake = d_real.double().numpy(), d_fake.double().numpy()
    zero = np.logaddexp(0, -real).mean() + np.logaddexp(0, fake).mean()
    return [zero, np.logaddexp(0, -fake).mean()]


def generator_slopes_loop(logits):
    first = [-1 / (1 + math.exp(-l)) for l in logits.tolist()]  # noqa: E741
    return first, [-1 - one for one in first]


def generator_slopes_torch(logits):
    l = logits.detach().clone().requires_grad_()  # noqa: E741
    losses = logsigmoid(-l).sum(), -logsigmoid(l).sum()
    return tuple(torch.autograd.grad(loss, l)[0] for loss in losses)


def generator_slopes_numpy(logits):
    half = np.tanh(logits.double().numpy() / 2) / 2
    return -(0.5 + half), -(0.5 - half)


def r1_penalty_loop(W, b, v, x, gamma):
    """Autograd, one row at a time."""
    total = 0.0
    for row in x.detach():
        at = row.clone().requires_grad_()
        d = (torch.tanh(W @ at + b) * v).sum()
        (slope,) = torch.autograd.grad(d, at, create_graph=True)
        total = total + gamma / 2 * slope.dot(slope)
    return total / len(x)


def r1_penalty_torch(W, b, v, x, gamma):
    D = lambda at: torch.tanh(W @ at + b) @ v  # noqa: E731
    slopes = torch.func.vmap(torch.func.grad(D))(x)
    return 0.5 * gamma * slopes.square().sum(1).mean()


def r1_penalty_numpy(W, b, v, x, gamma):
    """By hand: the slope of tanh is 1 - tanh^2."""
    inner = (1 - torch.tanh(x @ W.T + b).square()) * v
    return gamma * torch.einsum("bh,hd,kd,bk->", inner, W, W, inner) / (2 * len(x))


def modes_and_quality_loop(x, centres, sigma):
    counts, good = [0] * len(centres), 0
    for row in x:
        far = [(row - c).norm().item() for c in centres]
        k = far.index(min(far))
        if far[k] <= 3 * sigma:
            counts[k] += 1
            good += 1
    fair = len(x) / len(centres)
    return sum(c >= fair / 10 for c in counts), good / len(x)


def modes_and_quality_torch(x, centres, sigma):
    distance = torch.cdist(x, centres)
    nearest = torch.nn.functional.one_hot(distance.argmin(1), len(centres)).bool()
    good = (distance <= 3 * sigma) & nearest
    return (10 * len(centres) * good.sum(0) >= len(x)).sum(), good.sum() / len(x)


def modes_and_quality_numpy(x, centres, sigma):
    x, centres = x.double().numpy(), centres.double().numpy()
    squared = ((x[:, None] - centres) ** 2).sum(-1)
    good = squared.min(1) <= 9 * sigma**2
    counts = np.bincount(squared.argmin(1)[good], minlength=len(centres))
    return [np.sum(counts / len(x) >= 0.1 / len(centres)), good.mean()]


def conjugate_bound_loop(v_p, v_q, name):
    g = {"kl": lambda v: v, "reverse kl": lambda v: -math.exp(-v), "pearson": lambda v: v}
    star = {
        "kl": lambda t: math.exp(t - 1),
        "reverse kl": lambda t: -1 - math.log(-t),
        "pearson": lambda t: t * t / 4 + t,
    }
    total = sum(g[name](v) for v in v_p.tolist()) / len(v_p)
    return total - sum(star[name](g[name](v)) for v in v_q.tolist()) / len(v_q)


def conjugate_bound_torch(v_p, v_q, name):
    if name == "kl":
        return v_p.mean() - v_q.sub(1).exp().mean()
    if name == "reverse kl":
        return (1 - v_q).mean() - v_p.neg().exp().mean()
    return v_p.mean() - ((v_q / 2 + 1).square() - 1).mean()


def conjugate_bound_numpy(v_p, v_q, name):
    p, q = v_p.double().numpy(), v_q.double().numpy()
    if name == "reverse kl":
        return np.mean(-np.exp(-p)) - np.mean(q) + 1
    return np.mean(p) - np.mean(np.exp(q - 1) if name == "kl" else q * (q + 4) / 4)


def by_ratio(log_p, log_q):
    return torch.log(log_p.exp() / log_q.exp())


DEMANDS = {
    "optimal_logit": {
        "whose *logit* is asked for": "this is the probability",
        "as small as $e^{-900}$": by_ratio,
    },
    "player_losses": {
        "not the saturating one": "G's loss is the saturating one",
        "means over their rows": "an expectation is a mean",
        "There are logits of 200": "1 - sigmoid(200)",
        "not averaged": "D's two halves",
    },
    "generator_slopes": {
        "in this order": "the two are exchanged",
        "with their signs": "the sign is missing",
    },
    "r1_penalty": {
        "gamma / 2": "the convention is gamma / 2",
        "can be differentiated in $W$": "the value is right",
        "mean over the batch": "this is the sum over the batch",
    },
    "modes_and_quality": {
        "Give each sample to the nearest centre": "a point near two modes",
        "a tenth of its fair share": "a mode is counted from one sample",
        "within $3\\sigma$ of it": "points within one sigma",
        "counts only good points": "a mode is counted by points that are far",
    },
    "conjugate_bound": {
        "both times $T = g(v)$": "the first mean is of v",
        "minus the mean of $f^*(T)$ at fakes": "the conjugate is missing",
    },
}
