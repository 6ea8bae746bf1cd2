"""flows/continuous: right answers in other styles, and what its text demands."""

import itertools
import math

import numpy as np
import torch
from torch.distributions import MultivariateNormal


def midpoint_step_loop(f, t, x, h):
    rows = []
    for one in x:
        k = f(t, one[None])[0]
        half = torch.stack([v + h / 2 * slope for v, slope in zip(one, k)])
        rows.append(one + h * f(t + 0.5 * h, half[None])[0])
    return torch.stack(rows)


def midpoint_step_torch(f, t, x, h):
    middle = torch.add(x, f(t, x), alpha=h / 2)
    return torch.add(x, f(t + h / 2, middle), alpha=h)


def midpoint_step_numpy(f, t, x, h):
    def field(time, state):
        return f(time, torch.from_numpy(state)).numpy()

    x = x.numpy()
    return x + h * field(t + h / 2, x + h / 2 * field(t, x))


def next_length_loop(h, error):
    out = []
    for length, e in zip(h.tolist(), error.tolist()):
        out.append(length * min(10, max(1 / 5, 0.9 * e ** (-1 / 5))))
    return torch.tensor(out)


def next_length_torch(h, error):
    factor = 0.9 * torch.exp(-0.2 * error.log())
    return torch.minimum(torch.maximum(factor * h, h / 5), 10 * h)


def next_length_numpy(h, error):
    return h.numpy() * np.clip(0.9 / np.power(error.numpy(), 0.2), 0.2, 10)


def linear_flow_log_prob_loop(x, A):
    """By many small steps of the solution, and of the trace's integral."""
    z, n, total = x.double(), 64, 0.0
    A = A.double()
    for _ in range(n):
        term, step = z, z
        for k in range(1, 8):  # the exponential's series
            term = term @ A.T / (n * k)
            step = step + term
        z, total = step, total + sum(A[i, i] for i in range(len(A))) / n
    return -(z**2).sum(1) / 2 - len(A) / 2 * math.log(2 * math.pi) + total


def linear_flow_log_prob_torch(x, A):
    back = torch.linalg.matrix_exp(-A)
    return MultivariateNormal(x.new_zeros(len(A)), back @ back.T).log_prob(x)


def linear_flow_log_prob_numpy(x, A):
    values, vectors = np.linalg.eig(A.double().numpy())
    flow = (vectors * np.exp(values) @ np.linalg.inv(vectors)).real
    z = x.double().numpy() @ flow.T
    return -0.5 * (z**2).sum(1) - len(A) / 2 * np.log(2 * np.pi) + values.sum().real


def hutchinson_variance_loop(J):
    """Over all signs there are."""
    out = []
    for one in J:
        signs = torch.tensor([*itertools.product([-1.0, 1.0], repeat=len(one))])
        estimates = torch.stack([e @ one @ e for e in signs])
        out.append(estimates.var(correction=0))
    return torch.stack(out)


def hutchinson_variance_torch(J):
    twice = torch.triu(J + J.mT, diagonal=1)
    return torch.linalg.matrix_norm(twice).square()


def hutchinson_variance_numpy(J):
    J = J.numpy()
    S = 0.5 * (J + np.swapaxes(J, 1, 2))
    S[:, np.arange(S.shape[1]), np.arange(S.shape[1])] = 0
    return 2 * np.einsum("bij,bij->b", S, S)


def adjoint_slopes_loop(x, a, W):
    v, a_slope, g = torch.zeros_like(x), torch.zeros_like(x), torch.zeros_like(W)
    for b in range(len(x)):
        for i in range(len(W)):
            v[b, i] = math.tanh(W[i] @ x[b])
            s = a[b, i] * (1 - v[b, i] ** 2)
            a_slope[b] -= s * W[i]
            g[i] -= s * x[b]
    return v, a_slope, g


def adjoint_slopes_torch(x, a, W):
    """By autograd, which the exercise wants to do without, but it is right."""
    with torch.enable_grad():
        x, W = x.clone().requires_grad_(), W.clone().requires_grad_()
        v = torch.tanh(torch.nn.functional.linear(x, W))
        slopes = torch.autograd.grad(v, (x, W), -a)
    return (v, *slopes)


def adjoint_slopes_numpy(x, a, W):
    x, a, W = x.numpy(), a.numpy(), W.numpy()
    v = np.tanh(x @ W.T)
    s = a / np.cosh(x @ W.T) ** 2
    return [v, -np.dot(s, W), -np.einsum("bi,bj->ij", s, x)]


FIXED = {"midpoint_step": {(2, 1)}}  # a pendulum has an angle and a speed
DEMANDS = {
    "midpoint_step": {
        "Mind the *time*": "the second slope is taken at time t + h / 2",
        "(negative: backwards)": "right forwards",
        "half a step ahead": "you looked a whole step ahead",
    },
    "next_length": {
        "by more than a factor of 5 down or of 10 up": "limit the factor",
        "Take 0.9 of that": "the safety factor",
        "The rule is the same for accepted steps": "accepted steps change",
    },
    "linear_flow_log_prob": {
        "the matrix exponential": "A.exp() takes the exponential of every entry",
        "\\mathrm{tr}\\,\\frac{\\partial v}{\\partial x}": "the integral of the trace",
    },
    "hutchinson_variance": {
        "random signs": "this is the variance for Gaussian probes",
        "S=\\tfrac12\\bigl(J+J^\\top\\bigr)": "take the symmetric part first",
    },
    "adjoint_slopes": {
        "Mind the minus signs": "both slopes of the adjoint",
        "the shape of $W$: (out, in)": "W is (out, in)",
        "\\sum_\\text{points}": "the slope of the gradient sums",
    },
}
