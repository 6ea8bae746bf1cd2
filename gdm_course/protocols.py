"""What a generative model can do: three one-method protocols and no base class.

A class belongs to a protocol when it has the method (structural typing), so a student's
class inherits `nn.Module` and nothing of ours, and a missing ability is a missing method.
"""

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Sampler(Protocol):
    """A model that draws new points."""

    def sample(self, n: int) -> Tensor:
        """Draw `n` independent points, shape (n, *D)."""
        ...


@runtime_checkable
class Trainable(Protocol):
    """A model with one number to minimise."""

    def loss(self, x: Tensor) -> Tensor:
        """Return what is minimised on a batch: (B, *D) -> ()."""
        ...


@runtime_checkable
class Density(Protocol):
    """A model that knows its own density exactly. A bound is called `elbo`, never this."""

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p(x) in nats, exact: (B, *D) -> (B,)."""
        ...


def abilities(model: object) -> dict[str, bool]:
    """Say which protocols a model (or a class) satisfies, by the name of the protocol."""
    names = {"Sampler": "sample", "Trainable": "loss", "Density": "log_prob"}
    return {protocol: callable(getattr(model, m, None)) for protocol, m in names.items()}
