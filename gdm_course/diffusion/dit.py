"""A transformer in place of the U-Net: patches are tokens, and the noise sets the norms.

References:
    Peebles, Xie (2023). Scalable diffusion models with transformers. arXiv:2212.09748.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdm_course import validate
from gdm_course.diffusion.ddpm import hidden
from gdm_course.diffusion.decoders import LevelDecoder
from gdm_course.diffusion.denoiser import Waves, with_null
from gdm_course.diffusion.flow_matching import FlowMatching
from gdm_course.flows.continuous import rademacher
from gdm_course.flows.ode import Fixed, rk4_step
from gdm_course.nets import mlp, zero_last


class EveryWay(nn.Module):
    """Attention of every patch to all patches: (B, T, width) -> (B, T, width).

    Args: width of the stream, which `heads` share equally.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        validate.at_least(1, width=width, heads=heads)
        if width % heads:
            raise ValueError(f"width {width} cannot be shared equally by {heads} heads")
        self.heads, self.qkv = heads, nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, h: Tensor) -> Tensor:
        """Return the mean of values, weighted by softmax(q k / sqrt(d)), of all heads."""
        q, k, v = self.qkv(h).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class AdaBlock(nn.Module):
    """A transformer block that e steers: adaLN-Zero.

    h + gate * attention(norm(h) * (1 + scale) + shift), then the same with a perceptron.
    All six come from e by a layer that starts at 0: at first the block does nothing.

    Args: width of the stream, equal heads, numbers E in e.
    """

    def __init__(self, width: int, heads: int, E: int):
        super().__init__()
        self.told = zero_last(nn.Sequential(nn.SiLU(), nn.Linear(E, 6 * width)))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.attention = EveryWay(width, heads)
        self.think = mlp((width, 4 * width, width), nn.GELU)

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        """Update the stream: (B, T, width), (B, E) -> (B, T, width)."""
        a, b, open_a, c, d, open_c = self.told(e)[:, None].chunk(6, -1)
        h = h + open_a * self.attention(self.norm(h) * (1 + a) + b)
        return h + open_c * self.think(self.norm(h) * (1 + c) + d)


def divided(shape: Sequence[int], patch: int) -> tuple[int, int, int]:
    """Return (C, H, W) if patches of this side fill it."""
    validate.at_least(1, shape=tuple(shape), patch=patch)
    C, H, W = shape
    if H % patch or W % patch:
        raise ValueError(f"patch is {patch}: expected a divisor of both {H} and {W}")
    return C, H, W


class DiT(nn.Module):
    """Diffusion transformer of pictures: (x, log_snr, y) -> (B, C, H, W).

    Args:
        shape: (C, H, W); both sides are multiples of `patch`.
        patch: side of a patch; each is a token.
        width, depth, heads: of the transformer.
        classes: number of labels; label number `classes`, or none at all, says nothing.
    """

    def __init__(
        self, shape: Sequence[int], *, patch=4, width=128, depth=6, heads=4, classes=0
    ):
        super().__init__()
        C, H, W = divided(shape, patch)
        validate.at_least(1, width=width, depth=depth)
        validate.at_least(0, classes=classes)
        self.patch, self.classes, self.shape = patch, classes, (C, H, W)
        self.cut = nn.Conv2d(C, width, patch, patch)
        self.place = nn.Parameter(torch.randn(H * W // patch**2, width) / math.sqrt(width))
        self.time = nn.Sequential(Waves(8), mlp((16, width, width)))
        self.label = nn.Embedding(classes + 1, width) if classes else None
        self.blocks = nn.ModuleList(AdaBlock(width, heads, width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.out = zero_last(nn.Linear(width, C * patch**2))

    def forward(self, x: Tensor, log_snr: Tensor, y: Tensor | None = None) -> Tensor:
        """Return what the target asks for, in the shape of x."""
        x = validate.points(x, self.shape, self.out, least=0)
        e = self.time(log_snr.to(x))
        if self.label is not None:
            e = e + self.label(with_null(y, self.classes, x))
        h = self.cut(x).flatten(2).mT + self.place  # (B, T, width)
        for block in self.blocks:
            h = block(h, e)
        rows = x.shape[2] // self.patch
        return F.pixel_shuffle(
            self.out(self.norm(h)).mT.unflatten(2, (rows, -1)), self.patch
        )


class Labelled(nn.Module):
    """A network that is always told the same labels y, whatever it is given."""

    def __init__(self, net: nn.Module, y: Tensor | None):
        super().__init__()
        self.net, self.y = net, y

    def forward(self, x: Tensor, log_snr: Tensor, y: Tensor | None = None) -> Tensor:
        """Return net(x, log_snr, self.y)."""
        return self.net(x, log_snr, self.y)


class PictureFlow(nn.Module):
    """Flow matching of pictures of codes by a `DiT`, with labels or without.

    With codes as levels from -1 to 1, and noise u, uniform in a bin 2 / (K - 1) wide,
    log P(code) >= E[log p(level + u)] + D log(2 / (K - 1)).

    Args:
        shape: of a picture (C, H, W); K: number of values of a pixel.
        drop: share of labels hidden in training; steps: of Runge-Kutta; net: see `DiT`.
    """

    def __init__(self, shape: Sequence[int], K: int, *, drop=0.1, steps: int = 16, **net):
        super().__init__()
        validate.at_least(1, steps=steps)
        self.net, self.decoder = DiT(shape, **net), LevelDecoder(K)
        self.shape, self.drop, self.steps = tuple(shape), drop, steps

    def flow(self, y: Tensor | None = None) -> FlowMatching:
        """Return the flow of pictures with the labels y (B,), or of all pictures."""
        net, solver = Labelled(self.net, y), Fixed(rk4_step, self.steps)
        flow = FlowMatching(net, self.shape, probes=rademacher, solver=solver)
        return flow.to(self.net.place)

    def embed(self, x: Tensor) -> Tensor:
        """Return the levels of codes, in the model's dtype: (B, C, H, W)."""
        return self.decoder.embed(validate.shaped(x, self.shape)).to(self.net.place)

    def loss(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return the flow's loss, some labels hidden: (B, C, H, W), (B,) -> ()."""
        return self.flow(hidden(y, self.net, self.drop)).loss(self.embed(x))

    def elbo(self, x: Tensor) -> Tensor:
        """Return a draw's estimate of the bound without labels, in nats: (B,)."""
        level, bin_ = self.embed(x), 2 / (len(self.decoder.levels) - 1)
        noisy = level + (torch.rand(x.shape).to(level) - 0.5) * bin_
        return self.flow().log_prob(noisy) + x[0].numel() * math.log(bin_)

    def sample(self, n: int, steps: int = 25, y: Tensor | None = None) -> Tensor:
        """Draw codes (n, C, H, W), int64, of the labels y (n,) if any are given."""
        return self.decoder.show(self.flow(y).sample(n, steps))
