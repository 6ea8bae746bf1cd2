"""Observation models: what the numbers of a decoder mean, and so the unit of the bound.

Each one turns numbers per dimension into a distribution of every dimension, and says how
the encoder is to be shown the data.

References:
    Salimans, Karpathy, Chen, Kingma (2017). PixelCNN++. arXiv:1701.05517.
    Rybkin, Daniilidis, Levine (2021). Simple and effective VAE training with calibrated
        decoders. arXiv:2006.13202.
"""

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Normal, constraints

from gdm_course import validate


def shown(x: Tensor, model: nn.Module) -> Tensor:
    """Return x (B, *shape) as the model's encoder is to see it, in the dtype it has."""
    seen = model.observation.embed(validate.shaped(x, model.shape))
    return seen.to(validate.dtype_of(model.encoder))


class BernoulliPixels(nn.Module):
    """Bits: p(x_d = 1 | z) = sigmoid(logit_d). The bound is nats of -log P, at least 0."""

    outputs = 1  # numbers per dimension that the decoder has to give

    def embed(self, x: Tensor) -> Tensor:
        """Show bits to the encoder as 0 and 1 (most are 0); refuse grey pixels."""
        return validate.bits(x, None)

    def forward(self, logits: Tensor) -> Bernoulli:
        """Return the distribution of every bit: (*B, *D) -> batch shape (*B, *D)."""
        return Bernoulli(logits=logits, validate_args=False)


class GaussianPixels(nn.Module):
    """Real numbers: p(x_d | z) = N(mu_d, sigma^2), one learnt sigma for all dimensions.

    Its logarithm is that of a density: it changes with the unit of x, may be positive, and
    is never bits per dimension.

    Args:
        sigma: where the standard deviation starts, in the unit of x.
    """

    outputs = 1

    def __init__(self, sigma: float = 1.0):
        super().__init__()
        if not 0 < sigma < math.inf:
            raise ValueError(f"sigma is {sigma}: expected a standard deviation above 0")
        self.log_sigma = nn.Parameter(torch.tensor(float(sigma)).log())

    def embed(self, x: Tensor) -> Tensor:
        """Show real numbers as they are; scale your data to about -1..1 yourself."""
        return validate.points(x, None, self)

    def forward(self, mu: Tensor) -> Normal:
        """Return the distribution of every number: (*B, *D) -> batch shape (*B, *D)."""
        return Normal(mu, self.log_sigma.clamp(-10, 10).exp(), validate_args=False)


def logistic_bin(x: Tensor, mu: Tensor, log_s: Tensor, levels: int) -> Tensor:
    """Return log [F(x + 1/2) - F(x - 1/2)] in nats, F(a) = sigmoid((a - mu) / s).

    The first code takes the whole left tail, the last the right one. Written with
    sigmoid(r) - sigmoid(l) = sigmoid(r) sigmoid(-l) (1 - exp(l - r)), which is exact far
    out in the tails, where the plain difference is 0.

    Args:
        x: codes 0..levels - 1.
        mu, log_s: centre and log width, in codes.
        levels: how many codes there are.
    """
    width = torch.exp(-log_s.clamp(-20, 20))  # r - l, the bin in units of s
    right, left = (x + 0.5 - mu) * width, (x - 0.5 - mu) * width
    first, last = x <= 0, x >= levels - 1
    inside = torch.log(-torch.expm1(-width)).expand_as(left).masked_fill(first | last, 0)
    upto = F.logsigmoid(right).masked_fill(last, 0)
    return inside + upto + F.logsigmoid(-left).masked_fill(first, 0)


class DiscretisedLogistic(Distribution):
    """A logistic density cut into the bins of the codes 0..levels - 1.

    Args:
        mu, log_s: centre and log width of each code's logistic, in codes.
        levels: how many codes there are.

    References:
        Salimans, Karpathy, Chen, Kingma (2017). PixelCNN++. arXiv:1701.05517.
    """

    arg_constraints: ClassVar[dict] = {}
    support = constraints.nonnegative_integer

    def __init__(self, mu: Tensor, log_s: Tensor, levels: int):
        self.mu, self.log_s, self.levels = mu, log_s.clamp(-20, 20), levels
        super().__init__(mu.shape, validate_args=False)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log P(x) in nats, stable in both tails: the shape of mu."""
        x = validate.codes(x, self.levels).to(self.mu.dtype)
        x = x.expand(torch.broadcast_shapes(x.shape, self.mu.shape))
        return logistic_bin(x, self.mu, self.log_s, self.levels)

    @torch.no_grad()
    def sample(self, sample_shape: tuple = ()) -> Tensor:
        """Draw codes, float: a point of the logistic, to its nearest code."""
        u = torch.rand_like(self.mu.expand(*sample_shape, *self.mu.shape))
        x = self.mu + self.log_s.exp() * torch.logit(u, eps=1e-6)
        return x.round().clamp(0, self.levels - 1)

    @property
    def mean(self) -> Tensor:
        """E[x] = sum over c >= 1 of P(x >= c), in codes."""
        c = torch.arange(1, self.levels, device=self.mu.device) - 0.5
        z = (self.mu[..., None] - c) * torch.exp(-self.log_s)[..., None]
        return z.sigmoid().sum(-1)


class LogisticPixels(nn.Module):
    """Codes 0..levels - 1: a discretised logistic each. Nats of -log P, so bits/dim too.

    Args:
        levels: how many values a pixel can have.
    """

    outputs = 2

    def __init__(self, levels: int = 256):
        super().__init__()
        validate.at_least(2, levels=levels)
        self.levels = levels

    def embed(self, x: Tensor) -> Tensor:
        """Show codes to the encoder as numbers from -1 to 1."""
        return validate.codes(x, self.levels) * (2.0 / (self.levels - 1)) - 1.0

    def forward(self, mu: Tensor, log_s: Tensor) -> DiscretisedLogistic:
        """Read numbers of order 1: -1..1 is the range of the codes."""
        half = (self.levels - 1) / 2
        log_s = log_s + math.log(half / 4)  # at 0, an eighth of the range
        return DiscretisedLogistic(half * (1 + mu), log_s.clamp(-5, 20), self.levels)


class ChainedBernoulli(Distribution):
    """Bits where each hears those before it: logit_d + sum_{k<d} W_dk x_k."""

    arg_constraints: ClassVar[dict] = {}
    support = constraints.boolean

    def __init__(self, logits: Tensor, W: Tensor):
        self.logits, self.W = logits, W.tril(-1)
        super().__init__(logits.shape, validate_args=False)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p(x_d | x_<d) in nats for every d: (*B, D) -> (*B, D)."""
        heard = self.logits + x @ self.W.T
        return Bernoulli(logits=heard, validate_args=False).log_prob(x.expand_as(heard))

    @torch.no_grad()
    def sample(self, sample_shape: tuple = ()) -> Tensor:
        """Draw bit after bit: the shape of the logits."""
        x = self.logits.new_zeros(*sample_shape, *self.logits.shape)
        for d, W in enumerate(self.W):
            x[..., d] = (self.logits[..., d] + x @ W).sigmoid().bernoulli()
        return x


class AutoregressivePixels(nn.Module):
    """Bits that know their past: with z's help, or without it. A decoder too good.

    Args:
        D: number of bits.
    """

    outputs = 1

    def __init__(self, D: int):
        super().__init__()
        validate.at_least(1, D=D)
        self.W = nn.Parameter(torch.zeros(D, D))  # the part below the diagonal counts

    def embed(self, x: Tensor) -> Tensor:
        """Show bits to the encoder as -1 and 1, for ones may be as frequent as zeros."""
        return 2.0 * validate.bits(x, None) - 1.0

    def forward(self, logits: Tensor) -> ChainedBernoulli:
        """Return the distribution of every bit given those before it: (*B, D)."""
        return ChainedBernoulli(logits, self.W)
