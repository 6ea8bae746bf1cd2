"""flows/realnvp: right answers in other styles, and what its text demands."""

import math

import numpy as np
import torch


def coupling_forward_loop(x, mask, s, t):
    z, log_det = x.clone(), torch.zeros(len(x))
    for b in range(len(x)):
        for d in range(len(mask)):
            if mask[d] == 0:
                z[b, d] = x[b, d] * math.exp(s[b, d]) + t[b, d]
                log_det[b] += s[b, d]
    return z, log_det


def coupling_forward_torch(x, mask, s, t):
    passes = mask.bool()
    z = torch.where(passes, x, torch.addcmul(t, x, s.exp()))
    return z, s.masked_fill(passes, 0).sum(dim=1)


def coupling_forward_numpy(x, mask, s, t):
    x, s, t, free = x.numpy(), s.numpy(), t.numpy(), mask.numpy() == 0
    z = np.copy(x)
    z[:, free] = x[:, free] * np.exp(s[:, free]) + t[:, free]
    return [z, s[:, free].sum(1)]


def coupling_inverse_loop(z, mask, s, t):
    rows, log_dets = [], []
    for b in range(len(z)):
        free = [d for d in range(len(mask)) if not mask[d]]
        row = z[b].tolist()
        for d in free:
            row[d] = (row[d] - float(t[b, d])) / math.exp(s[b, d])
        rows.append(row)
        log_dets.append(-sum(float(s[b, d]) for d in free))
    return torch.tensor(rows), torch.tensor(log_dets)


def coupling_inverse_torch(z, mask, s, t):
    x = mask * z + (1 - mask) * (z - t) / s.exp()
    return x, torch.mv(s, mask - 1)


def coupling_inverse_numpy(z, mask, s, t):
    z, s, t, mask = z.numpy(), s.numpy(), t.numpy(), mask.numpy()
    x = np.where(mask == 1, z, np.exp(-s) * (z - t))
    return x, (-s * (mask == 0)).sum(axis=-1)


def additive_floor_loop(p, area):
    mean_area, entropy = 0.0, 0.0
    for i, one in enumerate(sorted(p.tolist(), reverse=True)):
        mean_area += one * area * (i + 1) * area
        entropy -= one * area * math.log(one)
    return 1 + math.log(mean_area) - entropy


def additive_floor_torch(p, area):
    higher = (p[:, None] <= p).sum(1) * area
    inner = torch.dot(p, higher) * area
    return inner.log() - torch.special.entr(p).sum() * area + 1


def additive_floor_numpy(p, area):
    p = np.sort(p.numpy())
    return 1 + np.log(area**2 * p @ np.arange(len(p), 0, -1)) + area * p @ np.log(p)


def actnorm_start_loop(x):
    means, scales = [], []
    for c in range(x.shape[1]):
        values = [float(v) for image in x for v in image[c].flatten()]
        mean = sum(values) / len(values)
        variance = sum((v - mean) ** 2 for v in values) / (len(values) - 1)
        means.append(mean)
        scales.append(-math.log(variance) / 2)
    return means, scales


def actnorm_start_torch(x):
    variance, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
    return mean, variance.rsqrt().log()


def actnorm_start_numpy(x):
    x = x.numpy()
    return x.mean((0, 2, 3)), -np.log(x.std((0, 2, 3)))  # numpy divides by n


def lu_matrix_loop(P, lower, upper, sign, log_d, H, W):
    C = len(P)
    L, U, log_det = torch.eye(C), torch.zeros(C, C), 0.0
    for i in range(C):
        U[i, i] = sign[i] * math.exp(log_d[i])
        for j in range(i):
            L[i, j], U[j, i] = lower[i, j], upper[j, i]
        for _ in range(H * W):
            log_det += log_d[i]
    return P @ (L @ U), log_det


def lu_matrix_torch(P, lower, upper, sign, log_d, H, W):
    L, U = lower.tril(-1), upper.triu(1)
    L.fill_diagonal_(1)
    U.diagonal().copy_(sign * torch.exp(log_d))
    matrix = torch.linalg.multi_dot([P, L, U])
    return matrix, H * W * torch.linalg.slogdet(matrix).logabsdet


def lu_matrix_numpy(P, lower, upper, sign, log_d, H, W):
    P, lower, upper, sign, log_d = (a.numpy() for a in (P, lower, upper, sign, log_d))
    L = np.tril(lower, -1) + np.eye(len(P))
    return P @ L @ (np.triu(upper, 1) + np.diag(sign * np.exp(log_d))), log_d.sum() * H * W


def code_bounds_loop(log_p, log_q, K, D):
    mean, tight = [], []
    for b in range(log_p.shape[1]):
        w = [
            p - D * math.log(K) - q
            for p, q in zip(log_p[:, b].tolist(), log_q[:, b].tolist())
        ]
        best = max(w)
        mean.append(sum(w) / len(w))
        tight.append(best + math.log(sum(math.exp(a - best) for a in w) / len(w)))
    return torch.tensor(mean), torch.tensor(tight)


def code_bounds_torch(log_p, log_q, K, D):
    w = torch.sub(log_p, log_q) - D * math.log(K)
    best = w.max(dim=0).values
    return w.mean(dim=0), best + (w - best).exp().mean(dim=0).log()


def code_bounds_numpy(log_p, log_q, K, D):
    w = log_p.numpy() - log_q.numpy() - D * np.log(K)
    both = w.mean(0), np.logaddexp.reduce(w, 0) - np.log(len(w))
    return np.stack(both)


def one_scale_per_image(x):
    flat = x.flatten(2)
    return flat.mean(2).mean(0), -flat.std(2).mean(0).log()


def one_shift(log_p, log_q, K, D):
    w = log_p - D * math.log(K) - log_q
    return w.mean(0), (w - w.max()).exp().mean(0).log() + w.max()


DEMANDS = {
    "coupling_forward": {
        "Where the mask is 1, $x$ passes": "the mask is the wrong way round",
        "where they must not count": "z is right; in log_det only dimensions",
    },
    "coupling_inverse": {
        "*of the inverse*": "x is right; log_det is that of the map",
        "what passed is still there": "what the mask keeps must come back",
    },
    "additive_floor": {
        "Sort the cells": "A(x) is the area where",
        "the first $i$ of them is $i\\,a$": "A counts cells",
        "in any order": "A(x) is the area where",
    },
    "actnorm_start": {
        "per *channel*": "every channel has a mean",
        "over all images and pixels": "these are figures of each pixel",
        "mean 0 and variance 1": "divide by the standard deviation",
        "from the first batch": one_scale_per_image,
    },
    "lu_matrix": {
        "*ones* on its diagonal": "L needs ones",
        "*zeros* there": "U's own diagonal",
        "on images of $H\\times W$ pixels": "the matrix is right",
    },
    "code_bounds": {
        "in the log domain": "exp of a large negative w",
        "may be $-4{,}000$ for one image": one_shift,
        "the mean of $w$ over draws": "the second bound averages",
    },
}
