"""Beta-VAE: information has a price, and the bound falls into three parts.

Numbered equations are those of the lecture vae/beta_vae.

References:
    Higgins, Matthey, Pal, Burgess, Glorot, Botvinick, Mohamed, Lerchner (2017). beta-VAE:
        learning basic visual concepts with a constrained variational framework. ICLR.
    Hoffman, Johnson (2016). ELBO surgery: yet another way to carve up the variational
        evidence lower bound. NIPS workshop.
    Alemi, Poole, Fischer, Dillon, Saurous, Murphy (2018). Fixing a broken ELBO.
        arXiv:1711.00464.
    Chen, Li, Grosse, Duvenaud (2018). Isolating sources of disentanglement in variational
        autoencoders. arXiv:1802.04942.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Normal

from gdm_course import validate
from gdm_course.vae.conv import ConvVAE
from gdm_course.vae.vae import VAE, LatentModel


class BetaVAE(VAE):
    """A VAE of vectors (B, D) that pays beta for every nat of the code: (2).

    loss = -E log p(x | z) + beta KL(q(z | x) || p(z)). With beta = 1 it is the VAE; `elbo`
    is the bound on log p(x) whatever beta is.

    Args:
        D: number of dimensions of x.
        beta: price of a nat of rate, in nats of distortion.
        latent, hidden, observation, prior: as in `VAE`.
    """

    def __init__(
        self,
        D: int,
        *,
        beta: float = 4.0,
        latent: int = 10,
        hidden: Sequence[int] = (400,),
        observation: nn.Module | None = None,
        prior: nn.Module | None = None,
    ):
        super().__init__(
            D, latent=latent, hidden=hidden, observation=observation, prior=prior
        )
        self.beta = beta

    def loss(self, x: Tensor) -> Tensor:
        """Return the mean distortion + beta rate, one draw of z each, in nats."""
        log_p, kl = self.terms(x)
        return (self.beta * kl.sum(-1) - log_p).mean()


class ConvBetaVAE(ConvVAE):
    """The same price for images (B, C, H, W), with convolutions each way.

    Args:
        shape: (C, H, W); H and W multiples of 4.
        beta: price of a nat of rate, in nats of distortion.
        latent, features, blocks: as in `ConvVAE`.
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        beta: float = 4.0,
        latent: int = 10,
        features: int = 16,
        blocks: int = 0,
    ):
        super().__init__(shape, latent=latent, features=features, blocks=blocks)
        self.beta = beta

    loss = BetaVAE.loss


class RateDistortion(NamedTuple):
    """Where a model stands, in nats per example: its negative bound is the sum."""

    rate: Tensor
    distortion: Tensor


@torch.no_grad()
def rate_and_distortion(model: LatentModel, x: Tensor, draws: int = 1) -> RateDistortion:
    """Measure (1): R = mean KL(q(z | x) || p(z)) and D = mean -log p(x | z).

    Args:
        model: any VAE, in the mode it is in.
        x: (B, *shape).
        draws: of z per example, to average the distortion.
    """
    validate.at_least(1, draws=draws)
    terms = [model.terms(x) for _ in range(draws)]
    rate = torch.stack([kl.sum(-1).mean() for _, kl in terms]).mean()
    return RateDistortion(rate, torch.stack([-log_p.mean() for log_p, _ in terms]).mean())


def gaussian_rate_distortion(variances: Tensor, level: Tensor | float) -> RateDistortion:
    """The best rate at which independent Gaussians can be told, up to an error: (4).

    Directions with a variance above the level are told up to an error of `level`, each for
    log(variance / level) / 2 nats; those below are not told at all.

    Args:
        variances: of the source's independent directions, (D,).
        level: theta, the error allowed per direction; any shape (*B).

    Returns:
        The rate in nats and the mean squared error summed over directions, each (*B).

    References:
        Shannon (1959). Coding theorems for a discrete source with a fidelity criterion.
        Cover, Thomas (2006). Elements of information theory, section 10.3.3.
    """
    theta = torch.as_tensor(level, dtype=variances.dtype)[..., None]
    rate = (variances / theta).log().clamp_min(0).sum(-1) / 2
    return RateDistortion(rate, torch.minimum(variances, theta).sum(-1))


class Surgery(NamedTuple):
    """The average KL in its three parts, in nats: (6)."""

    information: Tensor  # I(n; z): what the code says about which example it was
    correlation: Tensor  # KL(q(z) || prod_j q(z_j)): how far its dimensions depend
    marginals: Tensor  # sum_j KL(q(z_j) || p(z_j)): how far each is from the prior


def log_densities(q: Distribution, z: Tensor) -> Tensor:
    """Return log q(z_ij | x_k) of every code i under every example k: (M, B, K).

    Args:
        q: of B examples, a diagonal Gaussian of K dimensions each.
        z: (M, K).
    """
    return Normal(q.base_dist.loc, q.base_dist.scale).log_prob(z[:, None])


def log_aggregate(log_q: Tensor, own: Tensor, N: int) -> Tensor:
    """Estimate the log of q(z) = (1 / N) sum_n q(z | x_n) from a batch: (7).

    A code's own example counts 1 / N for certain. The other N - 1 are represented by the
    others in the batch, each with (N - 1) / (N (B - 1)). Unbiased for q(z); with the whole
    data set as the batch, exact. Its logarithm is biased downwards (Jensen).

    Args:
        log_q: log q(z_i | x_k), or of single dimensions, (M, B, *K).
        own: which example k every code was drawn from, int64 (M,).
        N: number of examples in the data set.

    Returns:
        (M, *K)
    """
    (M, B), own = log_q.shape[:2], validate.codes(own, log_q.shape[1], name="own")
    validate.at_least(min(B, 2), N=N)
    others = math.log(N - 1) - math.log(N * (B - 1)) if B > 1 else 0.0
    log_w = log_q.new_full((M, B), others)
    log_w[torch.arange(M, device=log_q.device), own] = -math.log(N) if B > 1 else 0.0
    return (log_q + log_w.view(M, B, *[1] * (log_q.ndim - 2))).logsumexp(1)


def surgery(q: Distribution, z: Tensor, log_prior: Tensor, N: int) -> Surgery:
    """Split the average KL of a batch into its three parts: (6), estimated by (7).

    Args:
        q: q(z | x) of the B examples of a batch.
        z: one code for each, drawn from it, (B, K).
        log_prior: log p(z), (B,).
        N: number of examples in the data set.
    """
    log_q = log_densities(q, z)  # (B, B, K)
    own = torch.arange(len(z), device=z.device)
    joint = log_aggregate(log_q.sum(-1), own, N)  # log q(z), (B,)
    product = log_aggregate(log_q, own, N).sum(-1)  # log of prod_j q(z_j)
    told = q.log_prob(z)
    parts = (told - joint, joint - product, product - log_prior)
    return Surgery(*(part.mean() for part in parts))


class BetaTC(nn.Module):
    """Train a model with the price on the correlation alone: (8), beta-TCVAE. Trainable.

    Args:
        model: whose weights are trained; evaluate that one.
        N: number of examples in the data set.
        beta: price of a nat of total correlation; information and marginals cost 1.
    """

    def __init__(self, model: LatentModel, *, N: int, beta: float = 6.0):
        super().__init__()
        validate.at_least(2, N=N)
        self.model, self.N, self.beta = model, N, beta

    def loss(self, x: Tensor) -> Tensor:
        """Return the mean loss in nats."""
        q = self.model.encode(x)
        z = q.rsample()
        parts = surgery(q, z, self.model.prior.log_prob(z), self.N)
        price = parts.information + self.beta * parts.correlation + parts.marginals
        return price - self.model.log_likelihood(x, z).mean()
