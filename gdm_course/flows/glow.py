"""Flows for images: squeeze, masks, invertible 1x1 convolutions, several scales.

References:
    Dinh, Sohl-Dickstein, Bengio (2017). Density estimation using Real NVP.
        arXiv:1605.08803. (Masks, squeezing, factoring out.)
    Kingma, Dhariwal (2018). Glow: generative flow with invertible 1x1 convolutions.
        arXiv:1807.03039.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdm_course import validate
from gdm_course.flows.flow import Chain, Flow
from gdm_course.flows.realnvp import ActNorm, AffineCoupling, bounded, half_sizes
from gdm_course.nets import conv_net, zero_last


def squeeze(x: Tensor) -> Tensor:
    """Turn 2 x 2 blocks of pixels into channels: (B, C, H, W) -> (B, 4C, H/2, W/2)."""
    validate.points(x, ("C", "H", "W"), least=0)
    if x.shape[2] % 2 or x.shape[3] % 2:
        raise ValueError(
            f"cannot squeeze images of {x.shape[2]} x {x.shape[3]}: both sides must be "
            "even (use fewer scales, or pad the images)"
        )
    B, C, H, W = x.shape
    return (
        F.pixel_unshuffle(x, 2) if B else x.view(0, 4 * C, H // 2, W // 2)
    )  # torch: as is


def unsqueeze(z: Tensor) -> Tensor:
    """Undo `squeeze`: (B, 4C, H, W) -> (B, C, 2H, 2W)."""
    B, C, H, W = z.shape
    return F.pixel_shuffle(z, 2) if B else z.view(0, C // 4, 2 * H, 2 * W)


def checkerboard(H: int, W: int, odd: bool = False) -> Tensor:
    """Return a mask (1, H, W): 1 where row plus column is even (or odd), 0 elsewhere."""
    row, column = torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij")
    return ((row + column + odd) % 2 == 0).float()[None]


def not_wider(x: Tensor, mask: Tensor) -> Tensor:
    """Return x (B, *D) if a mask of its dimensions does not broadcast it to more."""
    pairs = [*zip(mask.shape[::-1], x.shape[:0:-1])]
    if x.ndim != 1 + mask.ndim or any(m not in (1, n) for m, n in pairs):
        wanted = ", ".join(map(str, ("B", *mask.shape)))
        raise ValueError(
            f"x has shape {tuple(x.shape)}: expected ({wanted}), as the mask is, where "
            "a 1 stands for any size"
        )
    return x


class MaskedCoupling(nn.Module):
    """An affine coupling under any mask: where it is 1, x passes, equation (9).

    z = m x + (1 - m) (x exp(s(m x)) + t(m x)). A context, such as an image on which the
    flow depends, goes into s and t beside m x.

    Args:
        mask: of zeros and ones, such as (D,), (1, H, W) or (C, 1, 1).
        net: from C (and the context's) channels to shift and raw log scale, 2C.
    """

    def __init__(self, mask: Tensor, net: nn.Module):
        super().__init__()
        self.register_buffer("mask", mask, persistent=False)
        self.net = net

    def shift_and_scale(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return t and the bounded log scale s: both 0 where the mask is 1."""
        seen = not_wider(x, self.mask) * self.mask
        seen = seen if context is None else torch.cat((seen, context), dim=1)
        t, s = self.net(seen).chunk(2, dim=1)
        return (1 - self.mask) * t, (1 - self.mask) * bounded(s)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Scale and shift what the mask leaves free: x -> z (same shape), sum s (B,)."""
        t, s = self.shift_and_scale(x, context)
        return x * s.exp() + t, s.flatten(1).sum(1)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Undo it, for z is x where the mask is 1: z -> x (same shape), -sum s (B,)."""
        t, s = self.shift_and_scale(z, context)
        return (z - t) * (-s).exp(), -s.flatten(1).sum(1)


def mix(x: Tensor, W: Tensor) -> Tensor:
    """Multiply the channels of every pixel by a matrix: (B, C, H, W) -> the same shape."""
    x = validate.points(x, (len(W), "H", "W"), least=0)
    return F.conv2d(x, W[:, :, None, None])


class InvertibleConv(nn.Module):
    """A 1 x 1 convolution z = W x of the channels, W = P L (U + diag(sign e^log_d)): (10).

    P is a fixed permutation, L has ones on its diagonal, U zeros on and below its own. So
    log |det W| = sum log_d, without computing a determinant. W starts as a rotation.

    Args:
        C: number of channels.

    References:
        Kingma, Dhariwal (2018). Glow. arXiv:1807.03039, section 3.2.
    """

    def __init__(self, C: int):
        super().__init__()
        rotation = torch.linalg.qr(torch.randn(validate.count(C, "C", 1), C))[0]
        P, L, U = torch.linalg.lu(rotation)
        self.lower, self.upper = nn.Parameter(L), nn.Parameter(U)
        self.log_d = nn.Parameter(U.diagonal().abs().log())
        self.register_buffer("sign", U.diagonal().sign())
        self.register_buffer("P", P)

    def factors(self) -> tuple[Tensor, Tensor]:
        """Return L and U + diag, each (C, C), from what may be used of the parameters."""
        L = self.lower.tril(-1) + torch.eye(len(self.P)).to(self.lower)
        return L, self.upper.triu(1) + torch.diag(self.sign * self.log_d.exp())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mix the channels: x (B, C, H, W) -> z (same), H W sum log_d (B,)."""
        L, U = self.factors()
        log_det = self.log_d.sum() * x.shape[2:].numel()
        return mix(x, self.P @ L @ U), log_det.expand(len(x))

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Unmix by two triangular systems: z (B, C, H, W) -> x, -H W sum log_d (B,)."""
        L, U = self.factors()
        half = torch.linalg.solve_triangular(L, self.P.T, upper=False, unitriangular=True)
        W = torch.linalg.solve_triangular(U, half, upper=True)
        log_det = -self.log_d.sum() * z.shape[2:].numel()
        return mix(z, W), log_det.expand(len(z))


def glow_step(C: int, hidden: int, blocks: int) -> Chain:
    """Make one step of Glow: normalise, mix the channels, couple their halves."""
    kept, changed = half_sizes(C, swap=False)
    net = zero_last(conv_net(kept, 2 * changed, hidden=hidden, blocks=blocks))
    return Chain([ActNorm(C), InvertibleConv(C), AffineCoupling(net)])


class Scale(nn.Module):
    """One scale: squeeze, layers, then half of the channels are done; `rest` takes others.

    z has the shape of x: finished channels stay where they are, and nothing is lost.

    Args:
        layers: an invertible layer for squeezed images (B, 4C, H/2, W/2).
        rest: a layer for the first half of the channels, or None: this is the last scale.
    """

    def __init__(self, layers: nn.Module, rest: nn.Module | None = None):
        super().__init__()
        self.layers, self.rest = layers, rest

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map an image to noise: x (B, C, H, W) -> z (same), log_det (B,)."""
        h, log_det = self.layers(squeeze(x))
        if self.rest is not None:
            on, done = h.chunk(2, dim=1)
            on, more = self.rest(on)
            h, log_det = torch.cat((on, done), dim=1), log_det + more
        return unsqueeze(h), log_det

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Map noise to an image: z (B, C, H, W) -> x (same), log_det (B,)."""
        h, log_det = squeeze(z), z.new_zeros(len(z))
        if self.rest is not None:
            on, done = h.chunk(2, dim=1)
            on, log_det = self.rest.inverse(on)
            h = torch.cat((on, done), dim=1)
        h, more = self.layers.inverse(h)
        return unsqueeze(h), log_det + more


class Glow(Flow):
    """A flow for images: checkerboard couplings, then several scales of Glow's steps.

    Args:
        shape: of one image, (C, H, W); H and W must be even, and again at every scale.
        scales: how often the image is squeezed.
        steps: steps of Glow at each scale.
        checkers: couplings under checkerboards before the first squeeze (RealNVP's idea).
        hidden, blocks: channels and residual blocks of the coupling networks.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        *,
        scales: int = 2,
        steps: int = 4,
        checkers: int = 0,
        hidden: int = 64,
        blocks: int = 0,
    ):
        validate.at_least(1, shape=shape, scales=scales, steps=steps, hidden=hidden)
        validate.at_least(0, checkers=checkers, blocks=blocks)
        C, H, W = shape
        first: list[nn.Module] = []
        for k in range(checkers):
            net = zero_last(conv_net(C, 2 * C, hidden=hidden, blocks=blocks))
            first.append(MaskedCoupling(checkerboard(H, W, odd=k % 2 == 1), net))
        rest = None
        for k in reversed(range(scales)):  # the innermost scale first
            chain = Chain(glow_step(C * 2 ** (k + 2), hidden, blocks) for _ in range(steps))
            rest = Scale(chain, rest)
        super().__init__([*first, rest], shape)
