"""Three things that a network may be asked for: noise, clean data, or the velocity.

Each determines the other two, for x_t = alpha x0 + sigma eps is known: equation (5).

References:
    Salimans, Ho (2022). Progressive distillation for fast sampling of diffusion models.
        arXiv:2202.00512.
"""

from torch import Tensor


class Noise:
    """The network says the noise eps; x0 = (x_t - sigma eps) / alpha."""

    def target(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Return what the network is to say: all (B, *D), alpha and sigma broadcast."""
        return eps

    def clean(self, out: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Return the clean data that the network's answer stands for: (B, *D)."""
        return (x_t - sigma * out) / alpha


class Clean:
    """The network says the clean data x0."""

    def target(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Return what the network is to say: all (B, *D), alpha and sigma broadcast."""
        return x0

    def clean(self, out: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Return the clean data that the network's answer stands for: (B, *D)."""
        return out


class Velocity:
    """The network says v = alpha eps - sigma x0; x0 = alpha x_t - sigma v, no division."""

    def target(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Return what the network is to say: all (B, *D), alpha and sigma broadcast."""
        return alpha * eps - sigma * x0

    def clean(self, out: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Return the clean data that the network's answer stands for: (B, *D)."""
        return alpha * x_t - sigma * out


Target = Noise | Clean | Velocity
