"""InfoVAE: make the codes look like the prior together, not one by one.

Numbered equations are those of the lecture vae/beta_vae.

References:
    Zhao, Song, Ermon (2019). InfoVAE: balancing learning and inference in variational
        autoencoders. arXiv:1706.02262.
    Gretton, Borgwardt, Rasch, Schoelkopf, Smola (2012). A kernel two-sample test. JMLR 13.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gdm_course.vae.vae import VAE, latent_kl


def kernel(x: Tensor, y: Tensor, bandwidth: float) -> Tensor:
    """Return k(x, y) = exp(-|x - y|^2 / (2 h^2)) of all pairs: (N, K), (M, K) -> (N, M).

    The squared distance is multiplied out, so that its gradient exists at distance 0.
    """
    squared = x.square().sum(-1)[:, None] + y.square().sum(-1) - 2 * x @ y.T
    return torch.exp(-squared.clamp_min(0) / (2 * bandwidth**2))


def mmd2(x: Tensor, y: Tensor, bandwidth: float) -> Tensor:
    """Estimate MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y) from samples: (12).

    Pairs of a point with itself are left out, so the estimate is right on average; where
    the truth is 0 it is negative half of the time.

    Args:
        x, y: (N, K) and (M, K), at least 2 points each.
        bandwidth: h, in the unit of x.

    Returns:
        A scalar without unit, 2 at most.
    """
    N, M = len(x), len(y)
    if min(N, M) < 2:
        raise ValueError(f"{min(N, M)} point has no pair: MMD needs at least 2 of each")
    xx, yy = kernel(x, x, bandwidth), kernel(y, y, bandwidth)
    within_x = (xx.sum() - xx.diagonal().sum()) / (N * (N - 1))
    within_y = (yy.sum() - yy.diagonal().sum()) / (M * (M - 1))
    return within_x + within_y - 2 * kernel(x, y, bandwidth).mean()


class InfoVAE(VAE):
    """A VAE of vectors that pays for the mismatch of all codes together: (11).

    loss = -E log p(x | z) + (1 - alpha) KL(q(z | x) || p(z)) + weight MMD^2(q(z), p(z)).
    With alpha = 1 information is free and only the aggregate has to look like the prior.

    Args:
        D: number of dimensions of x.
        alpha: discount on the KL of single codes, 0 to 1.
        weight: nats per unit of MMD^2, which is a small number.
        bandwidth: of the kernel; sqrt(latent), a typical distance, if None.
        latent, hidden, observation, prior: as in `VAE`.
    """

    def __init__(
        self,
        D: int,
        *,
        alpha: float = 1.0,
        weight: float = 1000.0,
        bandwidth: float | None = None,
        latent: int = 10,
        hidden: Sequence[int] = (400,),
        observation: nn.Module | None = None,
        prior: nn.Module | None = None,
    ):
        super().__init__(
            D, latent=latent, hidden=hidden, observation=observation, prior=prior
        )
        self.alpha, self.weight = alpha, weight
        self.bandwidth = bandwidth or latent**0.5

    def loss(self, x: Tensor) -> Tensor:
        """Return the mean loss in nats; the mismatch of the batch, 0 for a single row."""
        q = self.encode(x)
        z = q.rsample()
        pairs = len(z) > 1  # which is what a mismatch can be seen in
        mismatch = mmd2(z, self.prior.sample(len(z)), self.bandwidth) if pairs else 0.0
        kl, log_p = latent_kl(q, self.prior, z).sum(-1), self.log_likelihood(x, z)
        return ((1 - self.alpha) * kl - log_p).mean() + self.weight * mismatch
