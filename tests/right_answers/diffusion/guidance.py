"""diffusion/guidance: right answers in other styles, and what its text demands."""

import math

import numpy as np
import torch
import torch.nn.functional as F


def guided_loop(conditional, free, w):
    out = torch.empty_like(free)
    for i in range(len(free)):
        out[i] = (1 + w) * conditional[i] - w * free[i]
    return out


def guided_torch(conditional, free, w):
    return torch.lerp(free, conditional, 1 + w)


def guided_numpy(conditional, free, w):
    c, u = conditional.double().numpy(), free.double().numpy()
    return c + w * (c - u)


def classifier_noise_loop(eps, x, W, b, y, sigma, scale):
    rows = []
    for e, point, label, s in zip(eps, x, y, sigma):
        p = torch.softmax(point @ W + b, 0)
        pull = W[:, label] - sum(p[k] * W[:, k] for k in range(len(p)))
        rows.append(e - scale * s * pull)
    return torch.stack(rows)


def classifier_noise_torch(eps, x, W, b, y, sigma, scale):
    loss = torch.func.grad(lambda x: F.cross_entropy(x @ W + b, y, reduction="sum"))
    return eps + scale * sigma.unsqueeze(1) * loss(x)


def classifier_noise_numpy(eps, x, W, b, y, sigma, scale):
    eps, x, W, b, sigma = (t.double().numpy() for t in (eps, x, W, b, sigma))
    logits = x @ W + b
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    wanted = np.eye(W.shape[1])[y.numpy()]
    return eps - scale * sigma[:, None] * ((wanted - p) @ W.T)


def two_widths_loop(s, S, w):
    promised = [1 / math.sqrt((1 + w) / a**2 - w / b**2) for a, b in zip(s, S)]
    return promised, [a * (a / b) ** w for a, b in zip(s, S)]


def two_widths_torch(s, S, w):
    precision = torch.lerp(S.pow(-2), s.pow(-2), 1 + w)
    return precision.rsqrt(), torch.exp((1 + w) * s.log() - w * S.log())


def two_widths_numpy(s, S, w):
    s, S = s.double().numpy(), S.double().numpy()
    return np.stack([s * S / np.sqrt((1 + w) * S**2 - w * s**2), s ** (1 + w) / S**w])


def palette_loss_loop(out, x0, eps, known, alpha, sigma):
    total, count = 0.0, 0
    for b, c, i, j in np.ndindex(*out.shape):
        if known[b, 0, i, j] == 0:
            v = alpha[b, 0, 0, 0] * eps[b, c, i, j] - sigma[b, 0, 0, 0] * x0[b, c, i, j]
            total, count = total + (out[b, c, i, j] - v) ** 2, count + 1
    return total / count


def palette_loss_torch(out, x0, eps, known, alpha, sigma):
    missing = (known == 0).expand_as(out)
    return F.mse_loss(out[missing], (alpha * eps - sigma * x0)[missing])


def palette_loss_numpy(out, x0, eps, known, alpha, sigma):
    out, x0, eps, known, a, s = (
        t.double().numpy() for t in (out, x0, eps, known, alpha, sigma)
    )
    weight = np.broadcast_to(1 - known, out.shape)
    return np.average((out - a * eps + s * x0) ** 2, weights=weight)


def repaint_step_loop(x_t, x0_hat, seen, known, eps, xi, ab_s, ab_t):
    s, t, out = ab_s.item(), ab_t.item(), x_t.clone()
    beta = 1 - t / s
    sd = math.sqrt((1 - s) / (1 - t) * beta)
    for at in np.ndindex(*x_t.shape):
        if known[at]:
            out[at] = math.sqrt(s) * seen[at] + math.sqrt(1 - s) * eps[at]
        else:
            near = math.sqrt(s) * beta / (1 - t) * x0_hat[at]
            out[at] = near + math.sqrt(1 - beta) * (1 - s) / (1 - t) * x_t[at] + sd * xi[at]
    return out


def repaint_step_torch(x_t, x0_hat, seen, known, eps, xi, ab_s, ab_t):
    """DDIM with eta = 1: towards the noise that the answer leaves, and fresh noise."""
    noise = (x_t - ab_t.sqrt() * x0_hat) / (1 - ab_t).sqrt()
    variance = (1 - ab_s) / (1 - ab_t) * (1 - ab_t / ab_s)
    towards = (1 - ab_s - variance).clamp_min(0).sqrt()
    drawn = ab_s.sqrt() * x0_hat + towards * noise + variance.sqrt() * xi
    return torch.where(known.bool(), ab_s.sqrt() * seen + (1 - ab_s).sqrt() * eps, drawn)


def repaint_step_numpy(x_t, x0_hat, seen, known, eps, xi, ab_s, ab_t):
    """The posterior as a product of two Gaussians: their precisions add."""
    arrays = (t.double().numpy() for t in (x_t, x0_hat, seen, known, eps, xi, ab_s, ab_t))
    x_t, x0_hat, seen, known, eps, xi, s, t = arrays
    r, wide = t / s, max(1 - s, 1e-300)
    precision = 1 / wide + r / (1 - r)
    mean = (np.sqrt(s) * x0_hat / wide + np.sqrt(r) * x_t / (1 - r)) / precision
    drawn = mean + xi / np.sqrt(precision)
    return np.where(known > 0, np.sqrt(s) * seen + np.sqrt(1 - s) * eps, drawn)


def calibration_ratio_loop(draws, x):
    one = sum(((d - x) ** 2).mean() for d in draws) / len(draws)
    return one / ((sum(draws) / len(draws) - x) ** 2).mean()


def calibration_ratio_torch(draws, x):
    return F.mse_loss(draws, x.expand_as(draws)) / F.mse_loss(draws.mean(0), x)


def calibration_ratio_numpy(draws, x):
    """The error of one draw is that of the mean, and the spread around the mean."""
    draws, x = draws.double().numpy(), x.double().numpy()
    error = np.mean((draws.mean(0) - x) ** 2)
    return 1 + np.mean(draws.var(0)) / error


def for_points_only(conditional, free, w):
    """Right for a table of points, and for nothing else."""
    weight = torch.full((len(free), 1), 1.0 + w)
    return free + weight * (conditional - free)


def of_one_draw(draws, x):
    """The error of the first draw alone."""
    return (draws[0] - x).square().mean() / (draws.mean(0) - x).square().mean()


def unclean(x, *rest):
    """Names the drawn density twice: what the steps give, but not what is promised."""
    drawn = two_widths_torch(x, *rest)[1]
    return drawn, drawn


DEMANDS = {
    "guided": {
        "At $w = 0$ that is the conditional answer": "one step too far",
        "Start at the free answer": "this goes past the free answer",
        "$1 + w$ times the way": "this is the other convention",
    },
    "classifier_noise": {
        "of its logarithm": "this is the slope of p(y | x)",
        "of the class of each row alone": "the slopes of all classes",
        "$\\hat\\epsilon = -\\sigma$ times the score": "sigma is missing",
    },
    "two_widths": {
        "standard deviations": "these are variances",
        "first the promised one, then the drawn one": "the two are exchanged",
        "Guidance *promises* the density": unclean,
    },
    "palette_loss": {
        "over all missing numbers of the batch together": "one mean over the missing",
        "misses all its channels": "a missing pixel misses",
        "$v = \\alpha\\,\\epsilon - \\sigma\\,x_0$": "the network's answer is v",
    },
    "repaint_step": {
        "of the level at which the step arrives": "the known part has the noise of",
        "with the noise $\\xi$": "the noise xi of the step",
        "Known numbers come from `seen`": "the mask is inverted",
        "a known number may be 0": "a known number may be 0",
    },
    "calibration_ratio": {
        "one division at the end": "a ratio of means",
        "mean squared error of single draws": of_one_draw,
        "divided by": "it is upside down",
    },
}

FIXED = {  # one channel of the mask; alpha and sigma are one number a row
    "palette_loss": {(3, 1), *((i, axis) for i in (4, 5) for axis in (1, 2, 3))},
}
