"""Noise-contrastive estimation: learn a density by telling its points from noise.

References:
    Gutmann, Hyvarinen (2012). Noise-contrastive estimation of unnormalized statistical
        models, with applications to natural image statistics. JMLR 13.
    Oord, Li, Vinyals (2018). Representation learning with contrastive predictive coding.
        arXiv:1807.03748.
"""

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from gdm_course import validate


class Noise(Protocol):
    """What data are told from: it can be drawn, and its density is known."""

    def sample(self, n: int) -> Tensor:
        """Draw n points: (n, D)."""
        ...

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p_n(x) in nats: (B, D) -> (B,)."""
        ...


class GaussianNoise(nn.Module):
    """N(mean, (widen sigma)^2 in every dimension), with mean and sigma of some data.

    Args:
        x: the data (N, D).
        widen: how many times as wide as they are.
    """

    def __init__(self, x: Tensor, widen: float = 1.0):
        super().__init__()
        x = validate.points(x, "D", least=2)
        self.register_buffer("mean", x.mean(0))
        self.register_buffer("sigma", widen * x.std(0))

    def law(self) -> Independent:
        """Return the distribution."""
        return Independent(Normal(self.mean, self.sigma, False), 1, False)

    def sample(self, n: int) -> Tensor:
        """Draw n points: (n, D)."""
        return self.law().sample((validate.count(n),))

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p(x) in nats: (B, D) -> (B,)."""
        return self.law().log_prob(validate.points(x, len(self.mean), self.mean))


class NCE(nn.Module):
    """An energy and a number c, trained to tell data from noise; c comes to be log Z.

    With nu noise points for each point of the data, x is from the data with the probability
    sigmoid(G),  G(x) = -E(x) - c - log p_n(x) - log nu, equation (6).

    Args:
        energy: a module with `energy(x)` in nats, (B, D) -> (B,).
        noise: with `sample` and `log_prob`; wide enough to reach all data; a module's
            parameters are frozen.
        nu: noise points for each point of the data.
        count: False forgets log nu in G, to see where c goes.
    """

    def __init__(self, energy: nn.Module, noise: Noise, *, nu: int = 1, count: bool = True):
        super().__init__()
        validate.at_least(1, nu=nu)
        self.model, self.noise, self.nu = energy, noise, nu
        self.shift = math.log(nu) if count else 0.0
        self.c = nn.Parameter(torch.zeros(()))  # log Z
        if isinstance(noise, nn.Module):
            noise.requires_grad_(False)

    def energy(self, x: Tensor) -> Tensor:
        """Return E(x) + c, about -log p(x) once c has come to be log Z: (B, D) -> (B,)."""
        return self.model.energy(x) + self.c

    def logit(self, x: Tensor) -> Tensor:
        """Return G(x), the log-odds that x is from the data: (B, D) -> (B,)."""
        return -self.energy(x) - self.noise.log_prob(x) - self.shift

    def loss(self, x: Tensor) -> Tensor:
        """Return mean of softplus(-G) over data + nu mean of softplus(G) over noise: ()."""
        data = self.logit(x)
        with torch.no_grad():
            drawn = self.noise.sample(self.nu * len(x)).to(x)
        noise = self.logit(drawn)
        return F.softplus(-data).mean() + self.nu * F.softplus(noise).mean()


def info_nce(scores: Tensor) -> Tensor:
    """Return the loss of finding each row's own partner among all columns: (B, B) -> ().

    -mean_i log softmax_j(scores_ij) at j = i. With the best scores, log B minus it is at
    most the mutual information of the two partners, and at most log B.
    """
    return F.cross_entropy(scores, torch.arange(len(scores), device=scores.device))
