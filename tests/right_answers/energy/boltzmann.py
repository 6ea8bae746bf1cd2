"""energy/boltzmann: right answers in other styles, and what its text demands."""

import itertools
import math

import numpy as np
import torch
import torch.nn.functional as F


def spin_probability_loop(s, J, b, i):
    out = []
    for row in s.tolist():
        energies = {}
        for value in (-1, 1):
            spins = [*row]
            spins[i] = value
            pairs = sum(
                float(J[m, n]) * spins[m] * spins[n]
                for m in range(len(spins))
                for n in range(m)
            )
            energies[value] = -pairs - sum(float(p) * q for p, q in zip(b, spins))
        out.append(1 / (1 + math.exp(energies[1] - energies[-1])))
    return out


def spin_probability_torch(s, J, b, i):
    others = J.clone().fill_diagonal_(0)
    return F.linear(s, others[i : i + 1], b[i : i + 1]).squeeze(1).mul(2).sigmoid()


def spin_probability_numpy(s, J, b, i):
    s, J, b = s.numpy(), J.numpy(), b.numpy()
    kept = np.arange(len(b)) != i
    return (1 + np.tanh(s[:, kept] @ J[kept, i] + b[i])) / 2


def free_energy_loop(v, W, b, c):
    out = []
    for row in v:
        total = -float(row.double() @ b.double())
        for j in range(len(c)):
            a = float(c[j].double() + row.double() @ W[:, j].double())
            total -= max(a, 0) + math.log1p(math.exp(-abs(a)))
        out.append(total)
    return torch.tensor(out)


def free_energy_torch(v, W, b, c):
    inputs = torch.addmm(c, v, W)
    both = torch.stack([torch.zeros_like(inputs), inputs])  # h_j = 0, 1
    return torch.logsumexp(both, 0).sum(1).add(v.mv(b)).neg()


def free_energy_numpy(v, W, b, c):
    v, W, b, c = (t.numpy() for t in (v, W, b, c))
    return -v @ b - np.logaddexp(0, c + v @ W).sum(1)


def cd_gradient_loop(v0, vk, W, c):
    total = torch.zeros_like(W)
    for rows, sign in ((v0, 1), (vk, -1)):
        for v in rows:
            h = torch.sigmoid(c + v @ W)
            total += sign * torch.outer(v, h) / len(rows)
    return total


def cd_gradient_torch(v0, vk, W, c):
    """By autograd, from the free energies."""
    W = W.clone().requires_grad_()
    with torch.enable_grad():
        ups = [F.softplus(c + v @ W).sum(1).mean() for v in (v0, vk)]
        (slope,) = torch.autograd.grad(ups[0] - ups[1], W)
    return slope


def cd_gradient_numpy(v0, vk, W, c):
    W, c, out = W.double().numpy(), c.double().numpy(), []
    for v in (v0.double().numpy(), vk.double().numpy()):
        h = 1 / (1 + np.exp(-(c + v @ W)))
        out.append(np.einsum("bi,bj->ij", v, h) / v.shape[0])
    return out[0] - out[1]


def log_z_by_hidden_loop(W, b, c):
    W, b, c, terms = W.double(), b.double(), c.double(), []
    for bits in itertools.product((0.0, 1.0), repeat=len(c)):
        h = torch.tensor(bits).double()
        term = float(c @ h)
        for i in range(len(b)):
            a = float(b[i] + W[i] @ h)
            term += max(a, 0) + math.log1p(math.exp(-abs(a)))
        terms.append(term)
    top = max(terms)
    return top + math.log(sum(math.exp(t - top) for t in terms))


def log_z_by_hidden_torch(W, b, c):
    h = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * len(c)).view(-1, len(c))
    return torch.addmv(F.softplus(torch.addmm(b, h, W.T)).sum(1), h, c).logsumexp(0)


def log_z_by_hidden_numpy(W, b, c):
    W, b, c = W.double().numpy(), b.double().numpy(), c.double().numpy()
    h = (np.arange(2 ** len(c))[:, None] >> np.arange(len(c))) & 1
    return np.logaddexp.reduce(h @ c + np.logaddexp(0, b + h @ W.T).sum(1))


def ais_step_weight_loop(v, a, b, c, W, beta0, beta1):
    out = []
    for row in v:
        logs = []
        for beta in (beta0, beta1):
            log_f = float((1 - beta) * (row @ a) + beta * (row @ b))
            for j in range(len(c)):
                log_f += math.log1p(math.exp(beta * float(c[j] + row @ W[:, j])))
            logs.append(log_f)
        out.append(logs[1] - logs[0])
    return out


def ais_step_weight_torch(v, a, b, c, W, beta0, beta1):
    betas = torch.tensor([beta0, beta1])
    visible = torch.lerp(a, b, betas[:, None]) @ v.T  # (2, n)
    hidden = F.softplus(betas[:, None, None] * torch.addmm(c, v, W)).sum(2)
    return (visible + hidden).diff(dim=0).squeeze(0)


def ais_step_weight_numpy(v, a, b, c, W, beta0, beta1):
    v, a, b, c, W = (t.numpy() for t in (v, a, b, c, W))
    inputs = c + v @ W
    hidden = np.logaddexp(0, beta1 * inputs) - np.logaddexp(0, beta0 * inputs)
    return (beta1 - beta0) * (v @ (b - a)) + hidden.sum(1)


def product_of_gaussians_loop(m, s):
    """One after the other: each product of two is a Gaussian again."""
    mean, var = float(m[0]), float(s[0]) ** 2
    for other, width in zip(m[1:], s[1:]):
        gain = var / (var + float(width) ** 2)
        mean, var = mean + gain * (float(other) - mean), (1 - gain) * var
    return mean, math.sqrt(var)


def product_of_gaussians_torch(m, s):
    precision = s.pow(-2)
    return torch.softmax(precision.log(), 0) @ m, precision.sum().rsqrt()


def product_of_gaussians_numpy(m, s):
    m, s = m.double().numpy(), s.double().numpy()
    return [np.average(m, weights=s**-2), 1 / np.sqrt(np.sum(s**-2))]


def bits(*given):
    return ais_step_weight_torch(*given) / math.log(2)


def log_z_bits(W, b, c):
    return log_z_by_hidden_torch(W, b, c) / math.log(2)


def same_number(v0, vk, W, c):
    """Right only where there are as many chains as data."""
    return (v0.T @ torch.sigmoid(c + v0 @ W) - vk.T @ torch.sigmoid(c + vk @ W)) / len(vk)


DEMANDS = {
    "spin_probability": {
        "a spin does not push itself": "J_ii is counted",
        "the probability that spin $i$ is $+1$": "the sign is wrong",
        "$s_i\\in\\{-1, +1\\}$": "the two energies differ by twice",
    },
    "free_energy": {
        "summed out": "this is the energy with the best h",
        "also for large weights": "log(1 + e^a) overflows",
        "-b^\\top v": "the visible units' own biases",
    },
    "cd_gradient": {
        "of the log-likelihood": "this is model minus data",
        "need not be as many": same_number,
        "means over": "both sides are means",
        "probabilities of $h$": "the sigmoid is missing",
    },
    "log_z_by_hidden": {
        "all $2^H$ patterns": "these are the H patterns",
        "must not overflow": "e^-E overflows",
        "in nats": log_z_bits,
    },
    "ais_step_weight": {
        "log f_{\\beta_1}(v) - \\log f_{\\beta_0}(v)": "the new density stands above",
        "in nats": bits,
        "(1-\\beta)": "the start's biases a fade",
        "\\mathrm{softplus}\\bigl(\\beta\\,": "beta stands inside",
    },
    "product_of_gaussians": {
        "mean and width": "the mean is right; this is the variance",
        "proportional to the product": "the precisions are added, not averaged",
    },
}
