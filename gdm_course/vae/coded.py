"""Codes get a probability: an autoencoder and a prior over its codes are a model of x.

Numbered equations are those of the lecture vae/vqvae. The priors that it is made with, a
PixelCNN or a GPT, come from elsewhere: any Density and Sampler of codes will do.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gdm_course import validate


class UniformCodes(nn.Module):
    """The prior that knows nothing: every grid of codes is equally likely.

    Args:
        grid: (h, w).
        K: number of codes.
    """

    def __init__(self, grid: Sequence[int], K: int):
        super().__init__()
        validate.at_least(1, grid=grid, K=K)
        self.grid, self.K = tuple(grid), K
        self.register_buffer("log_p", torch.tensor(-math.log(K)), persistent=False)

    def log_prob(self, codes: Tensor) -> Tensor:
        """Return -h w log K nats for every grid: (B, h, w) -> (B,)."""
        codes = validate.codes(codes, self.K, self.grid)
        return self.log_p.expand(codes.shape).flatten(1).sum(1)

    def sample(self, n: int) -> Tensor:
        """Draw n grids (n, h, w)."""
        shape = (validate.count(n), *self.grid)
        return torch.randint(self.K, shape, device=self.log_p.device)


class Arranged(nn.Module):
    """A prior over grids of codes from a density that wants them in another shape.

    A PixelCNN wants pictures (1, h, w), a GPT wants sequences (h w,).

    Args:
        density: a Density and Sampler of codes (B, *inner).
        inner: the shape that it wants.
        grid: (h, w).
    """

    def __init__(self, density: nn.Module, inner: Sequence[int], grid: Sequence[int]):
        super().__init__()
        self.density, self.inner, self.grid = density, tuple(inner), tuple(grid)

    def log_prob(self, codes: Tensor) -> Tensor:
        """Return log p(codes) in nats: (B, h, w) -> (B,)."""
        codes = validate.shaped(codes, self.grid, "codes")
        return self.density.log_prob(codes.reshape(len(codes), *self.inner))

    def loss(self, codes: Tensor) -> Tensor:
        """Return the mean negative log-likelihood in nats per grid."""
        return -self.log_prob(codes).mean()

    def sample(self, n: int) -> Tensor:
        """Draw n grids (n, h, w)."""
        return self.density.sample(n).reshape(n, *self.grid)


class Spelt(nn.Module):
    """A prior over codes from a density of their digits, as colours: (B, D, h, w).

    Codes and digits are the same thing in two spellings, so the probability is the same.

    Args:
        density: a Density and Sampler of pictures (B, D, h, w), values 0..L-1.
        quantiser: a `FiniteScalarQuantiser` with levels (L,) * D.
    """

    def __init__(self, density: nn.Module, quantiser: nn.Module):
        super().__init__()
        self.density, self.quantiser = density, quantiser

    def log_prob(self, codes: Tensor) -> Tensor:
        """Return log p(codes) in nats: (B, h, w) -> (B,)."""
        codes = validate.shaped(codes, ("h", "w"), "codes")
        return self.density.log_prob(self.quantiser.digits(codes).movedim(-1, 1))

    loss = Arranged.loss

    def sample(self, n: int) -> Tensor:
        """Draw n grids (n, h, w)."""
        return self.quantiser.code(self.density.sample(n).movedim(1, -1))


class CodedModel(nn.Module):
    """p(x) = sum_c p(c) p(x | c) from an autoencoder and a prior, with the bound (6).

    Args:
        autoencoder: such as `VQVAE`.
        prior: a Density and Sampler of its codes (B, h, w).
    """

    def __init__(self, autoencoder: nn.Module, prior: nn.Module):
        super().__init__()
        self.autoencoder, self.prior = autoencoder, prior

    def terms(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return log p(x | c(x)) and log p(c(x)) in nats: (B, C, H, W) -> (B,), (B,)."""
        log_p, codes, _ = self.autoencoder.parts(x)
        return log_p, self.prior.log_prob(codes)

    def elbo(self, x: Tensor) -> Tensor:
        """Return the bound (6) in nats, without any noise: (B, C, H, W) -> (B,)."""
        log_p, log_prior = self.terms(x)
        return log_p + log_prior

    def loss(self, x: Tensor) -> Tensor:
        """Return the loss of both, trained at once: the mean of (5) minus log p(c(x)).

        Codes are whole numbers, through which no gradient flows: the prior learns from
        them and the autoencoder does not notice.
        """
        log_p, codes, penalty = self.autoencoder.parts(x)
        return (penalty - log_p - self.prior.log_prob(codes)).mean()

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """Draw n images (n, C, H, W): codes from the prior, then pixels given codes."""
        return self.autoencoder.decode(self.prior.sample(n)).sample()
