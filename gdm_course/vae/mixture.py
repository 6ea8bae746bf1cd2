"""The smallest latent variable model: a mixture of Gaussians, and EM.

References:
    Dempster, Laird, Rubin (1977). Maximum likelihood from incomplete data via the EM
        algorithm. Journal of the Royal Statistical Society B 39.
    Neal, Hinton (1998). A view of the EM algorithm that justifies incremental, sparse, and
        other variants. In: Learning in Graphical Models.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gdm_course import validate


@dataclass(frozen=True)
class Mixture:
    """K round Gaussians: p(x) = sum_z pi_z N(x; mu_z, sigma_z^2 I), z = 1..K hidden.

    Attributes:
        log_pi: (K,).
        mu: (K, D).
        log_sigma: (K,).
    """

    log_pi: Tensor
    mu: Tensor
    log_sigma: Tensor

    def log_joint(self, x: Tensor) -> Tensor:
        """Return log p(x, z) for all z in nats: (B, D) -> (B, K)."""
        D, log_sigma = self.mu.shape[1], self.log_sigma.clamp(-20, 20)
        x = validate.points(x, D, self.mu)
        squared = (x[:, None] - self.mu).square().sum(-1)  # (B, K)
        log_normal = -0.5 * squared * torch.exp(-2 * log_sigma)
        return self.log_pi + log_normal - D * (log_sigma + math.log(2 * math.pi) / 2)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the evidence log p(x), a sum over all z, in nats: (B,)."""
        return self.log_joint(x).logsumexp(-1)

    def posterior(self, x: Tensor) -> Tensor:
        """Return p(z | x) by Bayes' rule: (B, K)."""
        return self.log_joint(x).softmax(-1)


def mixture_elbo(model: Mixture, x: Tensor, q: Tensor) -> Tensor:
    """Return the bound (2), sum_z q(z) [log p(x, z) - log q(z)], in nats: (B,).

    Args:
        x: (B, D).
        q: any distributions over z, (B, K).
    """
    return (q * model.log_joint(x)).sum(-1) - torch.xlogy(q, q).sum(-1)


def maximise(x: Tensor, q: Tensor) -> Mixture:
    """Return the mixture with the highest bound for fixed q: EM's M-step.

    Every component takes the weighted share, mean and variance of the points it answers
    for.
    """
    share = q.sum(0)  # (K,)
    mu = q.T @ x / share[:, None]
    squared = (x[:, None] - mu).square().sum(-1)  # (B, K)
    variance = (q * squared).sum(0) / (share * x.shape[1])
    return Mixture((share / len(x)).log(), mu, variance.log() / 2)
