"""Rational-quadratic splines: monotone curves with an exact inverse, as flow layers.

References:
    Gregory, Delbourgo (1982). Piecewise rational quadratic interpolation to monotonic
        data. IMA Journal of Numerical Analysis 2.
    Durkan, Bekasov, Murray, Papamakarios (2019). Neural spline flows. arXiv:1906.04032.
"""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdm_course import validate
from gdm_course.flows.flow import Flow
from gdm_course.flows.maf import Autoregressive, IntoTheBox, alternate
from gdm_course.nets import mlp, zero_last

LEAST = 1e-3  # smallest part of the box that a bin may have, and smallest slope at a knot
UNIT_SLOPE = math.log(math.expm1(1 - LEAST))  # softplus of it is 1 - LEAST


def bins(c: Tensor, bound: float) -> tuple[Tensor, Tensor]:
    """Cut both sides of the box [-bound, bound] into K parts, by a softmax: (6).

    Args:
        c: any numbers (3 K - 1, ...); the first K are about widths, the next about heights.
        bound: half of the side of the box.

    Returns:
        Widths and heights (2, K, ...), and where every bin ends, (2, K, ...).
    """
    K = (len(c) + 1) // 3
    parts = c[: 2 * K].unflatten(0, (2, K)).softmax(1)
    sizes = 2 * bound * (LEAST + (1 - K * LEAST) * parts)
    return sizes, sizes.cumsum(1) - bound


def slopes(c: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Return the slopes (...,) at both ends of bin k: softplus inside, 1 at the border."""
    K = (len(c) + 1) // 3
    border = torch.zeros_like(c[:1])  # 0 means slope 1
    a = torch.cat([border, c[2 * K :], border]).gather(0, torch.stack([k, k + 1]))
    return (F.softplus(a + UNIT_SLOPE) + LEAST).unbind(0)


def find_bin(at: Tensor, c: Tensor, bound: float, axis: int) -> tuple[Tensor, ...]:
    """Return x0, y0, width, height and both slopes of the bin in which each point lies.

    Args:
        at: points (...,), positions (axis 0) or values (axis 1).
        c: parameters (3 K - 1, ...).
        bound: half of the side of the box.
        axis: 0 or 1.
    """
    sizes, ends = bins(c, bound)
    k = (at >= ends[axis, :-1]).sum(0)
    pick = k.expand(2, 1, *k.shape)
    size, end = sizes.gather(1, pick)[:, 0], ends.gather(1, pick)[:, 0]
    return *(end - size), *size, *slopes(c, k)


def log_slope(t: Tensor, s: Tensor, d0: Tensor, d1: Tensor) -> Tensor:
    """Return log dy/dx at the fraction t of a bin of steepness s: (8)."""
    u, v = t * (1 - t), 1 - t
    above = s * s * (d1 * t * t + 2 * s * u + d0 * v * v)
    below = s + (d0 + d1 - 2 * s) * u
    return torch.log(above / (below * below))


def spline(x: Tensor, c: Tensor, bound: float) -> tuple[Tensor, Tensor]:
    """Map x through the curve with parameters c, and give its log slope: (7), (8).

    Args:
        x: (...,).
        c: (..., 3 K - 1).
        bound: outside of [-bound, bound] the map is the identity.

    Returns:
        y and log dy/dx, both (...,).
    """
    at, c = x.clamp(-bound, bound), c.movedim(-1, 0).contiguous()  # points last: faster
    x0, y0, w, h, d0, d1 = find_bin(at, c, bound, axis=0)
    s, t = h / w, (at - x0) / w
    u = t * (1 - t)
    y = y0 + h * (s * t * t + d0 * u) / (s + (d0 + d1 - 2 * s) * u)
    inside = x == at
    return torch.where(inside, y, x), torch.where(inside, log_slope(t, s, d0, d1), 0.0)


def fraction(v: Tensor, s: Tensor, d0: Tensor, d1: Tensor) -> Tensor:
    """Return the fraction t of a bin's width where its height has the fraction v: (9).

    The sign of p chooses the form of the root in which every sum is of positive terms.

    Args:
        v: (...,); what rounding puts outside of [0, 1] counts as 0 or 1.
        s, d0, d1: steepness of the bins, and slopes at their ends (...,).
    """
    v = v + (v.clamp(0, 1) - v).detach()  # moves the value, keeps the derivative
    p = d0 * (1 - v) - d1 * v
    q = p.abs() + (p * p + 4 * s * s * v * (1 - v)).sqrt()
    first = p > 0
    rest = 2 * s * torch.where(first, v, 1 - v)
    return torch.where(first, rest, q) / (rest + q)


def unspline(y: Tensor, c: Tensor, bound: float) -> tuple[Tensor, Tensor]:
    """Map y back by the root of a quadratic, (9): returns x and log dx/dy, both (...,)."""
    at, c = y.clamp(-bound, bound), c.movedim(-1, 0).contiguous()
    x0, y0, w, h, d0, d1 = find_bin(at, c, bound, axis=1)
    s = h / w
    t = fraction((at - y0) / h, s, d0, d1)
    inside = y == at
    x = torch.where(inside, x0 + t * w, y)
    return x, torch.where(inside, -log_slope(t, s, d0, d1), 0.0)


class SplineAutoregressive(Autoregressive):
    """Every z_d is a spline of x_d, whose knots a MADE computes from x_<d.

    Args:
        D: number of dimensions.
        bins: K per spline.
        bound: half of the side of the box outside of which the map is the identity.
        hidden: units in each hidden layer.
    """

    def __init__(self, D: int, *, bins=8, bound=5.0, hidden: Sequence[int] = (64, 64)):
        validate.at_least(1, D=D, bins=bins, hidden=hidden)
        super().__init__(D, hidden=hidden, outputs=3 * bins - 1)
        self.bound = bound
        zero_last(self.net)

    def bend(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the splines: x (...,), c (..., 3 K - 1)."""
        return spline(x, c, self.bound)

    def unbend(self, z: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Invert the splines: z (...,), c (..., 3 K - 1)."""
        return unspline(z, c, self.bound)


class SplineCoupling(nn.Module):
    """The first half of x stays; splines that depend on it bend the other half.

    Args:
        D: number of dimensions, at least 2.
        bins, bound, hidden: as in `SplineAutoregressive`.
    """

    def __init__(self, D: int, *, bins=8, bound=5.0, hidden: Sequence[int] = (64, 64)):
        super().__init__()
        validate.at_least(1, D=D, bins=bins, hidden=hidden)
        if D < 2:
            raise ValueError(f"a coupling needs two dimensions or more, got D = {D}")
        self.D, self.split, self.bound = D, D // 2, bound
        sizes = (self.split, *hidden, (D - self.split) * (3 * bins - 1))
        self.net = zero_last(mlp(sizes, nn.ReLU))

    def couple(self, x: Tensor, bend: Callable) -> tuple[Tensor, Tensor]:
        """Apply `bend`, `spline` or `unspline`, to the second half of x (B, D)."""
        x = validate.points(x, self.D, self.net, least=0)
        first, second = x.tensor_split((self.split,), dim=-1)
        c = self.net(first).unflatten(-1, (second.shape[-1], -1))
        second, log_slope = bend(second, c, self.bound)
        return torch.cat([first, second], dim=-1), log_slope.sum(-1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map x (B, D) to z (B, D) and log |det dz/dx| (B,)."""
        return self.couple(x, spline)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Map z (B, D) to x (B, D) and log |det dx/dz| (B,)."""
        return self.couple(z, unspline)


class SplineFlow(Flow):
    """Spline flow: one affine layer brings the data into the box, splines do the rest.

    Densities in one pass, samples in D steps, as in `MAF`.

    Args:
        D: number of dimensions.
        layers: of splines; the order of the dimensions turns round after every layer.
        bins, bound, hidden: of every `SplineAutoregressive`.

    References:
        Durkan, Bekasov, Murray, Papamakarios (2019). Neural spline flows. arXiv:1906.04032.
    """

    def __init__(
        self, D: int, *, layers=2, bins=16, bound=4.0, hidden: Sequence[int] = (64, 64)
    ):
        validate.at_least(1, layers=layers)
        sizes = {"bins": bins, "bound": bound, "hidden": hidden}
        first = IntoTheBox(D, hidden=hidden)
        splines = [SplineAutoregressive(D, **sizes) for _ in range(layers)]
        super().__init__(alternate([first, *splines]), (D,))


class SplineCouplingFlow(Flow):
    """Spline flow of couplings: densities and samples in one pass each.

    Args:
        D, bins, bound, hidden: of every `SplineCoupling`.
        layers: of couplings; each bends one half of the dimensions, in turn.
    """

    def __init__(
        self, D: int, *, layers=4, bins=16, bound=4.0, hidden: Sequence[int] = (64, 64)
    ):
        validate.at_least(1, layers=layers)
        sizes = {"bins": bins, "bound": bound, "hidden": hidden}
        couplings = [SplineCoupling(D, **sizes) for _ in range(layers)]
        super().__init__(alternate(couplings), (D,))
