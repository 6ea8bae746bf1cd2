"""Products of experts: each may veto, and what none of them vetoes is likely.

References:
    Hinton (2002). Training products of experts by minimizing contrastive divergence.
        Neural Computation 14(8).
"""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from gdm_course import validate
from gdm_course.energy.sampling import mala_step, with_slope


def product_of_gaussians(mean: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and width of the Gaussian that is proportional to a product of K.

    Precisions 1 / sigma^2 add up, and the mean is weighted by them. Args: (K, *D) both.
    """
    precision = sigma**-2
    total = precision.sum(0)
    return (precision * mean).sum(0) / total, total**-0.5


def log_bumps(x: Tensor, means: Tensor, scales: Tensor) -> Tensor:
    """Return -|(x - m_k) / s_k|^2 / 2, log of K bumps: (B, D) -> (B, K).

    Args: means m_k and log s_k (K, D), a width for every dimension.
    """
    return -((x[:, None] - means) * torch.exp(-scales)).square().sum(2) / 2


class ProductOfExperts(nn.Module):
    """E(x) = |x|^2 / (2 w^2) - sum_k softplus(a_k - |(x - m_k) / s_k|^2 / 2).

    An expert is a bump on a plain, 1 + e^(a_k - ...): far from it, it has no opinion. One
    wide Gaussian, of width w, keeps the whole from running away; k steps of eps in `loss`.
    """

    def __init__(self, D: int, *, K: int = 10, width: float = 2.0, k: int = 5, eps=0.01):
        super().__init__()
        validate.at_least(1, D=D, K=K, k=k)
        self.means = nn.Parameter(width * torch.randn(K, D))
        self.scales = nn.Parameter(torch.zeros(K, D))  # logarithms
        self.heights = nn.Parameter(torch.zeros(K))
        self.wide = nn.Parameter(torch.full((D,), width).log())
        self.k, self.eps = k, eps

    def energy(self, x: Tensor) -> Tensor:
        """Return E(x) in nats: (B, D) -> (B,)."""
        x = validate.points(x, len(self.wide), self.wide)
        opinions = F.softplus(self.heights + log_bumps(x, self.means, self.scales))
        return (x * torch.exp(-self.wide)).square().sum(1) / 2 - opinions.sum(1)

    def score(self, x: Tensor) -> Tensor:
        """Return grad log p(x) = -grad E(x): (B, D) -> (B, D)."""
        return -with_slope(self.energy, x)[1]

    def chain(self, x: Tensor, k: int, generator: Generator | None = None) -> Tensor:
        """Take k steps of MALA, which leave p as it is: (B, D) -> (B, D)."""
        for _ in range(k):
            x = mala_step(self.energy, x, self.eps, generator)[0]
        return x

    def loss(self, x: Tensor) -> Tensor:
        """Return mean E(data) - mean E(chain): contrastive divergence, k steps."""
        return self.energy(x).mean() - self.energy(self.chain(x, self.k)).mean()

    def sample(self, n: int, k: int = 1000) -> Tensor:
        """Start at the wide Gaussian and take k steps: (n, D); in the limit exact."""
        start = self.wide.detach().exp().expand(max(validate.count(n), 1), -1)
        return self.chain(start * torch.randn_like(start), validate.count(k, "k"))[:n]
