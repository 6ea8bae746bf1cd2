"""Sound as numbers 0..K-1, and what a network may say about the next one.

References:
    ITU-T G.711 (1988). Pulse code modulation of voice frequencies.
    Salimans, Karpathy, Chen, Kingma (2017). PixelCNN++: improving the PixelCNN with
        discretized logistic mixture likelihood. arXiv:1701.05517.
"""

import math
from collections.abc import Sequence
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution

from gdm_course import validate
from gdm_course.nets import log_normal_below, log_normal_interval, precise


def linear_encode(x: Tensor, K: int = 65536) -> Tensor:
    """Cut [-1, 1] into K equal bins and return the bin of each sample: codes 0..K-1."""
    x = validate.points(x, None)
    return ((x + 1) * (K / 2)).floor().long().clamp(0, K - 1)


def linear_decode(codes: Tensor, K: int = 65536) -> Tensor:
    """Return the middle of each bin: codes 0..K-1 -> float32 inside (-1, 1)."""
    return (2 * validate.codes(codes, K) + 1).float() / K - 1


def mulaw_encode(x: Tensor, K: int = 256) -> Tensor:
    """Cut [-1, 1] into K bins that are equal on the axis F(x) of (3): codes 0..K-1.

    F(x) = sign(x) ln(1 + mu |x|) / ln(1 + mu) with mu = K - 1. Silence is K/2.
    """
    mu, x = K - 1, validate.points(x, None)
    return linear_encode(x.sign() * torch.log1p(mu * x.abs()) / math.log1p(mu), K)


def mulaw_decode(codes: Tensor, K: int = 256) -> Tensor:
    """Return what lies in the middle of each bin: |x| = ((1 + mu)^|F| - 1) / mu."""
    mu = K - 1
    f = linear_decode(codes, K)
    return f.sign() * torch.expm1(f.abs() * math.log1p(mu)) / mu


def bin_sizes(K: int = 256) -> Tensor:
    """Count the 16-bit codes that fall into each mu-law bin: int64 (K,), sum 65,536.

    An 8-bit model that spreads each bin evenly over its 16-bit codes is a model of 16-bit
    sound, (10): log P(16-bit code) = log P(mu-law code) - log(size of its bin).
    """
    return mulaw_encode(linear_decode(torch.arange(65536)), K).bincount(minlength=K)


def smooth_embedding(K: int, C: int) -> nn.Embedding:
    """Make a table (K, C) that starts as C waves over the codes: neighbours start alike.

    Every row is free to move in training. A table of noise would first have to find out
    that 17 lies between 16 and 18.
    """
    table, at = nn.Embedding(K, C), torch.linspace(-1, 1, K)
    waves = torch.sin(torch.outer(at, 4 * math.pi * torch.randn(C)) + 7 * torch.rand(C))
    table.weight.data.copy_(waves)
    return table


def log_logistic_interval(a: Tensor, b: Tensor, size: Tensor | None = None) -> Tensor:
    """Return log(sigmoid(b) - sigmoid(a)) for a < b, far out in the tails too: (6).

    Give the size of the bin if it is known: far out, b - a has lost its digits.
    """
    size = b - a if size is None else size
    return F.logsigmoid(b) + F.logsigmoid(-a) + torch.log(-torch.expm1(-size))


def log_normal_tail(a: Tensor, b: Tensor, size: Tensor) -> Tensor:
    """Return log(Phi(b) - Phi(a)) for b = a + size, where a or b may be infinite."""
    open_ = size.isinf()
    tail = log_normal_below(torch.where(a.isinf(), b, -a))
    middle = torch.where(open_, 0.0, (a + b) / 2)
    inside = log_normal_interval(middle, torch.where(open_, 1.0, size))
    return torch.where(open_, tail, inside)


def edges(codes: Tensor, mu: Tensor, log_s: Tensor, K: int) -> tuple[Tensor, ...]:
    """Return both ends of the codes' bins, and their sizes, in units of s around mu.

    Bin k is [2k/K - 1, 2(k+1)/K - 1], but the outermost two reach to infinity.
    """
    codes = validate.codes(codes, K)
    a = (2 * codes.to(mu) / K - 1 - mu) * torch.exp(-log_s)
    size = (2 / K * torch.exp(-log_s)).expand_as(a)
    first, last = codes == 0, codes == K - 1
    left, right = a.masked_fill(first, -torch.inf), (a + size).masked_fill(last, torch.inf)
    return left, right, size.masked_fill(first | last, torch.inf)


def sane(log_s: Tensor, K: int) -> Tensor:
    """Keep a width between far narrower than a bin and far wider than the whole axis."""
    return log_s.clamp(-math.log(K) - 2, 3)


class BinnedNormal(Distribution):
    """One Gaussian on the axis of the codes; its mass in a bin is the code's probability.

    Args:
        mu, log_sigma: of the Gaussian, on the axis -1..1 of the codes, (*B).
        K: number of codes.
    """

    arg_constraints = MappingProxyType({})  # a network may say any number

    def __init__(self, mu: Tensor, log_sigma: Tensor, K: int):
        super().__init__(mu.shape, validate_args=False)
        self.mu, self.K = mu, K
        self.log_sigma = sane(log_sigma, K)

    def log_prob(self, codes: Tensor) -> Tensor:
        """Return log P(codes) in nats: (*B) -> (*B)."""
        return log_normal_tail(*edges(codes, self.mu, self.log_sigma, self.K))

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw codes (*sample_shape, *B)."""
        noise = torch.randn_like(self.mu.expand((*sample_shape, *self.mu.shape)))
        return linear_encode(self.mu + self.log_sigma.exp() * noise, self.K)


class BinnedLogistics(Distribution):
    """A mixture of logistic bumps on the axis of the codes, (5).

    Args:
        logits, mu, log_s: of the M bumps, on the axis -1..1 of the codes, (*B, M).
        K: number of codes.
    """

    arg_constraints = MappingProxyType({})

    def __init__(self, logits: Tensor, mu: Tensor, log_s: Tensor, K: int):
        super().__init__(mu.shape[:-1], validate_args=False)
        self.logits, self.mu, self.K = logits, mu, K
        self.log_s = sane(log_s, K)

    def log_prob(self, codes: Tensor) -> Tensor:
        """Return log P(codes) in nats: (*B) -> (*B)."""
        log_p = log_logistic_interval(*edges(codes[..., None], self.mu, self.log_s, self.K))
        return (self.logits.log_softmax(-1) + log_p).logsumexp(-1)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw codes (*sample_shape, *B): a bump, then a point of it by its inverse cdf."""
        which = Categorical(logits=self.logits, validate_args=False).sample(sample_shape)
        one = F.one_hot(which, self.mu.shape[-1])
        mu, log_s = (one * self.mu).sum(-1), (one * self.log_s).sum(-1)
        u = torch.rand_like(mu).clamp(1e-6, 1 - 1e-6)
        return linear_encode(mu + log_s.exp() * torch.logit(u), self.K)


class Softmax:
    """K numbers per sample: the logits of all codes. No notion of near and far."""

    def __init__(self, K: int):
        self.size = K

    def __call__(self, parameters: Tensor) -> Categorical:
        """Read (*B, K) as a distribution over codes (*B)."""
        return Categorical(logits=precise(parameters), validate_args=False)


class Gaussian:
    """Two numbers per sample: mean and log standard deviation on the axis of the codes."""

    size = 2

    def __init__(self, K: int):
        self.K = K

    def __call__(self, parameters: Tensor) -> BinnedNormal:
        """Read (*B, 2) as a distribution over codes (*B)."""
        return BinnedNormal(*precise(parameters).unbind(-1), self.K)


class LogisticMixture:
    """3 M numbers per sample: logits, means, log scales of M logistic bumps."""

    def __init__(self, K: int, components: int = 8):
        validate.at_least(1, components=components)
        self.K, self.size = K, 3 * components

    def __call__(self, parameters: Tensor) -> BinnedLogistics:
        """Read (*B, 3 M) as a distribution over codes (*B)."""
        return BinnedLogistics(*precise(parameters).chunk(3, dim=-1), self.K)
