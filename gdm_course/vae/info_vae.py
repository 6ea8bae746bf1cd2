"""InfoVAE: make the codes look like the prior together, not one by one.

Numbered equations are those of the lecture vae/beta_vae.

References:
    Zhao, Song, Ermon (2019). InfoVAE: balancing learning and inference in variational
        autoencoders. arXiv:1706.02262.
    Gretton, Borgwardt, Rasch, Schoelkopf, Smola (2012). A kernel two-sample test. JMLR 13.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from gdm_course.divergences.samples import mmd2
from gdm_course.vae.vae import VAE, latent_kl


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
