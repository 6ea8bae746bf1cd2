"""MADE as a flow: masked and inverse autoregressive flows.

References:
    Kingma, Salimans, Jozefowicz, Chen, Sutskever, Welling (2016). Improved variational
        inference with inverse autoregressive flow. arXiv:1606.04934.
    Papamakarios, Pavlakou, Murray (2017). Masked autoregressive flow for density
        estimation. arXiv:1705.07057.
"""

from collections.abc import Sequence
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdm_course import validate
from gdm_course.autoregressive.made import MaskedMLP, degrees, masks
from gdm_course.flows.flow import Flow, Inverse, Reverse
from gdm_course.nets import zero_last


class Conditioner(MaskedMLP):
    """A MADE in the natural order: numbers for d from x_<d only.

    One order for ever, so the masks are made once and kept.

    Args:
        D: number of dimensions.
        hidden: number of units in each hidden layer.
        outputs: numbers per dimension.
    """

    def __init__(self, D: int, *, hidden: Sequence[int], outputs: int):
        super().__init__(D, hidden=hidden, outputs=outputs)
        self.m = degrees(torch.arange(D), hidden)
        *inner, out = masks(self.m)
        for i, mask in enumerate([*inner, out.repeat_interleave(outputs, dim=0)]):
            self.register_buffer(f"mask{i}", mask.float(), persistent=False)

    @cached_property
    def ready(self) -> list[list[int]]:
        """How many units of each layer look at x_<=d only: `ready[i][d]`, d = 0..D."""
        least = len(self.m[0]) + 1
        return [m.bincount(minlength=least).cumsum(0).tolist() for m in self.m]

    def masked_weights(self, m: Sequence[Tensor] = ()) -> list[Tensor]:
        """Return the weights with everything forbidden set to 0, layer by layer."""
        kept = (getattr(self, f"mask{i}") for i in range(len(self.layers)))
        return [layer.weight * mask for layer, mask in zip(self.layers, kept)]

    def forward(self, x: Tensor) -> Tensor:
        """Return the numbers for every dimension: (B, D) -> (B, D, outputs)."""
        x = validate.points(x, len(self.m[0]), self.mask0, least=0)
        *inner, out = zip(self.masked_weights(), [layer.bias for layer in self.layers])
        for weight, bias in inner:
            x = F.linear(x, weight, bias).relu_()  # in place: half the memory
        return F.linear(x, *out).unflatten(-1, (-1, self.outputs))


class Autoregressive(nn.Module):
    """An invertible layer z_d = tau(x_d; c_d), where a MADE computes c_d from x_<d: (1).

    Its Jacobian is triangular, so log |det| is the sum of log dz_d/dx_d: (2). A subclass
    says what tau is: `bend(x, c) -> (z, log_slope)`, all (..., D), and `unbend`.

    Args:
        D: number of dimensions.
        hidden: units in each hidden layer of the MADE.
        outputs: how many numbers c_d are.
    """

    def __init__(self, D: int, *, hidden: Sequence[int], outputs: int):
        super().__init__()
        self.net = Conditioner(D, hidden=hidden, outputs=outputs)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map x (B, D) to z (B, D) and log |det dz/dx| (B,), in one pass."""
        z, log_slope = self.bend(x, self.net(x))
        return z, log_slope.sum(-1)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Map z (B, D) to x (B, D) and log |det dx/dz| (B,), one dimension at a time.

        Costs one pass through the network, D with gradients.
        """
        z = validate.points(z, len(self.net.m[0]), self.net.mask0, name="z", least=0)
        solve = by_passes if torch.is_grad_enabled() else by_filling
        return solve(self, z)


def by_passes(layer: Autoregressive, z: Tensor) -> tuple[Tensor, Tensor]:
    """Invert by D passes: the d-th makes x_1..x_d right, whatever x was before: (5)."""
    x, log_slope = z, torch.zeros_like(z)
    for _ in range(z.shape[1]):
        x, log_slope = layer.unbend(z, layer.net(x))
    return x, log_slope.sum(-1)


@torch.no_grad()
def by_filling(layer: Autoregressive, z: Tensor) -> tuple[Tensor, Tensor]:
    """Invert as MADE samples: once x_d is known, the units that waited for it, and no more.

    In h, features are rows and points are columns: what is finished lies in one piece.
    """
    net, x, log_det = layer.net, torch.empty_like(z), z.new_zeros(len(z))
    weights, biases = net.masked_weights(), [part.bias[:, None] for part in net.layers]
    h = [z.new_empty(part.in_features, len(z)) for part in net.layers]
    for d in range(z.shape[1]):
        rows, seen = slice(d * net.outputs, (d + 1) * net.outputs), net.ready[-1][d]
        c = torch.addmm(biases[-1][rows], weights[-1][rows, :seen], h[-1][:seen])
        h[0][d], log_slope = layer.unbend(z[:, d], c.T)
        x[:, d] = h[0][d]
        log_det += log_slope
        for i in range(1, len(h)):
            rows, seen = slice(*net.ready[i][d : d + 2]), net.ready[i - 1][d + 1]
            if rows.start < rows.stop:  # units that waited for x_d
                fresh, W = h[i][rows], weights[i - 1][rows, :seen]
                torch.addmm(biases[i - 1][rows], W, h[i - 1][:seen], out=fresh).relu_()
    return x, log_det


class AffineAutoregressive(Autoregressive):
    """The layer of MAF: z_d = (x_d - mu_d(x_<d)) / sigma_d(x_<d), equation (3).

    The network says the shift -mu / sigma, in units of z: where sigma is small, a step that
    moved mu itself would move z by 1 / sigma times as much. log sigma is bent softly
    towards at most `limit`.
    """

    limit = 6.9  # sigma from a thousandth to a thousand

    def __init__(self, D: int, *, hidden: Sequence[int] = (64, 64)):
        super().__init__(D, hidden=hidden, outputs=2)

    def read(self, c: Tensor) -> tuple[Tensor, Tensor]:
        """Return -mu / sigma and -log sigma (...,) from what the network says, (..., 2)."""
        shift, a = c.unbind(-1)
        return shift, a / (1 + a.abs() / self.limit)

    def bend(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Standardise: z = x / sigma - mu / sigma, and log dz/dx = -log sigma."""
        shift, log_slope = self.read(c)
        return x * torch.exp(log_slope) + shift, log_slope

    def unbend(self, z: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Undo it: x = (z + mu / sigma) sigma, and log dx/dz = log sigma."""
        shift, log_slope = self.read(c)
        return (z - shift) * torch.exp(-log_slope), -log_slope


class IntoTheBox(Autoregressive):
    """z_d = (x_d - mu_d(x_<d)) / sigma_d(x_<d), the identity at first: before the splines.

    The network says mu and -log sigma themselves, which is cut off at `limit`.
    """

    limit = 5.0

    def __init__(self, D: int, *, hidden: Sequence[int] = (64, 64)):
        super().__init__(D, hidden=hidden, outputs=2)
        zero_last(self.net)

    def bend(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Standardise x (...,) by c (..., 2)."""
        mu, log_slope = c[..., 0], c[..., 1].clamp(-self.limit, self.limit)
        return (x - mu) * torch.exp(log_slope), log_slope

    def unbend(self, z: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Undo it: x = mu + sigma z."""
        mu, log_slope = c[..., 0], c[..., 1].clamp(-self.limit, self.limit)
        return mu + z * torch.exp(-log_slope), -log_slope


def alternate(layers: Sequence[nn.Module]) -> list[nn.Module]:
    """Put a reversal of the dimensions between any two layers."""
    return [part for layer in layers for part in (layer, Reverse())][:-1]


class MAF(Flow):
    """Masked autoregressive flow: densities in one pass, samples in D steps.

    Args:
        D: number of dimensions.
        layers: how many; the order of the dimensions turns round after each.
        hidden: units in each hidden layer of every MADE.

    References:
        Papamakarios, Pavlakou, Murray (2017). Masked autoregressive flow for density
            estimation. arXiv:1705.07057.
    """

    def __init__(self, D: int, *, layers: int = 5, hidden: Sequence[int] = (64, 64)):
        validate.at_least(1, layers=layers)
        maps = [AffineAutoregressive(D, hidden=hidden) for _ in range(layers)]
        super().__init__(alternate(maps), (D,))


class IAF(Flow):
    """Inverse autoregressive flow: samples in one pass, densities in D steps.

    Args:
        D, layers, hidden: as in `MAF`, of which every layer is turned round.

    References:
        Kingma and others (2016). Improved variational inference with inverse
            autoregressive flow. arXiv:1606.04934.
    """

    def __init__(self, D: int, *, layers: int = 5, hidden: Sequence[int] = (64, 64)):
        validate.at_least(1, layers=layers)
        maps = [Inverse(AffineAutoregressive(D, hidden=hidden)) for _ in range(layers)]
        super().__init__(alternate(maps), (D,))
