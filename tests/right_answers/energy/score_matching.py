"""energy/score_matching: right answers in other styles, and what its text demands."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch.func import jacrev, vmap


def best_bell_loop(x):
    N, D = x.shape
    m = [sum(row[d] for row in x.double().tolist()) / N for d in range(D)]
    C = torch.zeros(D, D, dtype=torch.float64)
    for row in x.double().tolist():
        for i in range(D):
            for j in range(D):
                C[i, j] += (row[i] - m[i]) * (row[j] - m[j]) / N
    return torch.tensor(m), C.inverse()


def best_bell_torch(x):
    C = torch.cov(x.T, correction=0).reshape(x.shape[1], -1)
    return x.mean(0), torch.cholesky_inverse(torch.linalg.cholesky(C))


def best_bell_numpy(x):
    """By the normal equations of the loss itself."""
    x = x.double().numpy()
    centred = x - x.mean(0)
    D = x.shape[1]
    return x.mean(0), np.linalg.solve(centred.T @ centred, len(x) * np.eye(D))


def trace_of_jacobian_loop(x, W, V):
    x = x.detach().requires_grad_()
    s, total = torch.tanh(x @ W) @ V, 0
    for d in range(x.shape[1]):
        total = total + torch.autograd.grad(s[:, d].sum(), x, create_graph=True)[0][:, d]
    return total


def trace_of_jacobian_torch(x, W, V):
    J = vmap(jacrev(lambda x: torch.tanh(x @ W) @ V))(x)
    return J.diagonal(dim1=1, dim2=2).sum(1)


def trace_of_jacobian_numpy(x, W, V):
    x, W, V = (t.double().numpy() for t in (x, W, V))
    slopes = 1 / np.cosh(x @ W) ** 2
    return [np.einsum("dh,h,hd->", W, row, V) for row in slopes]


def sliced_loss_loop(s, Jv, v):
    total = 0.0
    for a, b, c in zip(s.tolist(), Jv.tolist(), v.tolist()):
        total += sum(i * i / 2 + j * k for i, j, k in zip(a, b, c))
    return total / len(s)


def sliced_loss_torch(s, Jv, v):
    return (torch.einsum("bd,bd->", s, s) / 2 + torch.einsum("bd,bd->", v, Jv)) / len(s)


def sliced_loss_numpy(s, Jv, v):
    s, Jv, v = (t.double().numpy() for t in (s, Jv, v))
    return np.sum(s * s / 2 + v * Jv, axis=1).mean()


def denoising_loss_loop(s, e, sigma):
    total = 0.0
    for a, b, size in zip(s.tolist(), e.tolist(), sigma.tolist()):
        total += sum((size * i + j) ** 2 for i, j in zip(a, b))
    return total / (2 * len(s))


def denoising_loss_torch(s, e, sigma):
    return F.mse_loss(sigma[:, None] * s, -e, reduction="sum") / (2 * len(s))


def denoising_loss_numpy(s, e, sigma):
    """With the square multiplied out, and the loss weighted by sigma^2."""
    s, e, sigma = (t.double().numpy() for t in (s, e, sigma))
    rows = (s**2).sum(1) + 2 * (s * e).sum(1) / sigma + (e**2).sum(1) / sigma**2
    return np.mean(sigma**2 * rows) / 2


def tweedie_loop(x, s, sigma):
    out = torch.empty_like(x)
    for i in range(len(x)):
        for d in range(x.shape[1]):
            out[i, d] = x[i, d] + sigma * sigma * s[i, d]
    return out


def tweedie_torch(x, s, sigma):
    return x.add(s, alpha=sigma**2)


def tweedie_numpy(x, s, sigma):
    return [*(x.numpy() + np.square(sigma) * s.numpy())]


def nce_loss_loop(E, log_n, E_noise, log_n_noise, c):
    nu, total = len(E_noise) / len(E), 0.0
    for a, b in zip(E.tolist(), log_n.tolist()):
        total += np.logaddexp(0, a + c.item() + b + math.log(nu))
    for a, b in zip(E_noise.tolist(), log_n_noise.tolist()):
        total += np.logaddexp(0, -a - c.item() - b - math.log(nu))
    return total / len(E)


def nce_loss_torch(E, log_n, E_noise, log_n_noise, c):
    G = -torch.cat([E, E_noise]) - c - torch.cat([log_n, log_n_noise])
    labels = torch.cat([torch.ones_like(E), torch.zeros_like(E_noise)])
    G = G - math.log(len(E_noise) / len(E))
    return F.binary_cross_entropy_with_logits(G, labels, reduction="sum") / len(E)


def nce_loss_numpy(E, log_n, E_noise, log_n_noise, c):
    """As log p / (p + nu p_n), by log-sum-exp."""
    E, log_n, E_noise, log_n_noise, c = (
        t.double().numpy() for t in (E, log_n, E_noise, log_n_noise, c)
    )
    nu = len(E_noise) / len(E)
    data = np.logaddexp(-E - c, np.log(nu) + log_n) - (-E - c)
    noise = np.logaddexp(-E_noise - c, np.log(nu) + log_n_noise) - np.log(nu) - log_n_noise
    return data.mean() + nu * noise.mean()


def nu_is_three(E, log_n, E_noise, log_n_noise, c):
    """The number of the first ask, written down."""
    whole = min(len(E_noise), 3 * len(E))
    return nce_loss_torch(E, log_n, E_noise[:whole], log_n_noise[:whole], c)


DEMANDS = {
    "best_bell": {
        "$P$ is the matrix": "this is the covariance",
        "means over all $N$ points": "the loss averages over N points",
        "around their mean": "the second moments are to be taken around the mean",
        "a whole matrix": "the dimensions vary together",
    },
    "trace_of_jacobian": {
        "only the $D$ derivatives": "this adds up all D x D derivatives",
        "one number for each row": "one trace for each row",
        "the sum": "a trace is a sum",
    },
    "sliced_loss": {
        "$|s|^2/2$ as it is": "(v.s)^2 has the mean",
        "mean over the rows": "an expectation is a mean",
        "half": "half of |s|^2",
    },
    "denoising_loss": {
        "each row has its own $\\sigma$": "each row has a noise of its own",
        "weighted by $\\sigma^2$": "multiplied by sigma is missing",
        "half the squared length": "half of the square",
    },
    "tweedie": {
        "towards the data": "this walks away",
        "$\\sigma^2$ times": "s is -e / sigma on average",
    },
    "nce_loss": {
        "is told by the lengths": nu_is_three,
        "- \\log\\nu": "log nu is missing in G",
        "of 300": "log sigmoid(-300)",
        "times the mean over the noise": "there are nu noise points",
    },
}
