"""A normalizing flow: layers one after the other, from data to noise and back.

References:
    Rezende, Mohamed (2015). Variational inference with normalizing flows. arXiv:1505.05770.
    Papamakarios, Nalisnick, Rezende, Mohamed, Lakshminarayanan (2021). Normalizing flows
        for probabilistic modeling and inference. arXiv:1912.02762.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from gdm_course import validate
from gdm_course.learning import teaching


class Chain(nn.Module):
    """Invertible layers, one after the other; their log-determinants add up.

    Args:
        layers: each has `forward(x) -> (z, log_det)` and `inverse(z) -> (x, log_det)`, with
            log |det| (B,) of the map that was just made.
    """

    def __init__(self, layers: Iterable[nn.Module]):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map data to noise: x (B, *D) -> z (B, *D) and log |det dz/dx| (B,)."""
        log_det = x.new_zeros(len(x))
        for layer in self.layers:
            x, part = layer(x)
            log_det = log_det + part
        return x, log_det

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Map noise to data: z (B, *D) -> x (B, *D) and log |det dx/dz| (B,)."""
        log_det = z.new_zeros(len(z))
        for layer in reversed(self.layers):
            z, part = layer.inverse(z)
            log_det = log_det + part
        return z, log_det


class Flow(Chain):
    """A chain from data x to standard normal noise z: a Sampler, Trainable and a Density.

    log p(x) = log N(f(x); 0, I) + log |det df/dx|. Args: layers, of the chain, and the
    shape of one x, such as (2,).
    """

    def __init__(self, layers: Iterable[nn.Module], shape: Sequence[int]):
        super().__init__(layers)
        self.register_buffer("mean", torch.zeros(*shape), persistent=False)
        self.register_buffer("scale", torch.ones(*shape), persistent=False)

    @property
    def base(self) -> Independent:
        """The distribution of z: every dimension standard normal."""
        return Independent(Normal(self.mean, self.scale, False), self.mean.ndim, False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map data to noise like a `Chain`, but x (B, *shape) only."""
        return super().forward(validate.points(x, self.mean.shape, self.mean))

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Map noise to data like a `Chain`, but z (B, *shape) only; B may be 0."""
        return super().inverse(validate.points(z, self.mean.shape, self.mean, least=0))

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p(x) in nats, exact: (B, *D) -> (B,)."""
        z, log_det = self(x)
        return self.base.log_prob(z) + log_det

    @teaching()
    def loss(self, x: Tensor) -> Tensor:
        """Return the mean negative log-likelihood of a batch in nats: (B, *D) -> ()."""
        return -self.log_prob(x).mean()

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """Draw noise and map it to data: (n, *D)."""
        return self.inverse(self.base.sample((validate.count(n),)))[0]


class ReverseKL(nn.Module):
    """KL(q || p) of a flow q to p = e^-U / Z, but for log Z: Trainable on noise, not data.

    KL(q || p) = E[log q(x) + U(x)] + log Z, with x = flow.inverse(z)[0] and z ~ the base.

    Args:
        flow: whose direction from noise to data is differentiable, and best cheap.
        energy: U, from x (B, *D) to nats (B,).
    """

    def __init__(self, flow: Flow, energy: Callable[[Tensor], Tensor]):
        super().__init__()
        self.flow, self.energy = flow, energy

    def values(self, z: Tensor, beta: float | Tensor = 1.0) -> Tensor:
        """Return log q(x) + beta U(x) at the x of every z, in nats: (B, *D) -> (B,)."""
        x, log_det = self.flow.inverse(validate.points(z, self.flow.mean.shape, name="z"))
        return self.flow.base.log_prob(z) - log_det + beta * self.energy(x)

    def loss(self, z: Tensor, beta: float | Tensor = 1.0) -> Tensor:
        """Return the mean over noise z (B, *D), in nats; beta < 1 flattens the target."""
        return self.values(z, beta).mean()


class Inverse(nn.Module):
    """A layer turned round: its forward is the other's inverse, and the reverse."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the layer's inverse: x -> (z, log |det dz/dx|)."""
        return self.layer.inverse(x)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the layer itself: z -> (x, log |det dx/dz|)."""
        return self.layer(z)


class Reverse(nn.Module):
    """Turn the order of the last dimension round, so that others go first: log_det is 0."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Flip the dimensions: (B, D) -> (B, D) and zeros (B,)."""
        return x.flip(-1), x.new_zeros(len(x))

    inverse = forward
