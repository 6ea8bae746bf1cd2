"""Expectations and divergences from samples, each with its standard error."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from gdm_course import validate

LogDensity = Callable[[Tensor], Tensor]


class Estimate(NamedTuple):
    """A Monte Carlo estimate: in 19 of 20 cases the truth is within 2 errors of it."""

    value: Tensor
    error: Tensor

    def __str__(self) -> str:
        return f"{self.value.item():.4f} ± {self.error.item():.4f}"


def monte_carlo(values: Tensor) -> Estimate:
    """Estimate E[v] from independent draws: their mean, and std / sqrt(n), equation (1).

    Args:
        values: (n,) draws of v, n at least 2.

    Returns:
        The mean and its standard error, both scalars in the unit of v.
    """
    values = validate.points(values, (), name="values", least=2)
    return Estimate(values.mean(), values.std() / len(values) ** 0.5)


def importance(values: Tensor, log_w: Tensor) -> Estimate:
    """Estimate E_p[v] from draws of q, with weights w = p / q known up to a factor.

    Equation (2), self-normalised: the estimate is sum(w v) / sum(w), and its standard
    error, to first order in 1/n, is sqrt(sum(w^2 (v - estimate)^2)) / sum(w).

    Args:
        values: v(x_i) with x_i from q, (n,).
        log_w: log p(x_i) - log q(x_i), each up to a constant, (n,).

    Returns:
        The estimate and its standard error, which means nothing where w (v - estimate) has
        infinite variance under q. A small `effective_sample_size` warns of that, a large
        one is no proof.
    """
    values = validate.points(values, (), name="values")
    validate.one_each(log_w, len(values), "log_w")
    w = log_w.softmax(0)  # w / sum(w), safe against overflow
    value = (w * values).sum()
    return Estimate(value, (w * (values - value)).square().sum().sqrt())


def effective_sample_size(log_w: Tensor) -> Tensor:
    """Return (sum w)^2 / sum(w^2), in [1, n]: how many equal weights these are worth."""
    return 1 / validate.points(log_w, (), name="log_w").softmax(0).square().sum()


def kl_estimate(log_p: LogDensity, log_q: LogDensity, x: Tensor) -> Estimate:
    """Estimate KL(p || q) in nats from x ~ p, (n,) or (n, D); it may come out negative."""
    return monte_carlo(log_ratio(log_p, log_q, x))


def log_ratio(log_p: LogDensity, log_q: LogDensity, x: Tensor) -> Tensor:
    """Return log p(x) - log q(x), if both are (n,): else they would broadcast to pairs."""
    p = validate.one_each(log_p(x), len(x), "log p(x)")
    return p - validate.one_each(log_q(x), len(x), "log q(x)")


def js_estimate(log_p: LogDensity, log_q: LogDensity, x: Tensor, y: Tensor) -> Estimate:
    """Estimate JS(p, q) in nats from x ~ p and y ~ q: two independent Monte Carlo means."""
    log_m = lambda z: torch.logaddexp(log_p(z), log_q(z)) - math.log(2)  # noqa: E731
    left, right = kl_estimate(log_p, log_m, x), kl_estimate(log_q, log_m, y)
    error = (left.error**2 + right.error**2).sqrt() / 2
    return Estimate((left.value + right.value) / 2, error)


def total_variation_estimate(log_p: LogDensity, log_q: LogDensity, x: Tensor) -> Estimate:
    """Estimate TV(p, q) from x ~ p alone: the mean of max(0, 1 - q(x) / p(x))."""
    return monte_carlo((1 - log_ratio(log_q, log_p, x).exp()).clamp_min(0))
