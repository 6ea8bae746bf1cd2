"""gan/wgan: right answers in other styles, and what its text demands."""

import math

import numpy as np
import torch
from torch.nn.functional import logsigmoid, softplus


def certified_w1_loop(f_x, f_y, x, y):
    steepest = 0.0
    for a, place in zip(f_x.tolist(), x):
        for b, other in zip(f_y.tolist(), y):
            steepest = max(steepest, abs(a - b) / math.dist(place.tolist(), other.tolist()))
    return (sum(f_x.tolist()) / len(x) - sum(f_y.tolist()) / len(y)) / steepest


def certified_w1_torch(f_x, f_y, x, y):
    ratios = torch.cdist(f_x[:, None].double(), f_y[:, None].double())
    distances = torch.cdist(
        x.double(), y.double(), compute_mode="donot_use_mm_for_euclid_dist"
    )
    return f_x.mean().sub(f_y.mean()).div(ratios.div(distances).amax())


def certified_w1_numpy(f_x, f_y, x, y):
    f_x, f_y, x, y = (t.double().numpy() for t in (f_x, f_y, x, y))
    gaps = np.abs(np.subtract.outer(f_x, f_y))
    far = np.sqrt(((x[:, None] - y[None]) ** 2).sum(-1))
    return (f_x.mean() - f_y.mean()) / (gaps / far).max()


def gradient_penalty_loop(x, y, u, A, b):
    total = 0.0
    for i in range(len(x)):
        z = (1 - u[i]) * x[i] + u[i] * y[i]
        slope = [sum(A[j, k] * z[k] for k in range(len(z))) + b[j] for j in range(len(z))]
        total += (math.sqrt(sum(float(s) ** 2 for s in slope)) - 1) ** 2
    return total / len(x)


def gradient_penalty_torch(x, y, u, A, b):
    """By autograd, as with a network."""
    z = torch.lerp(x, y, u[:, None]).requires_grad_()
    f = 0.5 * torch.einsum("bi,ij,bj->b", z, A, z) + z @ b
    (slope,) = torch.autograd.grad(f.sum(), z)
    return torch.linalg.vector_norm(slope, dim=1).sub(1).pow(2).mean()


def gradient_penalty_numpy(x, y, u, A, b):
    x, y, u, A, b = (t.double().numpy() for t in (x, y, u, A, b))
    slope = np.einsum("ij,bj->bi", A, x * (1 - u)[:, None] + y * u[:, None]) + b
    return np.mean((np.linalg.norm(slope, axis=1) - 1) ** 2)


def power_step_loop(W, u):
    n, m = W.shape
    v = torch.stack([sum(W[i, j] * u[i] for i in range(n)) for j in range(m)])
    v = v / sum(t**2 for t in v).sqrt()
    new = torch.stack([sum(W[i, j] * v[j] for j in range(m)) for i in range(n)])
    sigma = sum(t**2 for t in new).sqrt()
    return sigma, new / sigma, v


def power_step_torch(W, u):
    v = torch.nn.functional.normalize(u @ W, dim=0)
    u = torch.nn.functional.normalize(W @ v, dim=0)
    return torch.einsum("i,ij,j->", u, W, v), u, v


def power_step_numpy(W, u):
    W, u = W.double().numpy(), u.double().numpy()
    v = W.T @ u / np.linalg.norm(W.T @ u)
    return [np.linalg.norm(W @ v), W @ v / np.linalg.norm(W @ v), v]


def group_sort_loop(x):
    out = x.clone()
    for row in out:
        for k in range(0, len(row), 2):
            a, b = row[k].item(), row[k + 1].item()
            row[k], row[k + 1] = max(a, b), min(a, b)
    return out


def group_sort_torch(x):
    return x.view(len(x), -1, 2).sort(-1, descending=True).values.view_as(x)


def group_sort_numpy(x):
    """As the middle of a pair, and half of its distance."""
    x = x.double().numpy()
    middle, half = (x[:, ::2] + x[:, 1::2]) / 2, np.abs(x[:, ::2] - x[:, 1::2]) / 2
    return np.stack([middle + half, middle - half], -1).reshape(x.shape)


def relativistic_losses_loop(d_real, d_fake):
    D = G = 0.0
    for a, b in zip(d_real.tolist(), d_fake.tolist()):
        gap = a - b
        soft = max(gap, 0.0) + math.log1p(math.exp(-abs(gap)))
        D, G = D + soft - gap, G + soft
    return D / len(d_real), G / len(d_real)


def relativistic_losses_torch(d_real, d_fake):
    return [-logsigmoid(d_real - d_fake).mean(), -logsigmoid(d_fake - d_real).mean()]


def relativistic_losses_numpy(d_real, d_fake):
    gap = d_real.double().numpy() - d_fake.double().numpy()
    return np.logaddexp(0, -gap).mean(), np.logaddexp(0, gap).mean()


def average_step_loop(mean, weights, step, decay):
    out = torch.empty(mean.numel())
    for i, (a, b) in enumerate(zip(mean.flatten().tolist(), weights.flatten().tolist())):
        stays = step / (step + 10) if step / (step + 10) < decay else decay
        out[i] = stays * a + (1 - stays) * b
    return out.view(mean.shape)


def average_step_torch(mean, weights, step, decay):
    return mean.lerp(weights, max(1 - decay, 10 / (step + 10)))


def average_step_numpy(mean, weights, step, decay):
    mean, weights = mean.double().numpy(), weights.double().numpy()
    return mean + max(1 - decay, 10 / (step + 10)) * (weights - mean)


def pairs_within(f_x, f_y, x, y):
    """The steepest of all pairs, those within a sample too: more than is needed."""
    f, z = torch.cat([f_x, f_y]), torch.cat([x, y])
    i, j = torch.triu_indices(len(f), len(f), 1)
    steepest = ((f[i] - f[j]).abs() / (z[i] - z[j]).norm(dim=1)).max()
    return (f_x.mean() - f_y.mean()) / steepest


def underflowing(d_real, d_fake):
    """Right, but for logits that exp does not hold."""
    return (
        torch.log(1 + torch.exp(d_fake - d_real)).mean(),
        softplus(d_real - d_fake).mean(),
    )


def in_double(d_real, d_fake):
    """Right, but for logits whose sigmoid float64 does not hold either."""
    gap = d_real.double() - d_fake.double()
    return -gap.sigmoid().log().mean(), -(-gap).sigmoid().log().mean()


def late_start(mean, weights, step, decay):
    """The first steps keep nothing."""
    now = min(decay, step / (step + 10)) if step >= 10 else 0.0
    return now * mean + (1 - now) * weights


DEMANDS = {
    "certified_w1": {
        "from a data point to a fake": pairs_within,
        "the *largest* slope": "the mean slope is no bound",
        "with its sign": "keep the sign",
    },
    "gradient_penalty": {
        "a slope below 1 costs as well": "this is the one-sided penalty",
        "one number $u$ per pair": "u (B,) times (B, D)",
        "*length* of a critic's slope be 1": "not every coordinate",
    },
    "power_step": {
        "each made of length 1": "v is to have length 1",
        "of *one* step": "this is the exact value",
        "then a new $u$": "u is still the guess",
    },
    "group_sort": {
        "the larger one first": "the larger of a pair",
        "Neighbours": "a pair are neighbours",
        "stay where they are": "each pair stays where it was",
    },
    "relativistic_losses": {
        "row by row": "x_i is paired with y_i",
        "in the thousands": underflowing,
        "logits in the thousands": in_double,
        "a mean over the pairs": "the mean comes last",
    },
    "average_step": {
        "whichever is smaller": "take the smaller of the two",
        "step / (step + 10)": "the start is missing",
        "at step $s = 1, 2": late_start,
    },
}
