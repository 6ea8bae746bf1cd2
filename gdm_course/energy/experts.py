"""Products of experts: each may veto, and what none of them vetoes is likely.

References:
    Hinton (2002). Training products of experts by minimizing contrastive divergence.
        Neural Computation 14(8).
"""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from gdm_course import validate
from gdm_course.energy.sampling import mala_step


def product_of_gaussians(mean: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and width of the Gaussian that is proportional to a product of K: (8).

    Precisions 1 / sigma^2 add up, and the mean is weighted by them. Args: (K, *D) both.
    """
    precision = sigma**-2
    total = precision.sum(0)
    return (precision * mean).sum(0) / total, total**-0.5


class ProductOfExperts(nn.Module):
    """E(x) = |x - m|^2 / (2 s^2) - sum_k softplus(a_k - |(x - m_k) / s_k|^2 / 2).

    Each expert is a Gaussian bump on a plain: 1 + e^(a - distance^2 / 2). Away from its
    bump it has no opinion. One wide Gaussian keeps the whole from running away.

    Args:
        D: number of dimensions.
        K: experts, each with its own place, height and a width per dimension.
        width: s of the wide Gaussian, and of the places at the start.
        k: steps of MALA away from the data in `loss`.
        eps: their size.
    """

    def __init__(self, D: int, *, K: int = 10, width: float = 2.0, k: int = 5, eps=0.01):
        super().__init__()
        validate.at_least(1, D=D, K=K, k=k)
        self.m, self.s = nn.Parameter(torch.zeros(D)), nn.Parameter(torch.zeros(D))
        self.means = nn.Parameter(width * torch.randn(K, D))
        self.scales = nn.Parameter(torch.zeros(K, D))  # logarithms, as s is
        self.heights = nn.Parameter(torch.zeros(K))
        self.register_buffer("width", torch.tensor(float(width)))
        self.k, self.eps = k, eps

    def distances(self, x: Tensor) -> Tensor:
        """Return |(x - m_k) / s_k|^2 / 2: (B, D) -> (B, K)."""
        return ((x[:, None] - self.means) * torch.exp(-self.scales)).square().sum(2) / 2

    def energy(self, x: Tensor) -> Tensor:
        """Return E(x) in nats: (B, D) -> (B,)."""
        x = validate.points(x, len(self.m), self.m)
        wide = ((x - self.m) / self.width * torch.exp(-self.s)).square().sum(1) / 2
        return wide - F.softplus(self.heights - self.distances(x)).sum(1)

    def chain(self, x: Tensor, k: int, generator: Generator | None = None) -> Tensor:
        """Take k steps of MALA: (B, D) -> (B, D)."""
        for _ in range(k):
            x = mala_step(self.energy, x, self.eps, generator)[0]
        return x.detach()

    def loss(self, x: Tensor) -> Tensor:
        """Return mean E(data) - mean E(chain): contrastive divergence, k steps."""
        return self.energy(x).mean() - self.energy(self.chain(x, self.k)).mean()

    def sample(self, n: int, k: int = 1000) -> Tensor:
        """Start at the wide Gaussian and take k steps: (n, D); in the limit exact."""
        size = max(validate.count(n), 1), len(self.m)  # a chain of none is refused
        with torch.no_grad():
            start = self.m + self.width * self.s.exp() * torch.randn(size).to(self.m)
        return self.chain(start, validate.count(k, "k"))[:n]
