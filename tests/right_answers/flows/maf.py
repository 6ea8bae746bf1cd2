"""flows/maf: right answers in other styles, and what its text demands."""

import math

import numpy as np
import torch
import torch.nn.functional as F


def affine_layer_loop(x, mu, log_sigma):
    z, log_det = torch.empty_like(x), []
    for b in range(x.shape[0]):
        total = 0.0
        for d in range(x.shape[1]):
            sigma = math.exp(log_sigma[b, d])
            z[b, d] = (x[b, d] - mu[b, d]) / sigma
            total -= math.log(sigma)
        log_det.append(total)
    return z, log_det


def affine_layer_torch(x, mu, log_sigma):
    return x.sub(mu).div(log_sigma.exp()), torch.einsum("bd->b", log_sigma).neg()


def affine_layer_numpy(x, mu, log_sigma):
    x, mu, a = x.numpy(), mu.numpy(), log_sigma.numpy()
    return (x - mu) / np.exp(a), np.log(np.prod(np.exp(-a), axis=1))


def invert_layer_loop(z, A, C):
    x = torch.zeros_like(z)
    for d in range(z.shape[1]):  # in order: what it reads is there already
        mu, log_sigma = x[:, :d] @ A[d, :d], torch.tanh(x[:, :d] @ C[d, :d])
        x[:, d] = mu + log_sigma.exp() * z[:, d]
    return x


def invert_layer_torch(z, A, C):
    x = torch.randn_like(z)  # it does not matter where it starts
    for _ in range(z.size(-1) + 2):
        x = torch.addcmul(F.linear(x, A), F.linear(x, C).tanh().exp(), z)
    return x


def invert_layer_numpy(z, A, C):
    z, A, C = z.numpy(), A.numpy(), C.numpy()
    rows = []
    for one in z:
        x = []
        for d in range(len(one)):
            past = np.array(x, dtype=np.float64)
            x.append(A[d, :d] @ past + np.exp(np.tanh(C[d, :d] @ past)) * one[d])
        rows.append(x)
    return rows


def knots_loop(a, bound):
    K = a.shape[1] // 2
    out = torch.full((2, len(a), K + 1), -float(bound))
    for which in range(2):
        for n in range(len(a)):
            parts = torch.softmax(a[n, which * K : (which + 1) * K], 0)
            for k in range(K):
                out[which, n, k + 1] = out[which, n, k] + 2 * bound * parts[k]
    return out[0], out[1]


def knots_torch(a, bound):
    edges = []
    for part in a.chunk(2, dim=-1):
        sides = 2 * bound * F.softmax(part, dim=-1)
        start = torch.full_like(sides[:, :1], -bound)
        edges.append(torch.cat([start, sides], dim=-1).cumsum(-1))
    return edges


def knots_numpy(a, bound):
    a = a.double().numpy().reshape(len(a), 2, -1)
    e = np.exp(a - a.max(-1, keepdims=True))
    edges = np.cumsum(e / e.sum(-1, keepdims=True), -1)
    edges = np.concatenate([np.zeros((len(a), 2, 1)), edges], -1)
    return tuple(np.moveaxis(bound * (2 * edges - 1), 1, 0))


def rational_quadratic_loop(t, s, d0, d1):
    values, slopes = [], []
    for x, h, left, right in zip(t.tolist(), s.tolist(), d0.tolist(), d1.tolist()):
        below = h + (left + right - 2 * h) * x * (1 - x)
        values.append((h * x * x + left * x * (1 - x)) / below)
        above = right * x * x + 2 * h * x * (1 - x) + left * (1 - x) ** 2
        slopes.append(2 * math.log(h) + math.log(above) - 2 * math.log(below))
    return values, slopes


def rational_quadratic_torch(t, s, d0, d1):
    """The slope by autograd: dy/dx = s d(fraction)/dt."""
    with torch.enable_grad():
        t = t.clone().requires_grad_()
        u = t - t.square()
        y = (s * t.square() + d0 * u) / (s + (d0 + d1 - 2 * s) * u)
        (slope,) = torch.autograd.grad(y.sum(), t)
    return y, (s * slope).log()


def rational_quadratic_numpy(t, s, d0, d1):
    t, s, d0, d1 = (a.numpy() for a in (t, s, d0, d1))
    w = 1 - t
    below = s * (t * t + w * w) + (d0 + d1) * t * w
    above = np.square(s) * (d1 * t**2 + 2 * s * t * w + d0 * w**2)
    return (s * t**2 + d0 * t * w) / below, np.log(above) - 2 * np.log(below)


def solve_bin_loop(v, s, d0, d1):
    """By bisection of the increasing curve."""
    out = []
    for y, h, left, right in zip(v.tolist(), s.tolist(), d0.tolist(), d1.tolist()):
        low, high = 0.0, 1.0
        for _ in range(50):
            t = (low + high) / 2
            u = t * (1 - t)
            below = h + (left + right - 2 * h) * u
            low, high = (low, t) if (h * t * t + left * u) / below > y else (t, high)
        out.append((low + high) / 2)
    return torch.tensor(out)


def solve_bin_torch(v, s, d0, d1):
    """In double precision the textbook's stable form has digits to spare."""
    v, s, d0, d1 = (x.double() for x in (v, s, d0, d1))
    e = d0 + d1 - 2 * s
    b = d0 - e * v
    return 2 * s * v / (b + (b.square() + 4 * (s - d0 + e * v) * s * v).sqrt())


def solve_bin_numpy(v, s, d0, d1):
    v, s, d0, d1 = (x.numpy() for x in (v, s, d0, d1))
    e = d0 + d1 - 2 * s
    a, b = s - d0 + e * v, d0 - e * v
    q = b + np.where(b >= 0, 1, -1) * np.sqrt(b * b + 4 * a * s * v)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(b >= 0, 2 * s * v / q, -q / (2 * a))


DEMANDS = {
    "affine_layer": {
        "= -\\sum_d\\log\\sigma_d": "the sign of the log-determinant",
        "z (B, D) and log |det dz/dx| (B,)": "one log-determinant per point",
        "Map the points to noise": "this is the other direction",
    },
    "invert_layer": {
        "How often?": "one pass too few",
        "where number $d$ looks at $x_{<d}$ only": "the network must read x",
    },
    "knots": {
        "the first $K$ numbers give the widths": "exchanged: the first K",
        "they begin at $-B$ and end at $B$": "the box begins at -bound",
        "$K+1$ knots": "K bins have K + 1 knots",
        "any numbers, large ones too": "exp of a number near 100",
    },
    "rational_quadratic": {
        "and log dy/dx": "the second value is the slope",
        "slopes at their left and right ends": "d0 is the slope at the left end",
    },
    "solve_bin": {
        "nearly straight": "right where b < 0",
        "$b$ is far below 0": "right where b is positive",
        "the root in $[0,1]$": "this is the other root",
    },
}
