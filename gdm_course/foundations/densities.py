"""Two first models with an exact density: a mixture of Gaussians, independent pixels."""

import torch
from torch import Tensor, nn
from torch.distributions import (
    Bernoulli,
    Categorical,
    Independent,
    MixtureSameFamily,
    Normal,
)

from gdm_course import validate


class GaussianMixture(nn.Module):
    """p(x) = sum_k pi_k N(x; mu_k, diag(sigma_k^2)): a Sampler, Trainable and a Density.

    Args:
        D: dimension of a point.
        K: number of components.
    """

    def __init__(self, D: int, K: int = 16):
        super().__init__()
        validate.at_least(1, D=D, K=K)
        self.logits = nn.Parameter(torch.zeros(K))  # of the weights pi
        self.mu = nn.Parameter(torch.randn(K, D))
        self.log_sigma = nn.Parameter(torch.full((K, D), -1.0))

    def distribution(self) -> MixtureSameFamily:
        """Return the mixture at the current parameters."""
        sigma = self.log_sigma.clamp(-10, 10).exp()  # exp of more is inf, of less 0
        parts = Independent(Normal(self.mu, sigma), 1)
        return MixtureSameFamily(Categorical(logits=self.logits), parts)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p(x) in nats: (B, D) -> (B,)."""
        x = validate.points(x, self.mu.shape[1], self.mu)
        return self.distribution().log_prob(x)

    def loss(self, x: Tensor) -> Tensor:
        """Return the mean negative log-likelihood of a batch in nats: (B, D) -> ()."""
        return -self.log_prob(x).mean()

    def sample(self, n: int) -> Tensor:
        """Draw a component for each point, then the point from it: (n, D)."""
        n = validate.count(n)
        return self.distribution().sample((max(n, 1),))[:n]  # torch cannot draw none


class IndependentPixels(nn.Module):
    """p(x) = prod_d Bernoulli(x_d; mu_d): every binary pixel on its own.

    Args:
        D: number of pixels.
    """

    def __init__(self, D: int):
        super().__init__()
        validate.at_least(1, D=D)
        self.logits = nn.Parameter(torch.zeros(D))

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p(x) in nats, summed over the pixels: (B, D) -> (B,)."""
        x = validate.bits(x, len(self.logits), self.logits)
        return Bernoulli(logits=self.logits).log_prob(x).sum(1)

    def loss(self, x: Tensor) -> Tensor:
        """Return the mean negative log-likelihood in nats per image: (B, D) -> ()."""
        return -self.log_prob(x).mean()

    def sample(self, n: int) -> Tensor:
        """Toss every pixel's coin: (n, D) of 0 and 1."""
        return Bernoulli(logits=self.logits).sample((validate.count(n),))
