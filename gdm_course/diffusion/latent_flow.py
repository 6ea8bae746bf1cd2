"""Latent diffusion: a VAE makes the data smooth and small, a flow learns what z it uses.

Numbered equations are those of the lecture diffusion/flow_matching.

References:
    Vahdat, Kreis, Kautz (2021). Score-based generative modeling in latent space.
        arXiv:2106.05931.
    Rombach, Blattmann, Lorenz, Esser, Ommer (2022). High-resolution image synthesis with
        latent diffusion models. arXiv:2112.10752.
"""

import torch
from torch import Tensor, nn

from gdm_course import validate
from gdm_course.diffusion.flow_matching import FlowMatching
from gdm_course.learning import evaluating
from gdm_course.vae.vae import LatentModel


@torch.no_grad()
def latent_scale(vae: LatentModel, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of z ~ q(z | x) over data x: (K,), (K,)."""
    with evaluating(vae):
        z = vae.encode(x).sample()
    return z.mean(0), z.std(0)


class FlowPrior(nn.Module):
    """A flow of u = (z - shift) / scale as a density of z: a Density and a Sampler.

    log p(z) = log p_flow(u) - sum_k log scale_k.

    Args:
        flow: of u, shape (K,).
        shift, scale: of z, (K,) or numbers; see `latent_scale`.
    """

    def __init__(self, flow: FlowMatching, shift: Tensor | float, scale: Tensor | float):
        super().__init__()
        (K,), self.flow = flow.shape, flow
        self.register_buffer("shift", torch.as_tensor(shift).float().expand(K).clone())
        self.register_buffer("scale", torch.as_tensor(scale).float().expand(K).clone())
        if not (self.scale > 0).all():
            raise ValueError("scale has numbers that are not above 0: expected deviations")

    def inside(self, z: Tensor) -> Tensor:
        """Return u of z: (B, K) -> (B, K)."""
        z = validate.points(z, self.flow.shape, self.shift, name="z")
        return (z - self.shift) / self.scale

    def log_prob(self, z: Tensor) -> Tensor:
        """Return log p(z) in nats: (B, K) -> (B,)."""
        return self.flow.log_prob(self.inside(z)) - self.scale.log().sum()

    def sample(self, n: int, steps: int = 50) -> Tensor:
        """Draw z (n, K)."""
        return self.flow.sample(n, steps) * self.scale + self.shift


class LatentFlow(nn.Module):
    """A trained VAE whose prior is a flow: Trainable (the flow alone), Sampler, a bound.

    Args:
        vae: keeps its weights as they are.
        flow, shift, scale: of the prior, see `FlowPrior`.
    """

    def __init__(self, vae: LatentModel, flow: FlowMatching, shift=0.0, scale=1.0):
        super().__init__()
        self.vae, self.shape = vae.requires_grad_(False), vae.shape
        self.prior = FlowPrior(flow, shift, scale)

    def loss(self, x: Tensor) -> Tensor:
        """Return the flow's loss on one z ~ q(z | x) of every x: (B, *shape) -> ()."""
        with torch.no_grad(), evaluating(self.vae):
            z = self.vae.encode(x).sample()
        return self.prior.flow.loss(self.prior.inside(z))

    def elbo(self, x: Tensor) -> Tensor:
        """Return log p(x | z) + log p(z) - log q(z | x), z ~ q, a draw of (7): (B,)."""
        q = self.vae.encode(x)
        z = q.rsample()
        return self.vae.log_likelihood(x, z) + self.prior.log_prob(z) - q.log_prob(z)

    @torch.no_grad()
    def sample(self, n: int, steps: int = 50) -> Tensor:
        """Draw z by the flow, then x from p(x | z): (n, *shape)."""
        z = self.prior.sample(n, steps)
        with evaluating(self.vae):
            return self.vae.decode(z).sample()
