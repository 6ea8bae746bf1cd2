"""Coupling layers: half of x passes, and tells how to shift and scale the other half.

References:
    Dinh, Krueger, Bengio (2015). NICE: non-linear independent components estimation.
        arXiv:1410.8516.
    Dinh, Sohl-Dickstein, Bengio (2017). Density estimation using Real NVP.
        arXiv:1605.08803.
    Kingma, Dhariwal (2018). Glow: generative flow with invertible 1x1 convolutions.
        arXiv:1807.03039. (ActNorm.)
"""

import math
from functools import partial

import torch
from torch import Tensor, nn

from gdm_course import validate
from gdm_course.flows.flow import Flow
from gdm_course.learning import moments, started, taught
from gdm_course.nets import mlp, zero_last


def halves(x: Tensor, swap: bool) -> tuple[Tensor, Tensor]:
    """Cut dimension 1 in two: the part that passes and the part that is changed.

    Args:
        x: vectors (B, D) or images (B, C, H, W).
        swap: whether the second half passes, not the first.
    """
    if x.ndim < 2 or x.shape[1] < 2:
        raise ValueError(
            f"x has shape {tuple(x.shape)}: expected (B, D) or (B, C, H, W), of which "
            "dimension 1 has two halves"
        )
    a, b = x.chunk(2, dim=1)
    return (b, a) if swap else (a, b)


def join(a: Tensor, b: Tensor, swap: bool) -> Tensor:
    """Put two halves back where `halves` took them from."""
    return torch.cat((b, a) if swap else (a, b), dim=1)


def half_sizes(D: int, swap: bool) -> tuple[int, int]:
    """Return how many of D dimensions pass, and how many are changed."""
    if validate.count(D, "D", 1) < 2:
        raise ValueError(
            f"a coupling of {D} dimension has no second half: it needs D >= 2 (for one "
            "dimension take a planar flow, or condition on something else)"
        )
    small, large = D // 2, D - D // 2
    return (small, large) if swap else (large, small)


def coupling_net(kept: int, changed: int, hidden: int) -> nn.Module:
    """Build a perceptron that says 0 at first: a new coupling is the identity."""
    relu = partial(nn.ReLU, inplace=True)  # in place: a third less time on many points
    return zero_last(mlp((kept, hidden, hidden, changed), relu))


class AdditiveCoupling(nn.Module):
    """z_a = x_a, z_b = x_b + t(x_a): equation (3); the volume stays, log_det is 0.

    Args:
        net: t, from the half that passes to shifts of the other.
        swap: whether the second half passes.
    """

    def __init__(self, net: nn.Module, *, swap: bool = False):
        super().__init__()
        self.net, self.swap = net, swap

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Shift one half by what the other says: x (B, D) -> z (B, D), zeros (B,)."""
        a, b = halves(x, self.swap)
        return join(a, b + self.net(a), self.swap), x.new_zeros(len(x))

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Shift back; t itself is never inverted: z (B, D) -> x (B, D), zeros (B,)."""
        a, b = halves(z, self.swap)
        return join(a, b - self.net(a), self.swap), z.new_zeros(len(z))


def bounded(log_scale: Tensor, bound: float = 2.0) -> Tensor:
    """Squeeze a log scale into (-bound, bound): s = raw / (1 + |raw| / bound), (5)."""
    return log_scale / (1 + log_scale.abs() / bound)


class AffineCoupling(nn.Module):
    """z_a = x_a, z_b = x_b exp(s(x_a)) + t(x_a): equation (4); log_det is sum s.

    Args:
        net: from the half that passes to shift t and raw log scale, side by side in
            dimension 1.
        swap: whether the second half passes.
        bound: of the log scale s; math.inf lets the network say anything.
    """

    def __init__(self, net: nn.Module, *, swap: bool = False, bound: float = 2.0):
        super().__init__()
        self.net, self.swap, self.bound = net, swap, bound

    def shift_and_scale(self, a: Tensor) -> tuple[Tensor, Tensor]:
        """Return t and the bounded log scale s for the half that is changed."""
        t, s = self.net(a).chunk(2, dim=1)
        return t, bounded(s, self.bound)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and shift one half: x (B, D, ...) -> z (same), sum s (B,)."""
        a, b = halves(x, self.swap)
        t, s = self.shift_and_scale(a)
        z = torch.addcmul(t, b, s.exp())  # b exp(s) + t
        return join(a, z, self.swap), s.flatten(1).sum(1)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Undo it, for a gives the same t and s: z -> x (same), -sum s (B,)."""
        a, b = halves(z, self.swap)
        t, s = self.shift_and_scale(a)
        return join(a, (b - t) * (-s).exp(), self.swap), -s.flatten(1).sum(1)


def standardising(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and log_scale that give x (B, C, ...) mean 0 and variance 1: (C,) each.

    A constant channel is scaled by 1; of a single number the scale is nan, unknown.
    """
    mean, std = moments(x)  # of the batches of all processes that train together
    constant = std <= 1e-6 * (1 + mean.abs())
    return mean, -torch.where(constant, 1, std).log()


class ActNorm(nn.Module):
    """z = (x - mean) exp(log_scale), per dimension or channel: (11).

    Both start where z of the first batch in a `loss` has mean 0 and variance 1, and are
    learned from there. `ready` is in the state dict: loaded weights do not start over.

    Args:
        C: dimensions of a vector (B, C), or channels of an image (B, C, H, W).
    """

    def __init__(self, C: int):
        super().__init__()
        validate.at_least(1, C=C)
        self.mean = nn.Parameter(torch.zeros(C))
        self.log_scale = nn.Parameter(torch.zeros(C))
        self.register_buffer("ready", torch.tensor(False))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Normalise: x (B, C, ...) -> z (same), pixels times sum log_scale (B,)."""
        x = validate.points(x, (len(self.mean), *x.shape[2:]), self.mean)
        mean, log_scale = self.mean, self.log_scale
        if taught(self) and not self.ready:  # a loss decides, in training
            mean, log_scale = started((mean, log_scale), standardising(x), self.ready)
        rows, pixels = (-1, *[1] * (x.ndim - 2)), math.prod(x.shape[2:])
        z = (x - mean.view(rows)) * log_scale.view(rows).exp()
        return z, (log_scale.sum() * pixels).expand(len(x))

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Undo it: z (B, C, ...) -> x (same), minus the log_det of forward (B,)."""
        z = validate.points(z, (len(self.mean), *z.shape[2:]), self.mean, name="z", least=0)
        rows, pixels = (-1, *[1] * (z.ndim - 2)), math.prod(z.shape[2:])
        log_det = -self.log_scale.sum() * pixels
        x = z * (-self.log_scale.view(rows)).exp() + self.mean.view(rows)
        return x, log_det.expand(len(z))


class NICE(Flow):
    """Additive couplings, then one scale per dimension: a density with log_det constant.

    Args:
        D: dimensions of a point, at least 2.
        layers: number of couplings; the halves change places from one to the next.
        hidden: units in each of the two hidden layers of t.

    References:
        Dinh, Krueger, Bengio (2015). NICE. arXiv:1410.8516.
    """

    def __init__(self, D: int, *, layers: int = 8, hidden: int = 64):
        validate.at_least(1, layers=layers, hidden=hidden)
        couplings: list[nn.Module] = []
        for k in range(layers):
            kept, changed = half_sizes(D, swap=k % 2 == 1)
            net = coupling_net(kept, changed, hidden)
            couplings.append(AdditiveCoupling(net, swap=k % 2 == 1))
        super().__init__([*couplings, ActNorm(D)], (D,))


class RealNVP(Flow):
    """ActNorm, then affine couplings: real-valued, non-volume-preserving.

    Args:
        D: dimensions of a point, at least 2.
        layers: number of couplings; the halves change places from one to the next.
        hidden: units in each of the two hidden layers of s and t.
        bound: of the log scales; math.inf takes it away.

    References:
        Dinh, Sohl-Dickstein, Bengio (2017). Real NVP. arXiv:1605.08803.
    """

    def __init__(self, D: int, *, layers: int = 8, hidden: int = 64, bound: float = 2.0):
        validate.at_least(1, layers=layers, hidden=hidden)
        couplings: list[nn.Module] = []
        for k in range(layers):
            kept, changed = half_sizes(D, swap=k % 2 == 1)
            net = coupling_net(kept, 2 * changed, hidden)
            couplings.append(AffineCoupling(net, swap=k % 2 == 1, bound=bound))
        super().__init__([ActNorm(D), *couplings], (D,))
