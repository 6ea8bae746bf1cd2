"""diffusion/ddpm: right answers in other styles, and what its text demands."""

import math

import numpy as np
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal


def _numpy(*tensors):
    return [t.double().numpy() if torch.is_tensor(t) else t for t in tensors]


def noisy_loop(x0, t, eps, alpha_bar):
    out = torch.empty_like(x0)
    for i, k in enumerate(t.tolist()):
        share = alpha_bar[k].item()
        for d in range(x0.shape[1]):
            out[i, d] = math.sqrt(share) * x0[i, d] + math.sqrt(1 - share) * eps[i, d]
    return out


def noisy_torch(x0, t, eps, alpha_bar):
    share = alpha_bar.gather(0, t).unsqueeze(1)
    return torch.addcmul((1 - share).sqrt() * eps, share.sqrt(), x0)


def noisy_numpy(x0, t, eps, alpha_bar):
    x0, eps, alpha_bar = _numpy(x0, eps, alpha_bar)
    share = alpha_bar[t.numpy()]
    return list((np.sqrt(share) * x0.T + np.sqrt(1 - share) * eps.T).T)


def denoise_mixture_loop(x, alpha, sigma, means, std, weights):
    rows = []
    for row in x:
        logs, guesses = [], []
        for m, s, w in zip(means, std.tolist(), weights.tolist()):
            var = alpha**2 * s**2 + sigma**2
            away = row - alpha * m
            logs.append(
                math.log(w) - len(row) / 2 * math.log(var) - away.dot(away).item() / 2 / var
            )
            guesses.append(m + alpha * s**2 / var * away)
        p = [math.exp(each - max(logs)) for each in logs]
        rows.append(sum(a * guess for a, guess in zip(p, guesses)) / sum(p))
    return torch.stack(rows)


def denoise_mixture_torch(x, alpha, sigma, means, std, weights):
    """By Tweedie: the slope of the log density of x_t, from torch's distributions."""
    spread = (alpha**2 * std.double() ** 2 + sigma**2).sqrt()[:, None]
    at = alpha * means.double()
    parts = Independent(Normal(at, spread.expand_as(at)), 1)
    law = MixtureSameFamily(Categorical(weights.double()), parts)
    x = x.double().requires_grad_()
    (score,) = torch.autograd.grad(law.log_prob(x).sum(), x)
    return (x.detach() + sigma**2 * score) / alpha


def denoise_mixture_numpy(x, alpha, sigma, means, std, weights):
    x, means, std, weights = _numpy(x, means, std, weights)
    var = alpha**2 * std**2 + sigma**2
    squares = ((x[:, None] - alpha * means) ** 2).sum(-1)
    log_p = np.log(weights) - x.shape[1] / 2 * np.log(var) - squares / (2 * var)
    p = np.exp(log_p - np.logaddexp.reduce(log_p, axis=1, keepdims=True))
    keep = sigma**2 / var  # of the middle, for alpha * gain + keep = 1
    return (p * keep) @ means + (p @ (alpha * std**2 / var))[:, None] * x


def posterior_loop(x0, x_t, s, t, alpha_bar):
    signal, total = alpha_bar[s].item(), alpha_bar[t].item()
    ratio = total / signal
    var = (1 - signal) * (1 - ratio) / (1 - total)
    mean = torch.empty_like(x0)
    for i in range(len(x0)):
        for d in range(x0.shape[1]):
            old = math.sqrt(signal) * (1 - ratio) * x0[i, d]
            new = math.sqrt(ratio) * (1 - signal) * x_t[i, d]
            mean[i, d] = (old + new) / (1 - total)
    return mean, var


def posterior_torch(x0, x_t, s, t, alpha_bar):
    """As the prior N(a x0, v) corrected by what x_t says: a gain, as Kalman has it."""
    a, v = alpha_bar[s].sqrt(), 1 - alpha_bar[s]
    shrink = (alpha_bar[t] / alpha_bar[s]).sqrt()
    gain = v * shrink / (1 - alpha_bar[t])
    return a * x0 + gain * (x_t - shrink * a * x0), v * (1 - gain * shrink)


def posterior_numpy(x0, x_t, s, t, alpha_bar):
    """By precisions, which add; at s = 0 there is nothing to add."""
    x0, x_t, alpha_bar = _numpy(x0, x_t, alpha_bar)
    if s == 0:
        return x0, 0.0
    ratio = alpha_bar[t] / alpha_bar[s]
    one, two = 1 / (1 - alpha_bar[s]), ratio / (1 - ratio)
    mean = one * np.sqrt(alpha_bar[s]) * x0 + two * x_t / np.sqrt(ratio)
    return mean / (one + two), 1 / (one + two)


def clean_from_velocity_loop(v, x_t, alpha, sigma):
    return [
        [alpha * a - sigma * b for a, b in zip(row, other)]
        for row, other in zip(x_t.tolist(), v.tolist())
    ]


def clean_from_velocity_torch(v, x_t, alpha, sigma):
    both = torch.tensor([[-sigma, alpha], [alpha, sigma]])  # v and x_t of x0 and eps
    return torch.linalg.solve(both, torch.stack([v, x_t]).flatten(1))[0].view_as(v)


def clean_from_velocity_numpy(v, x_t, alpha, sigma):
    return np.multiply(x_t.numpy(), alpha) - np.multiply(v.numpy(), sigma)


def step_kl_loop(x0, x0_hat, s, t, alpha_bar):
    snr = [a / (1 - a) if a < 1 else math.inf for a in alpha_bar.double().tolist()]
    rows = zip(x0.tolist(), x0_hat.tolist())
    return [sum((snr[s] - snr[t]) / 2 * (a - b) ** 2 for a, b in zip(*row)) for row in rows]


def step_kl_torch(x0, x0_hat, s, t, alpha_bar):
    """As the KL of two Gaussians with the same variance."""
    x0, x0_hat, ab = x0.double(), x0_hat.double(), alpha_bar.double()
    ratio = ab[t] / ab[s]
    var = (1 - ab[s]) * (1 - ratio) / (1 - ab[t])
    shift = ab[s].sqrt() * (1 - ratio) / (1 - ab[t]) * (x0 - x0_hat)
    return torch.einsum("bd,bd->b", shift, shift) / (2 * var)


def step_kl_numpy(x0, x0_hat, s, t, alpha_bar):
    x0, x0_hat, ab = _numpy(x0, x0_hat, alpha_bar)
    gap = np.linalg.norm(x0 - x0_hat, axis=1) ** 2
    return gap / 2 * (1 / (1 / ab[s] - 1) - 1 / (1 / ab[t] - 1))


def ddim_step_loop(x, eps_hat, noise, s, t, alpha_bar, eta):
    signal, total = alpha_bar[s].item(), alpha_bar[t].item()
    c2 = eta**2 * (1 - signal) / (1 - total) * (1 - total / signal)
    out = torch.empty_like(x)
    for i in range(len(x)):
        x0_hat = (x[i] - math.sqrt(1 - total) * eps_hat[i]) / math.sqrt(total)
        out[i] = math.sqrt(signal) * x0_hat + math.sqrt(1 - signal - c2) * eps_hat[i]
        out[i] += math.sqrt(c2) * noise[i]
    return out


def ddim_step_torch(x, eps_hat, noise, s, t, alpha_bar, eta):
    """With the noise of a step as (sigma_s / sigma_t) sqrt(1 - ratio)."""
    ratio = alpha_bar[t] / alpha_bar[s]
    sd_s, sd_t = (1 - alpha_bar[s]).sqrt(), (1 - alpha_bar[t]).sqrt()
    c = eta * sd_s / sd_t * (1 - ratio).sqrt()
    return (
        (x - sd_t * eps_hat) / ratio.sqrt() + (sd_s**2 - c**2).sqrt() * eps_hat + c * noise
    )


def ddim_step_numpy(x, eps_hat, noise, s, t, alpha_bar, eta):
    x, eps_hat, noise, ab = _numpy(x, eps_hat, noise, alpha_bar)
    c2 = np.square(eta) * (1 - ab[s]) * (1 - ab[t] / ab[s]) / (1 - ab[t])
    x0_hat = (x - np.sqrt(1 - ab[t]) * eps_hat) / np.sqrt(ab[t])
    return [
        *(np.sqrt(ab[s]) * x0_hat + np.sqrt(1 - ab[s] - c2) * eps_hat + c2**0.5 * noise)
    ]


DEMANDS = {
    "noisy": {
        "variance is $1-\\bar\\alpha_t$": "1 - alpha_bar is the variance",
        "the root of $\\bar\\alpha_t$": "alpha_bar is the share of variance",
        "Each row has taken its own": "each row has taken its own",
        "it counts all of them": "this is x after t - 1 steps",
    },
    "denoise_mixture": {
        "around $\\alpha m_k$": "the components of x_t lie at",
        "variance $\\alpha^2s_k^2+\\sigma^2$": "x_t varies by its component",
        "A wide component is lower": "a wide component is lower",
        "has weight $w_k$": "the components have unequal weights",
        "a share of the deviation": "this returns a mean of the components' middles",
        "every exponential is 0": "far out every exponential",
    },
    "posterior": {
        "Any number of steps may lie between": "this beta belongs to step t alone",
        "the variance of a coordinate": "the variance is asked for",
        "Both $x_0$ and $x_t$ are known": "this is the variance of the way there",
    },
    "clean_from_velocity": {
        "needs no division": "this takes v for the noise",
        "the clean $x_0$": "this is the noise eps",
    },
    "step_kl": {
        "one number for each row": "one number for each row",
        "half the difference": "half of the difference",
        "signal-to-noise ratios $\\alpha^2/\\sigma^2$": "the ratio is alpha^2",
        "a sum over the dimensions": "a KL of a vector sums",
    },
    "ddim_step": {
        "replaces a part of the old noise": "fresh noise takes the place",
        "\\eta^2": "eta multiplies the standard deviation",
        "$s$ and $t$ may be far apart": "this beta belongs to step t alone",
        "from $x_t$ straight to any earlier $x_s$": "s and t are swapped",
    },
}
