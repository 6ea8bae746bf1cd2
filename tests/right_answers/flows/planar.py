"""flows/planar: right answers in other styles, and what its text demands."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch.distributions import Normal, TransformedDistribution
from torch.distributions.transforms import AffineTransform, ExpTransform


def lognormal_log_prob_loop(x, mu, sigma):
    out = []
    for one in x.tolist():
        z = (math.log(one) - mu) / sigma
        density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi) / (sigma * one)
        out.append(math.log(density))
    return torch.tensor(out)


def lognormal_log_prob_torch(x, mu, sigma):
    steps = [AffineTransform(mu, sigma), ExpTransform()]
    return TransformedDistribution(Normal(0.0, 1.0), steps).log_prob(x)


def lognormal_log_prob_numpy(x, mu, sigma):
    x, mu, sigma = x.numpy(), float(mu), float(sigma)
    log_x = np.log(x)
    return -(((log_x - mu) / sigma) ** 2) / 2 - log_x - np.log(sigma * np.sqrt(2 * np.pi))


def planar_log_det_loop(z, w, u, b):
    out = []
    for one in z:
        slope = 1 - math.tanh(float(one @ w + b)) ** 2
        out.append(math.log(1 + slope * float(w @ u)))
    return out


def planar_log_det_torch(z, w, u, b):
    """The full Jacobian after all: (B, D, D)."""
    slope = torch.tanh(F.linear(z, w[None], b[None])).square().neg().add(1)
    J = torch.eye(len(w)) + slope[:, :, None] * torch.outer(u, w)
    return torch.linalg.slogdet(J).logabsdet


def planar_log_det_numpy(z, w, u, b):
    z, w, u = z.double().numpy(), w.double().numpy(), u.double().numpy()
    return np.log1p(w @ u / np.cosh(z @ w + float(b)) ** 2)


def repaired_loop(u, w):
    s = sum(float(a * b) for a, b in zip(u, w))
    g = math.log(1 + math.exp(s) * (math.e - 1))
    size = sum(float(a) ** 2 for a in w)
    return torch.stack([a + (g - 1 - s) * b / size for a, b in zip(u, w)])


def repaired_torch(u, w):
    unit = F.normalize(w, dim=0)
    across = u - (u @ unit) * unit  # what may not change
    g = F.softplus(torch.dot(w, u) + math.log(math.expm1(1)))
    return torch.add(across, unit, alpha=((g - 1) / w.norm()).item())


def repaired_numpy(u, w):
    u, w = u.numpy(), w.numpy()
    s = np.dot(w, u)
    g = np.logaddexp(0, s + np.log(np.e - 1))
    return list(u + (g - 1 - s) * w / np.dot(w, w))


def invert_planar_loop(x, w, u, b):
    s, rows = float(w @ u), []
    for one in x:
        y = float(one @ w + b)
        low, high = y - abs(s), y + abs(s)
        for _ in range(60):
            a = (low + high) / 2
            if a + s * math.tanh(a) > y:
                high = a
            else:
                low = a
        rows.append(one - math.tanh(a) * u)
    return torch.stack(rows)


def invert_planar_torch(x, w, u, b):
    """Newton, and half of the bracket where its step would leave it."""
    x, w, u, b = (t.double() for t in (x, w, u, b))
    y, s = torch.addmv(b, x, w), w @ u
    low, high = y - s.abs(), y + s.abs()
    a = y.clone()
    for _ in range(80):
        f = a + s * a.tanh() - y
        low, high = torch.where(f > 0, low, a), torch.where(f > 0, a, high)
        step = a - f / (1 + s * (1 - a.tanh() ** 2))
        a = torch.where((step > low) & (step < high), step, (low + high) / 2)
    return torch.addr(x, a.tanh(), u, alpha=-1)


def invert_planar_numpy(x, w, u, b):
    """By interpolation in a fine table of the increasing function."""
    x, w, u, b = (t.double().numpy() for t in (x, w, u, b))
    y, s = x @ w + b, w @ u
    near = np.linspace(-12, 12, 400_001)
    a = np.interp(y, near + s * np.tanh(near), near)
    a = np.where(np.abs(y) > 12 + abs(s), y - s * np.sign(y), a)
    for _ in range(3):  # polish by the secant's slope
        slope = 1 + s / np.cosh(np.clip(a, -50, 50)) ** 2
        a = a - (a + s * np.tanh(a) - y) / slope
    return x - np.tanh(a)[:, None] * u


def reverse_kl_loss_loop(log_p_z, log_det, U, beta):
    total = 0.0
    for p, d, energy in zip(log_p_z, log_det, U):
        total += p - d + beta * energy
    return total / len(U)


def reverse_kl_loss_torch(log_p_z, log_det, U, beta):
    return torch.add(log_p_z.sub(log_det), U, alpha=beta).mean()


def reverse_kl_loss_numpy(log_p_z, log_det, U, beta):
    p, d, U = log_p_z.numpy(), log_det.numpy(), U.numpy()
    return np.average(p) - np.average(d) + beta * np.average(U)


def radial_log_det_loop(z, c, alpha, beta):
    out = []
    for one in z:
        r = math.sqrt(float(((one - c) ** 2).sum()))
        around = 1 + beta / (alpha + r)
        outwards = around - beta * r / (alpha + r) ** 2
        out.append(math.log(outwards * around ** (len(c) - 1)))
    return torch.tensor(out)


def radial_log_det_torch(z, c, alpha, beta):
    def step(point):
        return point + beta * (point - c) / (alpha + torch.linalg.norm(point - c))

    J = torch.func.vmap(torch.func.jacrev(step))(z)
    return torch.logdet(J)


def radial_log_det_numpy(z, c, alpha, beta):
    z, c, alpha, beta = z.numpy(), c.numpy(), float(alpha), float(beta)
    far = alpha + np.linalg.norm(z - c, axis=1)
    return (z.shape[1] - 1) * np.log1p(beta / far) + np.log1p(alpha * beta / far**2)


def bits(x, mu, sigma):
    return lognormal_log_prob_numpy(x, mu, sigma) / math.log(2)


def tanh_by_exponentials(x, w, u, b):
    """Right until exp overflows, and infinity is divided by infinity."""
    y, s = x @ w + b, w @ u
    low, high = y - s.abs(), y + s.abs()
    for _ in range(40):
        a = (low + high) / 2
        tanh = (torch.exp(2 * a) - 1) / (torch.exp(2 * a) + 1)
        above = a + s * tanh > y
        low, high = torch.where(above, low, a), torch.where(above, a, high)
    return x - tanh[:, None] * u


DEMANDS = {
    "lognormal_log_prob": {
        "p_z(f(x))\\,|f'(x)|": "this is log p_z at f(x) alone",
        "in nats": bits,
    },
    "planar_log_det": {
        "log |det dx/dz|": "this is the determinant",
        "$w\\cdot u > -1$": "the Jacobian holds the derivative",
    },
    "repaired": {
        "differs from u along w only": "divide by |w|^2: moving",
        "softplus": "the shift log(e - 1)",
        "Move $u$ along $w$ until": "every u is moved",
    },
    "invert_planar": {
        "if it always arrives": "Newton's steps from a = y",
        "points far out": tanh_by_exponentials,
        "good to 1e-4": "eight halvings leave",
    },
    "reverse_kl_loss": {
        "with $\\beta U$ in place of $U$": "beta is missing",
        "the batch's estimate": "an expectation is a mean",
    },
    "radial_log_det": {
        "$D-1$ directions around the centre and one outwards": "D - 1 directions lie",
        "The outward one is the derivative": "outwards the stretch",
        "above -alpha": lambda z, c, alpha, beta: radial_log_det_torch(
            z, c, alpha, beta.abs()
        ),
    },
}
