"""diffusion/few_step: right answers in other styles, and what its text demands."""

import math

import numpy as np
import torch


def boundary_loop(s, low, sigma_data):
    rows = []
    for level in s.double().tolist():
        skip = 1 / (1 + ((level - low) / sigma_data) ** 2)
        rows.append((skip, sigma_data * (level - low) / math.hypot(level, sigma_data)))
    return [list(column) for column in zip(*rows)]


def boundary_torch(s, low, sigma_data):
    gap = s.sub(low)
    root = torch.hypot(s, torch.tensor(sigma_data))
    return gap.div(sigma_data).square().add(1).reciprocal(), gap.mul(sigma_data).div(root)


def boundary_numpy(s, low, sigma_data):
    s = s.double().numpy()
    phi = np.arctan((s - low) / sigma_data)
    return np.cos(phi) ** 2, np.sin(np.arctan(s / sigma_data)) * sigma_data * (s - low) / s


def consistency_loss_loop(a, x0, eps, less, more):
    loss = slope = 0.0
    for x, e in zip(x0.double().flatten().tolist(), eps.double().flatten().tolist()):
        z = x + more * e
        gap = z / (1 + a * more) - (x + less * e) / (1 + a * less)
        loss += gap**2
        slope += 2 * gap * -more * z / (1 + a * more) ** 2
    by = len(x0) * (more - less)
    return loss / by, slope / by


def consistency_loss_torch(a, x0, eps, less, more):
    a = torch.tensor(a, dtype=torch.float64, requires_grad=True)
    f = lambda s: (x0 + s * eps) / (1 + a * s)  # noqa: E731
    loss = (f(more) - f(less).detach()).square().sum(1).mean() / (more - less)
    return loss.detach(), torch.autograd.grad(loss, a)[0]


def consistency_loss_numpy(a, x0, eps, less, more):
    x, e = x0.double().numpy(), eps.double().numpy()
    teacher, h = (x + less * e) / (1 + a * less), 1e-5
    loss = lambda a: (((x + more * e) / (1 + a * more) - teacher) ** 2).sum() / len(x)  # noqa: E731
    by = more - less
    return loss(a) / by, (loss(a + h) - loss(a - h)) / (2 * h * by)


def mean_velocity_loop(z, v, t, r):
    out = []
    for row in z.double().tolist():
        new = []
        for value, var in zip(row, v.double().tolist()):
            now, then = (math.sqrt((1 - k) ** 2 * var + k * k) for k in (t, r))
            new.append((value - value * then / now) / (t - r))
        out.append(new)
    return out


def mean_velocity_torch(z, v, t, r):
    times = torch.tensor([t, r], dtype=torch.float64)[:, None]
    now, then = torch.hypot((1 - times) * v.double().sqrt(), times.expand(-1, len(v)))
    return torch.lerp(z.double(), z * (then / now), 1 / (t - r)) * -1 + z.double()


def mean_velocity_numpy(z, v, t, r):
    """The mean over 4,001 times of the velocity along the path, by Simpson's rule."""
    z, v = z.double().numpy(), v.double().numpy()
    k = np.linspace(r, t, 4001)[:, None]
    var = (1 - k) ** 2 * v + k**2
    growth = (k - (1 - k) * v) / var * np.sqrt(var / ((1 - t) ** 2 * v + t * t))
    weights = np.ones(4001)
    weights[1:-1:2], weights[2:-1:2] = 4, 2
    return z * (weights @ growth) / weights.sum()


def shortcut_target_loop(z, t, d, *w):
    out = []
    for row in z.double().tolist():
        new = []
        for value in row:
            first = (w[0] + w[1] * t + w[2] * d / 2) * value
            there = value - d / 2 * first
            second = (w[0] + w[1] * (t - d / 2) + w[2] * d / 2) * there
            new.append((first + second) / 2)
        out.append(new)
    return out


def shortcut_target_torch(z, t, d, *w):
    ask = lambda z, t: z * (torch.tensor(w) @ torch.tensor([1.0, t, d / 2]))  # noqa: E731
    first = ask(z, t)
    second = ask(torch.add(z, first, alpha=-d / 2), t - d / 2)
    return torch.stack([first, second]).mean(0)


def shortcut_target_numpy(z, t, d, *w):
    """The way of two jumps, divided by the time."""
    z = z.double().numpy()
    there = z
    for at in (t, t - d / 2):
        there = there * (1 - d / 2 * (w[0] + w[1] * at + w[2] * d / 2))
    return (z - there) / d


def meanflow_target_loop(x0, eps, t, r, a, b):
    out = []
    for p, q in zip(x0.double().tolist(), eps.double().tolist()):
        row = []
        for x, e in zip(p, q):
            z, v = x + t * (e - x), e - x
            row.append(v - (t - r) * (a * z * z + 2 * (a * t + b * r) * z * v))
        out.append(row)
    return out


def meanflow_target_torch(x0, eps, t, r, a, b):
    x0, eps = x0.double(), eps.double()
    u = lambda z, t, r: (a * t + b * r) * z**2  # noqa: E731
    one = torch.ones((), dtype=torch.float64)
    z, v = torch.lerp(x0, eps, t), eps - x0
    _, slope = torch.func.jvp(u, (z, t * one, r * one), (v, one, 0 * one))
    return v - (t - r) * slope


def meanflow_target_numpy(x0, eps, t, r, a, b):
    """By differences along the line."""
    x, e, h = x0.double().numpy(), eps.double().numpy(), 1e-5
    u = lambda k: (a * k + b * r) * ((1 - k) * x + k * e) ** 2  # noqa: E731
    return e - x - (t - r) * (u(t + h) - u(t - h)) / (2 * h)


def renoise_loop(x, s, low, eps):
    more = (s**2 - low**2) ** 0.5
    return [[a + more * b for a, b in zip(p, q)] for p, q in zip(x.tolist(), eps.tolist())]


def renoise_torch(x, s, low, eps):
    return torch.add(x, eps, alpha=math.sqrt((s - low) * (s + low)))


def renoise_numpy(x, s, low, eps):
    angle = np.arccos(low / s)
    return x.double().numpy() + s * np.sin(angle) * eps.double().numpy()


DEMANDS = {
    "boundary": {
        "at $s=\\text{low}$": "the boundary is at s = low",
        "for any $\\sigma_d$": "sigma_data is taken for 1",
        "in this order": "the order is c_skip, c_out",
    },
    "consistency_loss": {
        "the same noise": "the two levels have different noise",
        "a constant": "the slope goes through the teacher",
        "divided by $s'-s$": "the weight 1 / (more - less)",
        "sum over the numbers of a point": "right up to a factor of D",
    },
    "mean_velocity": {
        "at the time $t$": "z is the point at the time t",
        "mean from $r$ to $t$": "this is the velocity at the time t",
    },
    "shortcut_target": {
        "where the first half ended": "the second half begins where",
        "of length $d/2$": "the network is asked for jumps of length",
        "The mean": "the two velocities are averaged",
    },
    "meanflow_target": {
        "$r$ stands still": "r stands still",
        "$z$ moves": "z moves while t grows",
        "along the line": "z moves with v",
    },
    "renoise": {
        "already": "this brings all of s",
        "variances add": "independent noise adds in variances",
    },
}
