"""diffusion/score_sde: right answers in other styles, and what its text demands."""

import math

import numpy as np
import torch


def sub_vp_std_loop(t, beta_min, beta_max):
    """B summed by the midpoint rule, which is exact for a line."""
    out = []
    for end in t.double().tolist():
        B, n = 0.0, 7
        for k in range(n):
            at = (k + 0.5) / n * end
            B += (beta_min + (beta_max - beta_min) * at) * end / n
        out.append(1 - math.exp(-B))
    return out


def sub_vp_std_torch(t, beta_min, beta_max):
    beta = torch.lerp(torch.tensor(beta_min), torch.tensor(beta_max), t)
    return 1 - torch.exp(-t * (beta + beta_min) / 2)


def sub_vp_std_numpy(t, beta_min, beta_max):
    t = t.double().numpy()
    return -np.expm1(-beta_min * t - (beta_max - beta_min) * t**2 / 2)


def reverse_step_loop(x, score, f, g, h, xi):
    new = x.clone()
    for i in range(len(x)):
        for d in range(x.shape[1]):
            drift = f[i, d] - g**2 * score[i, d]
            new[i, d] = x[i, d] - h * drift + math.sqrt(h) * g * xi[i, d]
    return new


def reverse_step_torch(x, score, f, g, h, xi):
    back = torch.add(f, score, alpha=-(g**2))
    return torch.add(x, back, alpha=-h).add(xi, alpha=g * h**0.5)


def reverse_step_numpy(x, score, f, g, h, xi):
    x, score, f, xi = (v.double().numpy() for v in (x, score, f, xi))
    return list(x + h * (g * g * score - f) + np.sqrt(g * g * h) * xi)


def flow_velocity_loop(x, score, beta):
    return [[-beta * (a + s) / 2 for a, s in zip(p, q)] for p, q in zip(x, score)]


def flow_velocity_torch(x, score, beta):
    return (x + score).mul(-beta).div(2)


def flow_velocity_numpy(x, score, beta):
    f, g = -beta / 2 * x.double().numpy(), np.sqrt(beta)
    return f - g**2 / 2 * score.double().numpy()


def heun_step_loop(z, v, s, s_next):
    """On every coordinate: dz/ds = s / (v + s^2) z, twice."""
    out = z.double().clone()
    for i in range(len(z)):
        for d in range(z.shape[1]):
            k = s / (float(v[d]) + s * s)
            here = float(z[i, d])
            there = here + (s_next - s) * k * here
            second = s_next / (float(v[d]) + s_next**2) * there
            mean = (k * here + second) / 2 if s_next else k * here
            out[i, d] = here + (s_next - s) * mean
    return out


def heun_step_torch(z, v, s, s_next):
    D = lambda z, s: z * (v / (v + s**2))  # noqa: E731
    if s_next == 0:
        return D(z, s)
    first = (z - D(z, s)) / s
    there = torch.add(z, first, alpha=s_next - s)
    return z + (s_next - s) * torch.stack(
        [first, (there - D(there, s_next)) / s_next]
    ).mean(0)


def heun_step_numpy(z, v, s, s_next):
    z, v = z.double().numpy(), v.double().numpy()
    a, b = s / (v + s * s), s_next / (v + s_next * s_next)
    h = s_next - s
    if s_next == 0:
        return z * (1 + h * a)
    return z * (1 + h / 2 * (a + b * (1 + h * a)))


def dpm_2m_step_loop(z, x0, x0_before, s_before, s, s_next):
    h = math.log(s) - math.log(s_next)
    r = (math.log(s_before) - math.log(s)) / h
    out = []
    for row, now, then in zip(z, x0, x0_before):
        ahead = [(1 + 1 / (2 * r)) * a - b / (2 * r) for a, b in zip(now, then)]
        out.append([s_next / s * c + (1 - math.exp(-h)) * a for c, a in zip(row, ahead)])
    return out


def dpm_2m_step_torch(z, x0, x0_before, s_before, s, s_next):
    levels = torch.tensor([s_before, s, s_next]).log().neg()
    h_before, h = levels.diff()
    ahead = torch.lerp(x0_before, x0, 1 + h / (2 * h_before))
    return torch.lerp(ahead, z, torch.exp(-h))


def dpm_2m_step_numpy(z, x0, x0_before, s_before, s, s_next):
    """In the paper's form, with alpha and sigma."""
    z, x0, x0_before = (v.double().numpy() for v in (z, x0, x0_before))
    a, a_next = 1 / np.hypot(1, s), 1 / np.hypot(1, s_next)
    r = np.log(s_before / s) / np.log(s / s_next)
    D = (1 + 1 / (2 * r)) * x0 - x0_before / (2 * r)
    x = s_next * a_next / (s * a) * (a * z) - a_next * np.expm1(np.log(s_next / s)) * D
    return x / a_next


def precondition_loop(s, sigma_data):
    rows = []
    for level in s.tolist():
        total = math.sqrt(level**2 + sigma_data**2)
        rows.append((sigma_data**2 / total**2, level * sigma_data / total, 1 / total))
    return [list(column) for column in zip(*rows)]


def precondition_torch(s, sigma_data):
    c_in = torch.hypot(s, torch.tensor(sigma_data)).reciprocal()
    return (sigma_data * c_in).square(), s * sigma_data * c_in, c_in


def precondition_numpy(s, sigma_data):
    """With the angle whose tangent is s / sigma_data."""
    phi = np.arctan(s.double().numpy() / sigma_data)
    return np.cos(phi) ** 2, sigma_data * np.sin(phi), np.cos(phi) / sigma_data


DEMANDS = {
    "sub_vp_std": {
        "standard deviation": "this is the variance",
        "from $0$ to $t$": "B is the integral of beta",
        "without a root": "this is VP's",
    },
    "reverse_step": {
        "$h>0$": "time falls",
        "all of $g^2$": "half of g^2",
        "fresh noise": "the new noise is missing",
        "$\\sqrt h$": "noise grows with the root",
    },
    "flow_velocity": {
        "half of $g^2$": "this is the drift of the reversed stream",
        "from data to noise": "this runs from noise to data",
    },
    "heun_step": {
        "where Euler's step leads": "the second slope is taken at z",
        "at its own level": "the second slope is at the level s_next",
        "may be 0": "at s_next = 0",
        "Euler's step alone": "take Euler's step alone",
    },
    "dpm_2m_step": {
        "of $-\\log s$": "h is the step of log(1/s)",
        "need not be equally long": "the ratio is upside down",
        "the middle of the step": "half of the way",
    },
    "precondition": {
        "for any $\\sigma_d$": "sigma_data is taken for 1",
        "c_skip, c_out and c_in, in this order": "the order is",
        "as small as possible": "c_out = s",
    },
}
