"""diffusion/masked: right answers in other styles, and what its text demands."""

import numpy as np
import torch
import torch.nn.functional as F


def mask_tokens_loop(x, t, u, K):
    out = x.clone()
    for b in range(x.shape[0]):
        for i in range(x.shape[1]):
            if u[b, i] < t[b]:
                out[b, i] = K
    return out


def mask_tokens_torch(x, t, u, K):
    return x.masked_fill(u.T.lt(t).T, K)


def mask_tokens_numpy(x, t, u, K):
    hidden = u.numpy() < t.numpy()[:, None]
    return x.numpy() * ~hidden + K * hidden


def masked_bound_loop(logits, x, x_t, t):
    K, rows = logits.shape[2], []
    for b in range(len(x)):
        cost = sum(
            torch.logsumexp(logits[b, i], 0) - logits[b, i, x[b, i]]
            for i in range(x.shape[1])
            if x_t[b, i] == K
        )
        rows.append(cost / t[b])
    return torch.stack(rows)


def masked_bound_torch(logits, x, x_t, t):
    K = logits.shape[-1]
    cost = F.cross_entropy(logits.mT, x.where(x_t == K, -100), reduction="none")
    return cost.sum(1) / t


def masked_bound_numpy(logits, x, x_t, t):
    z, x, x_t, t = logits.double().numpy(), x.numpy(), x_t.numpy(), t.double().numpy()
    top = z.max(-1, keepdims=True)
    log_p = z - top - np.log(np.exp(z - top).sum(-1, keepdims=True))
    picked = np.take_along_axis(log_p, x[..., None], -1)[..., 0]
    return -np.where(x_t == z.shape[-1], picked, 0).sum(1) / t


def unmask_step_loop(x_t, guess, u, s, t, K):
    out = x_t.clone()
    for at in np.ndindex(*x_t.shape):
        if x_t[at] == K and u[at] < 1 - s / t:
            out[at] = guess[at]
    return out


def unmask_step_torch(x_t, guess, u, s, t, K):
    stays = x_t.ne(K) | u.ge((t - s) / t)
    return x_t.where(stays, guess)


def unmask_step_numpy(x_t, guess, u, s, t, K):
    x, u = x_t.numpy().copy(), u.numpy()
    opens = (x == K) & (u * t < t - s)
    x[opens] = guess.numpy()[opens]
    return x


def few_step_law_loop(p, steps):
    out = torch.zeros_like(p)
    for i in range(p.shape[0]):
        for j in range(p.shape[1]):
            apart = p[i].sum() * p[:, j].sum()
            out[i, j] = (apart + (steps - 1) * p[i, j]) / steps
    return out


def few_step_law_torch(p, steps):
    return torch.lerp(p, torch.outer(p.sum(1), p.sum(0)), 1 / steps)


def few_step_law_numpy(p, steps):
    p = p.double().numpy()
    return p + (np.outer(p.sum(1), p.sum(0)) - p) / steps


def two_orders_loop(p1, p2, p2_given, p1_given, x):
    bound, exact = [], []
    for i, j in x.tolist():
        a, b = p1[i] * p2_given[i, j], p2[j] * p1_given[j, i]
        bound.append(torch.log(a * b) / 2)
        exact.append(torch.log((a + b) / 2))
    return torch.stack(bound), torch.stack(exact)


def two_orders_torch(p1, p2, p2_given, p1_given, x):
    a = (p1[:, None] * p2_given)[tuple(x.T)]
    b = (p2[:, None] * p1_given).T[tuple(x.T)]
    return 0.5 * (a.log() + b.log()), a.lerp(b, 0.5).log()


def two_orders_numpy(p1, p2, p2_given, p1_given, x):
    p1, p2, g2, g1 = (t.double().numpy() for t in (p1, p2, p2_given, p1_given))
    i, j = x.numpy().T
    logs = np.log([p1[i] * g2[i, j], p2[j] * g1[j, i]])
    return np.mean(logs, 0), np.logaddexp(*logs) - np.log(2)


def middle_law_loop(P, left, right):
    rows = []
    for a, b in zip(left, right):
        row = torch.stack([P[a, k] * P[k, b] for k in range(len(P))])
        rows.append(row / row.sum())
    return torch.stack(rows)


def middle_law_torch(P, left, right):
    log = P.log()
    return torch.softmax(log[left] + log.mT[right], -1)


def middle_law_numpy(P, left, right):
    """Of all steps from left to right in two, the share through each letter."""
    P, a, b = P.double().numpy(), left.numpy(), right.numpy()
    return P[a] * P[:, b].T / (P @ P)[a, b][:, None]


DEMANDS = {
    "mask_tokens": {
        "the probability $t$ of that row": "every row has its own t",
        "its own uniform number": "every token has a number",
        "the code $K$ stands for hidden": "0 is a value like others",
    },
    "masked_bound": {
        "the sum over the hidden tokens": "the hidden tokens are summed",
        "divides by $t$": "the weight 1 / t is missing",
        "minus the logarithm": "what is asked for lies above",
        "each hidden token costs": "visible tokens cost nothing",
    },
    "unmask_step": {
        "stays hidden with the probability $s/t$": "s / t is the chance to stay",
        "Tokens that are visible stay as they are": "what is visible stays",
        "below the chance to open": "of all tokens a share t - s",
    },
    "few_step_law": {
        "in the same step": "1 / steps^2",
        "each is drawn from its own marginal": lambda p, steps: p,
        "the second one is drawn given the first": "this is the product of the marginals",
    },
    "two_orders": {
        "first the bound": "the bound comes first",
        "the mean over both orders of the logarithm": "the bound is the mean of two",
        "the exact $\\log p$ of what the sampler draws": "the sampler draws an order",
    },
    "middle_law": {
        "given both neighbours": "this knows the left neighbour alone",
        "row $a$ holds the probabilities of what comes after $a$": "the step to the right",
        "Return the law": "the probabilities of a row sum to 1",
    },
}

FIXED = {"two_orders": {(4, 1)}}
