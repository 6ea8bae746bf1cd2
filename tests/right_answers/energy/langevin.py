"""energy/langevin: right answers in other styles, and what its text demands."""

import math

import numpy as np
import torch
from torch.distributions import Normal


def langevin_step_loop(x, slope, eps, xi):
    new = x.clone()
    for i in range(len(x)):
        for d in range(x.shape[1]):
            new[i, d] = x[i, d] - eps * slope[i, d] / 2 + math.sqrt(eps) * xi[i, d]
    return new


def langevin_step_torch(x, slope, eps, xi):
    return torch.add(x, slope, alpha=-eps / 2).add(xi, alpha=eps**0.5)


def langevin_step_numpy(x, slope, eps, xi):
    x, slope, xi = (t.double().numpy() for t in (x, slope, xi))
    return list(x - eps / 2 * slope + np.sqrt(eps) * xi)


def mala_log_accept_loop(E_x, E_y, x, y, slope_x, slope_y, eps):
    out = []
    for i in range(len(x)):
        there = back = 0.0
        for a, b, s, t in zip(*(v[i].tolist() for v in (x, y, slope_x, slope_y))):
            there += (b - a + eps / 2 * s) ** 2
            back += (a - b + eps / 2 * t) ** 2
        out.append(float(E_x[i] - E_y[i]) + (there - back) / (2 * eps))
    return torch.tensor(out)


def mala_log_accept_torch(E_x, E_y, x, y, slope_x, slope_y, eps):
    there = Normal(x - eps / 2 * slope_x, eps**0.5).log_prob(y).sum(1)
    back = Normal(y - eps / 2 * slope_y, eps**0.5).log_prob(x).sum(1)
    return (back - E_y) - (there - E_x)


def mala_log_accept_numpy(E_x, E_y, x, y, slope_x, slope_y, eps):
    """With the squares multiplied out."""
    arrays = (t.double().numpy() for t in (E_x, E_y, x, y, slope_x, slope_y))
    E_x, E_y, x, y, s, t = arrays
    mixed = np.einsum("bd,bd->b", y - x, s + t) / 2
    return E_x - E_y + mixed + eps / 8 * ((s**2).sum(1) - (t**2).sum(1))


def leapfrog_loop(x, p, A, h, steps):
    """Half push, drift, half push, as often as there are steps."""
    for _ in range(steps):
        p = p - h / 2 * x @ A
        x = x + h * p
        p = p - h / 2 * x @ A
    return x, p


def leapfrog_torch(x, p, A, h, steps):
    D = len(A)
    eye, zero = torch.eye(D), torch.zeros(D, D)
    push = torch.cat([torch.cat([eye, zero], 1), torch.cat([-h / 2 * A, eye], 1)])
    drift = torch.cat([torch.cat([eye, h * eye], 1), torch.cat([zero, eye], 1)])
    one = push @ drift @ push
    end = torch.cat([x, p], 1) @ torch.linalg.matrix_power(one, steps).T
    return end.split(D, 1)


def leapfrog_numpy(x, p, A, h, steps):
    """As Verlet knew it: places alone, and the momentum at the end."""
    x, p, A = (t.double().numpy() for t in (x, p, A))
    before, now = x, x + h * p - h**2 / 2 * x @ A
    for _ in range(steps - 1):
        before, now = now, 2 * now - before - h**2 * now @ A
    return [now, (now - before) / h - h / 2 * now @ A]


def contrastive_loss_loop(E_data, E_chains, alpha):
    total = 0.0
    for sign, energies in ((1, E_data), (-1, E_chains)):
        for E in energies:
            total += (sign * E + alpha * E * E) / len(energies)
    return total


def contrastive_loss_torch(E_data, E_chains, alpha):
    squares = torch.cat([E_data.square() / len(E_data), E_chains.square() / len(E_chains)])
    return E_data.mean().sub(E_chains.mean()).add(squares.sum(), alpha=alpha)


def contrastive_loss_numpy(E_data, E_chains, alpha):
    """Not with numpy: the loss is differentiated."""
    signs = torch.cat([torch.ones_like(E_data), -torch.ones_like(E_chains)])
    shares = torch.cat([signs[signs > 0] / len(E_data), -signs[signs < 0] / len(E_chains)])
    E = torch.cat([E_data, E_chains])
    return torch.einsum("i,i,i->", shares, E, signs + alpha * E)


def temperature_of_loop(step, noise):
    return [n * n / (s + s) for s, n in zip(step.tolist(), noise.tolist())]


def temperature_of_torch(step, noise):
    return noise.square().div(step).mul(0.5)


def temperature_of_numpy(step, noise):
    return np.exp(2 * np.log(noise.numpy()) - np.log(2 * step.numpy()))


def mixture_energy_loop(E, log_z, w):
    out = []
    for column in E.double().T.tolist():
        parts = [math.log(a) - e - z for a, e, z in zip(w.tolist(), column, log_z.tolist())]
        top = max(parts)
        out.append(-top - math.log(sum(math.exp(part - top) for part in parts)))
    return torch.tensor(out, dtype=torch.float64)


def mixture_energy_torch(E, log_z, w):
    log_p = torch.stack([a.log() - e - z for a, e, z in zip(w, E, log_z)], -1)
    return log_p.logsumexp(-1).neg()


def mixture_energy_numpy(E, log_z, w):
    E, log_z, w = (t.double().numpy() for t in (E, log_z, w))
    return -np.logaddexp.reduce(np.log(w)[:, None] - E - log_z[:, None], axis=0)


def clamped(*given):
    """The logarithm of the probability, which is cut at 0."""
    return mala_log_accept_torch(*given).clamp(max=0)


def same_number(E_data, E_chains, alpha):
    """Right only where there are as many chains as data."""
    n = len(E_data)
    return (
        E_data.sum()
        - E_chains.sum()
        + alpha * (E_data.square().sum() + E_chains.square().sum())
    ) / n


DEMANDS = {
    "langevin_step": {
        "against the slope": "this climbs",
        "half of eps": "the slope is taken in full",
        "variance $\\epsilon$": "eps is the variance of a kick",
    },
    "mala_log_accept": {
        "do not cut it at 0": clamped,
        "the way back": "the proposals are exchanged",
        "and there the slope is another": "the way back starts at y",
    },
    "leapfrog": {
        "half a push at the start, half a push at the end": "every push is whole",
        "steps of the time $h$": "h is the time of one step",
        "p loses the slope": "the push has the wrong sign",
    },
    "contrastive_loss": {
        "need not be as many": same_number,
        "means over": "an expectation is a mean",
        "$\\alpha$ times the mean square of both": "the squares are missing",
    },
    "temperature_of": {
        "samples at the temperature $T$": "this is 1 / T",
        "standard deviation `noise`": "the noise counts by its variance",
    },
    "mixture_energy": {
        "normalised before they are weighted": "the parts' log Z are missing",
        "energies of 900": "e^-900 is 0",
        "the energy of the mixture": "this is log p(x)",
    },
}
