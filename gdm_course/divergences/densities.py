"""Divergences between two known densities, by the midpoint rule on a grid, in float64.

`log_p` and `log_q` map points of the line (B,) or of the plane (B, 2) to log-densities in
nats (B,). Wrap a float32 network: `lambda x: model.log_prob(x.float())`. Everything is
differentiable in what the callables depend on.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from gdm_course import validate

LogDensity = Callable[[Tensor], Tensor]
Interval = tuple[float, float]
Bounds = Interval | tuple[Interval, Interval]
FAR = 690.0  # log 1e300: a ratio of densities from where its exp is no good


def grid(bounds: Bounds, n: int | None = None) -> tuple[Tensor, float]:
    """Cut an interval or a rectangle into equal cells.

    Args:
        bounds: (lo, hi), or ((x_lo, x_hi), (y_lo, y_hi)).
        n: cells along each axis; 4,000 on the line and 400 in the plane if None.

    Returns:
        The cells' centres, (n,) or (n * n, 2) in float64, and the size of one cell.
    """
    line = not isinstance(bounds[0], tuple)
    if any(not lo < hi for lo, hi in ([bounds] if line else bounds)):
        raise ValueError(f"bounds {bounds}: expected every lower end below the upper one")
    validate.at_least(1, n=1 if n is None else n)
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
        validate.one_each(log_density, len(x), f"log {name} of the {len(x)} cells")
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

    Equation (6), left.
    """
    p, q, cell = on_grid(log_p, log_q, bounds, n)
    m = torch.logaddexp(p, q) - math.log(2)
    return (p_log_ratio(p, m) + p_log_ratio(q, m)).sum() * cell / 2


def total_variation(
    log_p: LogDensity, log_q: LogDensity, bounds: Bounds, n: int | None = None
) -> Tensor:
    """TV(p, q) = integral of |p - q| / 2: the most by which the two differ on any event.

    Equation (6), right.
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
    variation. Where q is 0 a unit of p's mass costs lim f(t) / t for t to infinity, and
    where p is 0 a unit of q's costs f(0): infinite for the two KLs, 1/2 for the variation.

    Raises:
        ValueError: where f grows without bound, p / q leaves 1e-300 to 1e300 though neither
            is 0, and that counts. `kl` works with logarithms and has no such limit.
    """
    p, q, cell = on_grid(log_p, log_q, bounds, n)
    p, q = (v[(p.exp() > 0) | (q.exp() > 0)] for v in (p, q))
    far, near = p - q > FAR, q - p > FAR
    both = ~(far | near)
    inside = (q[both].exp() * f((p - q)[both].exp())).sum() * cell
    slope = lambda t: f(t) / t  # noqa: E731
    more = beyond(p[far].exp().sum() * cell, q[far], slope, FAR)
    return inside + more + beyond(q[near].exp().sum() * cell, p[near], f, -FAR)


def beyond(mass: Tensor, log_other: Tensor, price: Callable, end: float) -> Tensor:
    """Return what the mass costs that lies where the other density is all but 0.

    The price of a unit is the limit of `price(t)` for log t to `end` and further. It has
    arrived if the second half of the way made no difference; else it is infinite.
    """
    if not len(log_other):
        return mass
    half, least = (price(t).item() for t in torch.tensor([end / 2, end]).double().exp())
    if math.isclose(half, least, rel_tol=1e-6, abs_tol=1e-6):
        return mass * least
    if log_other.isneginf().any():
        return mass * math.inf
    if (mass * least).item() < 1e-6:  # the exact price is a small multiple of this one
        return mass * least
    raise ValueError(
        "p / q leaves 1e-300 to 1e300 and f grows there without bound: use kl or "
        "reverse_kl, which work with logarithms, or narrower bounds"
    )


def p_log_ratio(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return p (log p - log q), which is 0 where p is."""
    somewhere = log_p.exp() > 0
    ratio = torch.where(somewhere, log_p, 0.0) - torch.where(somewhere, log_q, 0.0)
    return log_p.exp() * ratio
