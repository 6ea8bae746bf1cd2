"""foundations/densities: right answers in other styles, and what its text demands."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch.distributions import Independent, Normal, kl_divergence


def kl_gaussian_loop(mu_p, log_sigma_p, mu_q, log_sigma_q):
    rows = []
    for a, s, b, t in zip(mu_p, log_sigma_p, mu_q, log_sigma_q):
        total = 0.0
        for d in range(len(a)):
            p, q = math.exp(s[d]), math.exp(t[d])
            total += math.log(q / p) + (p * p + (a[d] - b[d]) ** 2) / (2 * q * q) - 1 / 2
        rows.append(total)
    return torch.stack(rows)


def kl_gaussian_torch(mu_p, log_sigma_p, mu_q, log_sigma_q):
    p = Independent(Normal(mu_p, log_sigma_p.exp()), 1)
    return kl_divergence(p, Independent(Normal(mu_q, log_sigma_q.exp()), 1))


def kl_gaussian_numpy(mu_p, log_sigma_p, mu_q, log_sigma_q):
    m, s, n, t = (a.numpy() for a in (mu_p, log_sigma_p, mu_q, log_sigma_q))
    terms = t - s + 0.5 * np.exp(2 * (s - t)) + 0.5 * ((m - n) / np.exp(t)) ** 2 - 0.5
    return np.einsum("bd->b", terms).tolist()


def js_divergence_loop(log_p, log_q, dx):
    total = 0.0
    for a, b in zip(log_p.tolist(), log_q.tolist()):
        high, low = max(a, b), min(a, b)
        m = high + math.log1p(math.exp(low - high)) - math.log(2)
        total += (math.exp(a) * (a - m) + math.exp(b) * (b - m)) / 2 * dx
    return total


def js_divergence_torch(log_p, log_q, dx):
    log_m = torch.stack([log_p, log_q]).logsumexp(0).sub(math.log(2))
    one = F.kl_div(log_m, log_p, reduction="sum", log_target=True)
    other = F.kl_div(log_m, log_q, reduction="sum", log_target=True)
    return torch.lerp(one, other, 0.5) * dx


def js_divergence_numpy(log_p, log_q, dx):
    p, q = log_p.double().numpy(), log_q.double().numpy()
    m = np.logaddexp(p, q) - np.log(2)
    inside = np.exp(p) * (p - m) + np.exp(q) * (q - m)
    return 0.5 * float(np.sum((inside[1:] + inside[:-1]) / 2) * dx)  # trapezoids


def fit_by_descent_loop(x, steps, lr):
    mu, log_sigma = torch.zeros(x.shape[1]), torch.zeros(x.shape[1])
    for _ in range(steps):
        z = (x - mu) / log_sigma.exp()
        d_mu, d_log_sigma = -(z / log_sigma.exp()).mean(0), 1 - (z**2).mean(0)
        mu, log_sigma = mu - lr * d_mu, log_sigma - lr * d_log_sigma
    return mu, log_sigma


def fit_by_descent_torch(x, steps, lr):
    theta = x.new_zeros(2, x.shape[1]).requires_grad_()
    for _ in range(steps):
        nll = -Normal(theta[0], theta[1].exp()).log_prob(x).sum() / len(x)
        (gradient,) = torch.autograd.grad(nll, theta)
        with torch.no_grad():
            theta -= lr * gradient
    return theta.unbind()


def fit_by_descent_numpy(x, steps, lr):
    x = x.numpy()
    mu, s = np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for _ in range(steps):
        z2 = (x - mu) ** 2 * np.exp(-2 * s)
        slope = ((mu - x) * np.exp(-2 * s)).mean(0)
        mu, s = mu - lr * slope, s - lr * (1 - z2.mean(0))
    return [mu, s]


def importance_estimate_loop(values, log_w):
    best = max(log_w)
    w = [math.exp(a - best) for a in log_w]
    mean = sum(a * v for a, v in zip(w, values)) / sum(w)
    square = sum((a * (v - mean)) ** 2 for a, v in zip(w, values))
    return mean, math.sqrt(square) / sum(w)


def importance_estimate_torch(values, log_w):
    w = torch.exp(log_w - torch.logsumexp(log_w, 0))
    mean = torch.dot(w, values)
    return mean, torch.linalg.vector_norm(w * (values - mean))


def importance_estimate_numpy(values, log_w):
    v, a = values.numpy(), log_w.numpy()
    w = np.exp(a - a.max())
    mean = np.average(v, weights=w)
    return np.array([mean, np.sqrt(np.sum(w**2 * (v - mean) ** 2)) / w.sum()])


def wasserstein_1d_loop(x, y, k):
    total = 0.0
    for a, b in zip(sorted(x.tolist()), sorted(y.tolist())):
        total += abs(a - b) ** k / len(x)
    return total ** (1 / k)


def wasserstein_1d_torch(x, y, k):
    order = torch.stack([x, y]).sort(dim=1).values
    return torch.linalg.vector_norm(order.diff(dim=0), ord=k) / len(x) ** (1 / k)


def wasserstein_1d_numpy(x, y, k):
    return np.mean(np.abs(np.sort(x.numpy()) - np.sort(y.numpy())) ** k) ** (1 / k)


def mmd2_unbiased_loop(x, y, h):
    def k(a, b):
        return torch.exp(-((a - b) ** 2).sum() / (2 * h**2))

    N, M = len(x), len(y)
    total = 0
    for i in range(N):
        for j in range(N):
            total += k(x[i], x[j]) / (N * (N - 1)) if i != j else 0
    for i in range(M):
        for j in range(i):
            total += 2 * k(y[i], y[j]) / (M * (M - 1))
    return total - 2 * sum(k(a, b) for a in x for b in y) / (N * M)


def mmd2_unbiased_torch(x, y, h):
    def k(squared):
        return torch.exp(-squared / (2 * h * h))

    within = k(F.pdist(x) ** 2).mean() + k(F.pdist(y) ** 2).mean()
    return within - 2 * k((x[:, None] - y).square().sum(-1)).mean()


def mmd2_unbiased_numpy(x, y, h):
    x, y = x.numpy(), y.numpy()

    def k(a, b):  # |a|^2 + |b|^2 - 2 a.b
        squared = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
        return np.exp(-squared / (2 * h**2))

    def off(K):
        return K[~np.eye(len(K), dtype=bool)].mean()

    return off(k(x, x)) + off(k(y, y)) - 2 * k(x, y).mean()


def momentum(x, steps, lr):
    mu = torch.zeros(2, x.shape[1], requires_grad=True)
    optimizer = torch.optim.SGD([mu], lr, momentum=0.9)
    for _ in range(steps):
        loss = -Normal(mu[0], mu[1].exp()).log_prob(x).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return mu[0], mu[1]


def one_point_per_step(x, steps, lr):
    mu, log_sigma = torch.zeros(x.shape[1]), torch.zeros(x.shape[1])
    for i in range(steps):
        mu, log_sigma = mu.clone(), log_sigma.clone()
        a, b = fit_by_descent_loop((x[i : i + 1] - mu) / log_sigma.exp(), 1, lr)
        mu, log_sigma = mu + a, log_sigma + b
    return mu, log_sigma


# What the text demands, in its words: the start of the hint for what breaks it, or that.
DEMANDS = {
    "kl_gaussian": {
        "of each row, shape $(B,)$": "you also summed over the batch",
        "in nats": "this is in bits",
    },
    "js_divergence": {
        "may both be as small as $e^{-200}$": "where both are as small",
        "a sum times $dx$": "an integral is a sum times",
    },
    "fit_by_descent": {
        "Start with $\\mu = 0$": "descent starts at mu = 0",
        "`steps` times": "this is where descent ends",
        "the NLL of *all* points": one_point_per_step,
        "summed over dimensions, averaged over points": "your steps are D times too short",
        "no momentum": momentum,
        "no Adam": "this is Adam",
    },
    "importance_estimate": {
        "$\\log w$ may be 200": "exp of a log weight near 200",
        "its standard error": "the second value is the variance",
    },
    "wasserstein_1d": {
        "an order $k \\ge 1$": "this is W_2 whatever",
        "the smallest goes to the smallest": "you paired the points",
        "in the unit of $x$": "this is W_k to the power k",
    },
    "mmd2_unbiased": {
        "the pair $(x_i, x_i)$ does not count": "biased: a point and itself",
        "Do not be surprised by negative results": "an unbiased estimate of 0",
    },
}
