"""Networks and numerics that no lecture is about: imported by models, never quoted."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


def precise(x: Tensor) -> Tensor:
    """Return x in float32, where autocast made it smaller: logarithms need the digits."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def same(some: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    """Say whether two lists of tensors are equal, where that is cheap: on the CPU."""
    cheap = len(some) == len(others) and all(x.is_cpu for x in (*some, *others))
    return cheap and all(map(torch.equal, some, others))


def log_normal_below(x: Tensor) -> Tensor:
    """Return log P(eps < x), eps ~ N(0, 1); far out torch's own has a slope of 0."""
    left, root = x < 0, math.sqrt(0.5)
    tail = (torch.special.erfcx(torch.where(left, -x, 1.0) * root) / 2).log() - x * x / 2
    rest = torch.log1p(-torch.erfc(torch.where(left, 1.0, x) * root) / 2)
    return torch.where(left, tail, rest)


def log_normal_interval(middle: Tensor, size: Tensor) -> Tensor:
    """Return log P(|eps - middle| < size / 2), eps ~ N(0, 1), right however far out it is.

    Three forms, each where it does not cancel: the density and the first term of its
    bend in a narrow interval; erf on both sides of 0; and in a tail, where both ends have
    the sign of the middle, erfcx, which is erfc without its factor exp(-x^2).

    Args:
        middle: of the interval, any shape.
        size: of the interval, above 0, a shape that broadcasts.
    """
    m, root = middle.abs(), math.sqrt(0.5)
    low, high = m - size / 2, m + size / 2
    narrow = torch.maximum(size, size * m) < (2000 * torch.finfo(m.dtype).eps) ** 0.2
    density = size.log() - (m * m + math.log(2 * math.pi)) / 2
    slim = density + size * size * (m * m - 1) / 24
    both = (torch.erf(high * root) - torch.erf(low * root)) / 2
    tail = ~narrow & (low >= 0)
    near, far = torch.where(tail, low, 1.0), torch.where(tail, high, 2.0)
    e, e_far = torch.special.erfcx(near * root), torch.special.erfcx(far * root)
    drop = torch.where(tail, size * m, 1.0)  # (high^2 - low^2) / 2, never subtracted
    outside = (e / 2).log() - near * near / 2 + torch.log1p(-torch.exp(-drop) * e_far / e)
    around = both.clamp_min(torch.finfo(m.dtype).tiny).log()
    return torch.where(narrow, slim, torch.where(tail, outside, around))


def mlp(sizes: Sequence[int], activation: Callable[[], nn.Module] = nn.SiLU) -> nn.Module:
    """Build a perceptron: linear layers with an activation between them, none at the end.

    Args:
        sizes: features in, of every hidden layer, and out, such as (2, 64, 64, 4).
        activation: makes the module between two layers.

    Returns:
        A module (*B, sizes[0]) -> (*B, sizes[-1]).
    """
    layers: list[nn.Module] = []
    for i, o in pairwise(sizes):
        layers += [nn.Linear(i, o), activation()]
    return nn.Sequential(*layers[:-1])


def zero_last(net: nn.Module) -> nn.Module:
    """Set the last linear or convolution layer to 0, so that the net says 0 at first."""
    last = [m for m in net.modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1]
    nn.init.zeros_(last.weight)
    if last.bias is not None:
        nn.init.zeros_(last.bias)
    return net


class FourierFeatures(nn.Module):
    """Sines and cosines of random projections: x (*B, D) -> (*B, 2 K).

    A perceptron of points learns slow changes first; given waves, it learns quick ones too.

    Args:
        D: dimension of a point.
        K: number of frequencies, drawn once from N(0, scale^2) and kept.
        scale: of the frequencies, in radians per unit of x.

    References:
        Tancik et al. (2020). Fourier features let networks learn high frequency functions
            in low dimensional domains. arXiv:2006.10739.
    """

    def __init__(self, D: int, K: int = 32, scale: float = 1.0):
        super().__init__()
        self.register_buffer("B", scale * torch.randn(D, K))

    def forward(self, x: Tensor) -> Tensor:
        """Return cos and sin of x B: (*B, D) -> (*B, 2 K)."""
        angle = x @ self.B
        return torch.cat([angle.cos(), angle.sin()], -1)


def wave_net(
    D: int, D_out: int, *, hidden: Sequence[int] = (64, 64), waves=32, scale=1.0
) -> nn.Sequential:
    """Build a perceptron that sees Fourier features of its input, or itself if waves = 0.

    Args:
        D, D_out: dimensions of input and output.
        hidden: features of the hidden layers.
        waves, scale: number and size of the frequencies, see `FourierFeatures`.

    Returns:
        A module (*B, D) -> (*B, D_out).
    """
    front = FourierFeatures(D, waves, scale) if waves else nn.Identity()
    return nn.Sequential(front, mlp((2 * waves or D, *hidden, D_out)))


class ResidualConv(nn.Module):
    """x + conv(act(conv(act(x)))), both 3 x 3: (B, C, H, W) -> the same shape."""

    def __init__(self, C: int):
        super().__init__()
        self.first = nn.Conv2d(C, C, 3, padding=1)
        self.second = zero_last(nn.Conv2d(C, C, 3, padding=1))
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return x plus what the two convolutions make of it."""
        return x + self.second(self.act(self.first(self.act(x))))


def conv_net(C_in: int, C_out: int, *, hidden: int = 64, blocks: int = 2) -> nn.Module:
    """Build a residual convolutional network that keeps the size of the picture.

    Args:
        C_in, C_out: channels of input and output.
        hidden: channels between.
        blocks: number of `ResidualConv`.

    Returns:
        A module (B, C_in, H, W) -> (B, C_out, H, W).
    """
    body = [ResidualConv(hidden) for _ in range(blocks)]
    first, last = (
        nn.Conv2d(C_in, hidden, 3, padding=1),
        nn.Conv2d(hidden, C_out, 3, padding=1),
    )
    return nn.Sequential(first, *body, nn.SiLU(), last)


def norm(C: int) -> nn.GroupNorm:
    """Return a normalisation of C channels in up to 8 groups, of one picture at a time."""
    return nn.GroupNorm(math.gcd(8, C), C)


class Residual(nn.Module):
    """Two convolutions beside a straight way, told e between them by scale and shift.

    Args: channels C_in, C_out; numbers E in e; dropout before the second convolution.
    """

    def __init__(self, C_in: int, C_out: int, E: int, dropout: float = 0.0):
        super().__init__()
        self.one = nn.Sequential(
            norm(C_in), nn.SiLU(), nn.Conv2d(C_in, C_out, 3, padding=1)
        )
        self.told, self.norm = (
            nn.Sequential(nn.SiLU(), nn.Linear(E, 2 * C_out)),
            norm(C_out),
        )
        last = zero_last(nn.Conv2d(C_out, C_out, 3, padding=1))
        self.two = nn.Sequential(nn.SiLU(), nn.Dropout(dropout), last)
        self.way = nn.Conv2d(C_in, C_out, 1) if C_in != C_out else nn.Identity()

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        """Return (B, C_out, H, W) of x (B, C_in, H, W) and e (B, E)."""
        scale, shift = self.told(e)[:, :, None, None].chunk(2, 1)
        return self.way(x) + self.two(self.norm(self.one(x)) * (1 + scale) + shift)


class Attention(nn.Module):
    """Every pixel looks at all others: (B, C, H, W) -> x plus what it saw."""

    def __init__(self, C: int):
        super().__init__()
        self.norm, self.qkv = norm(C), nn.Conv2d(C, 3 * C, 1)
        self.out = zero_last(nn.Conv2d(C, C, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return x plus the mean of values, weighted by softmax(q k / sqrt(C))."""
        q, k, v = self.qkv(self.norm(x)).flatten(2).mT.chunk(3, -1)  # (B, H W, C) each
        seen = nn.functional.scaled_dot_product_attention(q, k, v)
        return x + self.out(seen.mT.unflatten(2, x.shape[2:]))


class Down(nn.Conv2d):
    """Half the size, rounded up, by a convolution with stride 2: C channels stay C."""

    def __init__(self, C: int):
        super().__init__(C, C, 3, stride=2, padding=1)


class Up(nn.Module):
    """To a given larger size: every pixel repeated, then a convolution."""

    def __init__(self, C: int):
        super().__init__()
        self.conv = nn.Conv2d(C, C, 3, padding=1)

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        """Return (B, C, *size) of x (B, C, H, W)."""
        return self.conv(nn.functional.interpolate(x, tuple(size)))
