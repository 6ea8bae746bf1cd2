"""A neural network as an energy: any function of the points will do.

References:
    LeCun, Chopra, Hadsell, Ranzato, Huang (2006). A tutorial on energy-based learning.
"""

import torch
from torch import Tensor, nn

from gdm_course import validate
from gdm_course.nets import precise, wave_net, zero_last


class Bowl(nn.Module):
    """|x|^2 / (2 width^2), the energy of N(0, width^2 I): round, and easy to draw from.

    Args:
        D: dimension of a point.
        width: standard deviation, above that of the data.
    """

    def __init__(self, D: int, width: float):
        validate.at_least(1, D=D)
        super().__init__()
        self.register_buffer("centre", torch.zeros(D))
        self.width = width

    def energy(self, x: Tensor) -> Tensor:
        """Return the energy in nats, 0 at the lowest point: (B, D) -> (B,)."""
        x = validate.points(x, len(self.centre), self.centre)
        return x.square().sum(1) / (2 * self.width**2)

    def sample(self, n: int) -> Tensor:
        """Draw n points: (n, D)."""
        size = validate.count(n), len(self.centre)
        return self.width * torch.randn(size).to(self.centre)


class FittedBowl(nn.Module):
    """(x - m)^T C^-1 (x - m) / 2, with the mean m and the covariance C of some data.

    Args:
        x: the data (N, D).
        noise: standard deviation of noise that is added to them, which C counts in; above
            0 if some direction of the data has no variance.
    """

    def __init__(self, x: Tensor, noise: float = 0.0):
        super().__init__()
        x = validate.points(x, "D", least=2).detach()
        apart = x.double() - x.double().mean(0)
        covariance = apart.T @ apart / (len(x) - 1)
        covariance = covariance + noise**2 * torch.eye(x.shape[1], dtype=torch.float64)
        root = torch.linalg.cholesky(covariance)
        self.register_buffer("centre", x.mean(0))
        self.register_buffer("root", root.to(x.dtype))  # C = root root^T
        self.register_buffer("whiten", torch.linalg.inv(root).to(x.dtype))

    def energy(self, x: Tensor) -> Tensor:
        """Return the energy in nats, 0 at the mean: (B, D) -> (B,)."""
        x = validate.points(x, len(self.centre), self.centre)
        return precise((x - self.centre) @ self.whiten.T).square().sum(1) / 2

    def sample(self, n: int) -> Tensor:
        """Draw n points of N(m, C): (n, D)."""
        z = torch.randn(validate.count(n), len(self.centre)).to(self.centre)
        return self.centre + z @ self.root.T


class EnergyNet(nn.Module):
    """E(x) = f(x) + bowl(x): a network tilts the energy of a Gaussian. Low is likely.

    The bowl makes Z finite, whatever the network says far away, and is where chains start.
    At first f = 0.

    Args:
        D: dimension of a point.
        width: standard deviation of a round bowl, wider than the data.
        bowl: instead of that, such as a `FittedBowl`: with `energy` and `sample`.
        net: more about the network, see `nets.wave_net`: hidden, waves, scale.
    """

    def __init__(self, D: int, *, width: float = 3.0, bowl: nn.Module | None = None, **net):
        super().__init__()
        validate.at_least(1, D=D)
        self.f = zero_last(wave_net(D, 1, **net))
        self.D, self.bowl = D, bowl or Bowl(D, width)

    def energy(self, x: Tensor) -> Tensor:
        """Return E(x) in nats, known but for a constant: (B, D) -> (B,)."""
        x = validate.points(x, self.D, self)
        return self.f(x).squeeze(1) + self.bowl.energy(x)

    def score(self, x: Tensor) -> Tensor:
        """Return grad log p(x) = -grad E(x), where Z is gone: (B, D) -> (B, D).

        Differentiable in the parameters, and in x again.
        """
        with torch.enable_grad():
            x = x if x.requires_grad else x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.energy(x).sum(), x, create_graph=True)
        return -slope
