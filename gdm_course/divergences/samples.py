"""Distances that need no density: Wasserstein on the line, and the kernel distance MMD."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gdm_course import validate
from gdm_course.divergences.densities import Interval, LogDensity, grid, on_grid


def wasserstein_1d(x: Tensor, y: Tensor, order: float = 1.0) -> Tensor:
    """W_k between two samples of the line, exact: sort, then compare equal quantiles.

    On the line the cheapest plan never crosses, so it joins the quantile functions:
    W_k^k = integral over u in (0, 1) of |F^-1(u) - G^-1(u)|^k, equation (7). Both are
    steps here.

    Args:
        x, y: (n,) and (m,); n and m may differ.
        order: k >= 1.

    Returns:
        W_k, a scalar in the unit of x.
    """
    x, y = validate.points(x, (), name="x"), validate.points(y, (), x, name="y")
    if not order >= 1:
        raise ValueError(f"order is {order}: expected a power of the distance, k >= 1")
    x, y = x.sort().values, y.sort().values
    jumps = torch.cat([levels(x), levels(y)]).sort().values
    width = jumps.diff(prepend=jumps.new_zeros(1))
    middle = jumps - width / 2  # of each interval of u on which both functions are constant
    i = (middle * len(x)).long().clamp_max(len(x) - 1)
    j = (middle * len(y)).long().clamp_max(len(y) - 1)
    return ((x[i] - y[j]).abs() ** order * width).sum() ** (1 / order)


def levels(x: Tensor) -> Tensor:
    """Return 1/n, 2/n, ..., 1, where the quantile function of n points jumps."""
    return torch.arange(1, len(x) + 1, device=x.device, dtype=x.dtype) / len(x)


def wasserstein_1d_cdf(
    F: Callable[[Tensor], Tensor],
    G: Callable[[Tensor], Tensor],
    bounds: Interval,
    n: int = 4000,
) -> Tensor:
    """W_1 between two densities of the line by their CDFs: the integral of |F - G|.

    Equation (7), right: the area between the two curves, by columns instead of rows.
    """
    x, cell = grid(bounds, n)
    left, right = (validate.one_each(cdf(x), len(x), "a CDF of x") for cdf in (F, G))
    return (left - right).abs().sum() * cell


def gaussian_kernel(x: Tensor, y: Tensor, bandwidth: float | Sequence[float]) -> Tensor:
    """k(x, y) = exp(-|x - y|^2 / (2 h^2)), or the mean of these over several h.

    Args:
        x, y: points (N, D) and (M, D).
        bandwidth: h, in the unit of x; several make a kernel that sees several scales.

    Returns:
        All pairs, (N, M).
    """
    x = validate.points(x, "D", name="x")
    y = validate.points(y, x.shape[1], x, name="y")
    squared = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").square()
    widths = bandwidth if isinstance(bandwidth, Sequence) else [bandwidth]
    return sum((-squared / (2 * h**2)).exp() for h in widths) / len(widths)


def mmd2(x: Tensor, y: Tensor, bandwidth: float | Sequence[float]) -> Tensor:
    """Estimate MMD^2(p, q) = E k(x, x') + E k(y, y') - 2 E k(x, y) without bias.

    Equation (8). A point and itself are not an independent pair, so both diagonals are
    left out. An estimate that is right on average where the truth is 0 is often negative.

    Args:
        x, y: samples (N, D) and (M, D), at least 2 rows each.
        bandwidth: of the Gaussian kernel, in the unit of x.

    Returns:
        The estimate, a scalar without unit, 2 at most.

    Raises:
        ValueError: a sample of one row, which has no pair.

    References:
        Gretton, Borgwardt, Rasch, Schoelkopf and Smola (2012), A kernel two-sample test,
        JMLR 13.
    """
    N = len(validate.points(x, "D", least=2))
    M = len(validate.points(y, "D", name="y", least=2))
    within_x = (gaussian_kernel(x, x, bandwidth).sum() - N) / (N * (N - 1))
    within_y = (gaussian_kernel(y, y, bandwidth).sum() - M) / (M * (M - 1))
    return within_x + within_y - 2 * gaussian_kernel(x, y, bandwidth).mean()


def mmd2_density(
    log_p: LogDensity,
    log_q: LogDensity,
    bounds: Interval,
    bandwidth: float | Sequence[float],
    n: int = 800,
) -> Tensor:
    """MMD^2 between two densities of the line: the double integral of (p - q) k (p - q)."""
    p, q, cell = on_grid(log_p, log_q, bounds, n)
    x, _ = grid(bounds, n)
    difference = (p.exp() - q.exp()) * cell
    return difference @ gaussian_kernel(x[:, None], x[:, None], bandwidth) @ difference


def median_distance(x: Tensor, y: Tensor, most: int = 1000) -> float:
    """Return the median distance between the points of both samples: a usual bandwidth.

    Args:
        x, y: (N, D) and (M, D).
        most: only so many rows of each are used, because pairs grow as the square.
    """
    validate.points(y, validate.points(x, "D").shape[1], x, name="y")
    return torch.pdist(torch.cat([x[:most], y[:most]])).median().item()
