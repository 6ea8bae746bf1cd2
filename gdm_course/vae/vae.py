"""The variational autoencoder: a latent variable, a bound, and one network each way.

Numbered equations are those of the lecture vae/vae.

References:
    Kingma, Welling (2014). Auto-encoding variational Bayes. arXiv:1312.6114.
    Rezende, Mohamed, Wierstra (2014). Stochastic backpropagation and approximate inference
        in deep generative models. arXiv:1401.4082.
    Burda, Grosse, Salakhutdinov (2016). Importance weighted autoencoders. arXiv:1509.00519.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from gdm_course import validate
from gdm_course.nets import mlp, precise
from gdm_course.vae.decoders import BernoulliPixels, shown


def gaussian_kl(mu: Tensor, log_sigma: Tensor) -> Tensor:
    """KL(N(mu, sigma^2) || N(0, 1)) of every dimension in nats, closed form: (4).

    (mu^2 + sigma^2 - 1) / 2 - log sigma; sum over the dimensions for the KL of a vector.
    """
    return (mu.square() + (2 * log_sigma).exp() - 1) / 2 - log_sigma


def diagonal_gaussian(parameters: Tensor) -> Independent:
    """Read (..., 2 K) numbers as mu and log_sigma of a Gaussian of K dimensions."""
    mu, log_sigma = precise(parameters).chunk(2, dim=-1)
    sigma = log_sigma.clamp(-10, 10).exp()  # far from the data a network may say anything
    return Independent(Normal(mu, sigma, validate_args=False), 1, False)


class StandardNormal(nn.Module):
    """The usual prior p(z) = N(0, I) of K dimensions: a Density and a Sampler.

    Any other module with `log_prob` and `sample` can take its place, such as a flow.
    """

    def __init__(self, K: int):
        super().__init__()
        validate.at_least(1, K=K)
        self.register_buffer("mean", torch.zeros(K), persistent=False)

    def log_prob(self, z: Tensor) -> Tensor:
        """Return log p(z) in nats: (B, K) -> (B,)."""
        z = validate.points(z, len(self.mean), self.mean, name="z")
        return -0.5 * (z.square() + math.log(2 * math.pi)).sum(-1)

    def sample(self, n: int) -> Tensor:
        """Draw n points (n, K)."""
        n, K = validate.count(n), len(self.mean)
        return torch.randn(n, K, device=self.mean.device).to(self.mean.dtype)


class EncoderDecoder(nn.Module):
    """p(x, z) = p(z) p(x | z), and q(z | x) to guess the z of an x: any two networks.

    Args:
        shape: of one x.
        encoder: x (B, *shape), as the observation embeds it -> (B, 2 K), mu and log_sigma.
        decoder: z (B, K) -> (B, outputs, *shape), `outputs` of the observation.
        observation: what those numbers mean, such as `BernoulliPixels()`.
        prior: a Density and Sampler of z, such as `StandardNormal(K)`.
    """

    latent: int | str = "K"  # numbers in z; any, unless a subclass knows

    def __init__(self, shape: Sequence[int], encoder, decoder, observation, prior):
        super().__init__()
        self.shape, self.observation, self.prior = tuple(shape), observation, prior
        self.encoder, self.decoder = encoder, decoder

    def encode(self, x: Tensor) -> Distribution:
        """Return q(z | x), batch shape (B,), event shape (K,)."""
        return diagonal_gaussian(self.encoder(shown(x, self)))

    def decode(self, z: Tensor) -> Distribution:
        """Return p(x | z), for z (*B, K): batch shape (*B,), event shape `shape`."""
        z = validate.vectors(z, self.latent, self.decoder)
        numbers = self.decoder(z.flatten(0, -2)).unflatten(0, z.shape[:-1])
        parts = precise(numbers).unbind(dim=-1 - len(self.shape))
        return Independent(self.observation(*parts), len(self.shape), False)

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """Return log p(x | z) in nats: x (B, *shape), z (*S, B, K) -> (*S, B)."""
        x = validate.shaped(x, self.shape).to(z.dtype)  # codes may be integers
        return self.decode(z).log_prob(x)

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """Draw n points (n, *shape): z from the prior, then x from p(x | z)."""
        return self.decode(self.prior.sample(n)).sample()


def latent_kl(q: Distribution, prior: nn.Module, z: Tensor) -> Tensor:
    """Return KL(q || p(z)) per dimension (B, K); a draw's estimate (B, 1) if need be.

    The closed form (4) holds for a Gaussian q and a standard normal prior. For any other
    pair, log q(z | x) - log p(z) at z ~ q is right on average.
    """
    if isinstance(prior, StandardNormal) and isinstance(q, Independent):
        return gaussian_kl(q.base_dist.loc, q.base_dist.scale.log())
    return (q.log_prob(z) - prior.log_prob(z))[:, None]


class LatentModel(EncoderDecoder):
    """An encoder and a decoder with the bounds on log p(x) that join them, in nats."""

    def terms(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return log p(x | z), z ~ q(z | x), (B,), and the KL per dimension: (B, K)."""
        q = self.encode(x)
        z = q.rsample()
        return self.log_likelihood(x, z), latent_kl(q, self.prior, z)

    def elbo(self, x: Tensor) -> Tensor:
        """Return one draw's estimate of the bound (2): (B, *shape) -> (B,)."""
        log_p, kl = self.terms(x)
        return log_p - kl.sum(-1)

    def loss(self, x: Tensor) -> Tensor:
        """Return the mean negative bound."""
        return -self.elbo(x).mean()

    def log_weights(self, x: Tensor, q: Distribution, k: int) -> Tensor:
        """Return log p(x, z) - log q(z | x) of k draws z ~ q, all at once: (k, B)."""
        z = q.rsample((k,))  # (k, B, K)
        log_prior = self.prior.log_prob(z.flatten(0, -2)).view(z.shape[:-1])
        return self.log_likelihood(x, z) + log_prior - q.log_prob(z)

    def iwae(self, x: Tensor, k: int, rows: int = 1024) -> Tensor:
        """Return the importance weighted bound (7) of k draws: (B, *shape) -> (B,).

        Args:
            x: (B, *shape).
            k: number of draws; more make the bound tighter.
            rows: decoded at a time, which bounds memory; at least one draw of the batch.
        """
        validate.at_least(1, k=k, rows=rows)
        q, at_once = self.encode(x), max(1, rows // len(x))
        parts = [
            self.log_weights(x, q, min(at_once, k - done)).logsumexp(0)
            for done in range(0, k, at_once)
        ]
        return torch.stack(parts).logsumexp(0) - math.log(k)


class VAE(LatentModel):
    """Variational autoencoder of vectors (B, D), a perceptron each way.

    Args:
        D: number of dimensions of x.
        latent: number K of dimensions of z.
        hidden: units of the encoder's hidden layers; the decoder has them in reverse.
        observation: p(x | z); bits if None.
        prior: p(z); standard normal if None.

    References:
        Kingma, Welling (2014). Auto-encoding variational Bayes. arXiv:1312.6114.
    """

    def __init__(
        self,
        D: int,
        *,
        latent: int = 32,
        hidden: Sequence[int] = (400,),
        observation: nn.Module | None = None,
        prior: nn.Module | None = None,
    ):
        validate.at_least(1, D=D, latent=latent, hidden=hidden)
        observation = observation or BernoulliPixels()
        encoder = mlp((D, *hidden, 2 * latent))
        decoder = nn.Sequential(
            mlp((latent, *reversed(hidden), D * observation.outputs)),
            nn.Unflatten(-1, (observation.outputs, D)),
        )
        prior = prior or StandardNormal(latent)
        super().__init__((D,), encoder, decoder, observation, prior)
        self.latent = latent
