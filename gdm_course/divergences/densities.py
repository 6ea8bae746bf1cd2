"""Divergences between two known densities, by the midpoint rule on a grid, in float64.

`log_p` and `log_q` map points of the line (B,) or of the plane (B, 2) to log-densities in
nats (B,). Wrap a float32 network: `lambda x: model.log_prob(x.float())`. Everything is
differentiable in what the callables depend on.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

LogDensity = Callable[[Tensor], Tensor]
Interval = tuple[float, float]
Bounds = Interval | tuple[Interval, Interval]


def grid(bounds: Bounds, n: int | None = None) -> tuple[Tensor, float]:
    """Cut an interval or a rectangle into equal cells.

    Args:
        bounds: (lo, hi), or ((x_lo, x_hi), (y_lo, y_hi)).
        n: cells along each axis; 4,000 on the line and 400 in the plane if None.

    Returns:
        The cells' centres, (n,) or (n * n, 2) in float64, and the size of one cell.
    """
    line = not isinstance(bounds[0], tuple)
    n = n or (4000 if line else 400)
    at = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    axes = [lo + (hi - lo) * at for lo, hi in ([bounds] if line else bounds)]
    cell = math.prod((hi - lo) / n for lo, hi in ([bounds] if line else bounds))
    return (axes[0] if line else torch.cartesian_prod(*axes)), cell


def on_grid(
    log_p: LogDensity, log_q: LogDensity, bounds: Bounds, n: int | None
) -> tuple[Tensor, Tensor, float]:
    """Evaluate both densities on a grid that has to hold the mass of each up to 1 %.

    Raises:
        ValueError: it does not, so that a divergence computed on it would be wrong.
    """
    x, cell = grid(bounds, n)
    on = [log_p(x), log_q(x)]
    for name, log_density in zip(("p", "q"), on):
        mass = (log_density.detach().exp().sum() * cell).item()
        if not 0.99 < mass < 1.01:
            raise ValueError(
                f"{name} integrates to {mass:.3f} over {bounds}, expected 1 up to 1 %: "
                "widen the bounds, use more cells, or check that it is normalised"
            )
    return on[0], on[1], cell


def kl(
    log_p: LogDensity, log_q: LogDensity, bounds: Bounds, n: int | None = None
) -> Tensor:
    """KL(p || q) = integral of p (log p - log q), in nats: the mean is taken under p.

    Equation (3). Infinite where p has mass and q has none.
    """
    p, q, cell = on_grid(log_p, log_q, bounds, n)
    return p_log_ratio(p, q).sum() * cell


def reverse_kl(
    log_p: LogDensity, log_q: LogDensity, bounds: Bounds, n: int | None = None
) -> Tensor:
    """KL(q || p), in nats: the same, with the mean taken under q."""
    return kl(log_q, log_p, bounds, n)


def js(
    log_p: LogDensity, log_q: LogDensity, bounds: Bounds, n: int | None = None
) -> Tensor:
    """JS(p, q) = KL(p || m) / 2 + KL(q || m) / 2 with m = (p + q) / 2: 0 to log 2 nats.

    Equation (5), left.
    """
    p, q, cell = on_grid(log_p, log_q, bounds, n)
    m = torch.logaddexp(p, q) - math.log(2)
    return (p_log_ratio(p, m) + p_log_ratio(q, m)).sum() * cell / 2


def total_variation(
    log_p: LogDensity, log_q: LogDensity, bounds: Bounds, n: int | None = None
) -> Tensor:
    """TV(p, q) = integral of |p - q| / 2: the most by which the two differ on any event.

    Equation (5), right.
    """
    p, q, cell = on_grid(log_p, log_q, bounds, n)
    return (p.exp() - q.exp()).abs().sum() * cell / 2


def f_divergence(
    f: Callable[[Tensor], Tensor],
    log_p: LogDensity,
    log_q: LogDensity,
    bounds: Bounds,
    n: int | None = None,
) -> Tensor:
    """D_f(p || q) = integral of q f(p / q), for a convex f with f(1) = 0.

    f(t) = torch.xlogy(t, t) gives KL(p || q), -log t KL(q || p), |t - 1| / 2 the total
    variation.
    Cells where q underflows to 0 are left out, so p must have no mass there.
    """
    p, q, cell = on_grid(log_p, log_q, bounds, n)
    inside = q.exp() > 0
    p, q = p[inside], q[inside]
    return (q.exp() * f((p - q).exp())).sum() * cell


def p_log_ratio(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return p (log p - log q), which is 0 where p is."""
    somewhere = log_p.exp() > 0
    ratio = torch.where(somewhere, log_p, 0.0) - torch.where(somewhere, log_q, 0.0)
    return log_p.exp() * ratio
