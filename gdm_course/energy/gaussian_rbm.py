"""An RBM whose visible units are real numbers: a mixture of 2^H Gaussians.

References:
    Hinton, Salakhutdinov (2006). Reducing the dimensionality of data with neural networks.
        Science 313.
    Cho, Ilin, Raiko (2011). Improved learning of Gaussian-Bernoulli restricted Boltzmann
        machines. ICANN.
"""

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from gdm_course import validate
from gdm_course.energy.normalise import states
from gdm_course.energy.rbm import RBM, Wires, coin
from gdm_course.energy.sampling import noise_like, with_slope
from gdm_course.nets import precise


class GaussianWires(Wires):
    """E(v, h) = |v - b|^2 / (2 s^2) - v'Wh / s^2 - c'h, so p(v | h) = N(b + Wh, s^2 I).

    Args: D, H as of Wires; sigma, the width s of each Gaussian, held fixed.
    """

    def __init__(self, D: int, *, H: int = 8, sigma: float = 0.3):
        super().__init__(D, H=H)
        if not 0 < sigma < math.inf:
            raise ValueError(f"sigma is {sigma}: expected a positive width, such as 0.3")
        nn.init.normal_(self.W, std=sigma)
        self.register_buffer("sigma", torch.tensor(float(sigma)))

    def joint_energy(self, v: Tensor, h: Tensor) -> Tensor:
        """Return E(v, h): (B, D) and bits (B, H) -> (B,)."""
        v = validate.points(v, len(self.b), self.b, name="v")
        h = validate.bits(h, len(self.c), self.c, name="h")
        apart = (v - self.b).square().sum(1) / 2 - precise(v @ self.W * h).sum(1)
        return apart / self.sigma**2 - precise(h @ self.c)

    def hidden(self, v: Tensor) -> Tensor:
        """Return p(h_j = 1 | v) = sigmoid(c + W'v / s^2)_j: (B, D) -> (B, H)."""
        v = validate.points(v, len(self.b), self.b, name="v", least=0)
        return torch.sigmoid(self.c + v @ self.W / self.sigma**2)

    def visible(self, h: Tensor) -> Tensor:
        """Return the mean of p(v | h), b + Wh: (B, H) -> (B, D)."""
        h = validate.points(h, len(self.c), self.c, name="h", least=0)
        return self.b + h @ self.W.T

    def energy(self, v: Tensor) -> Tensor:
        """Return F(v) = |v - b|^2 / (2 s^2) - sum_j softplus(c + W'v / s^2)_j: (B,)."""
        v = validate.points(v, len(self.b), self.b)
        pulls = precise(self.c + v @ self.W / self.sigma**2)
        return (v - self.b).square().sum(1) / (2 * self.sigma**2) - F.softplus(pulls).sum(1)


def components(wires: GaussianWires) -> tuple[Tensor, Tensor]:
    """Return the mixture: log of Z times each weight (2^H,), and the means (2^H, D).

    h gives a Gaussian at b + Wh, of weight e^(c'h + (|b + Wh|^2 - |b|^2) / (2 s^2)).
    """
    h = states(len(wires.c)).to(wires.c)
    means = wires.visible(h)
    grown = means.square().sum(1) - wires.b.square().sum()
    size = len(wires.b) / 2 * torch.log(2 * math.pi * wires.sigma**2)
    return h @ wires.c + grown / (2 * wires.sigma**2) + size, means


class GaussianRBM(GaussianWires, RBM):
    """An RBM over points, trained by CD-1; its Z and its samples are exact, at 2^H.

    Args: D, H and sigma, as of GaussianWires.
    """

    @torch.no_grad()
    def gibbs(self, v: Tensor, k: int = 1, generator: Generator | None = None) -> Tensor:
        """Take k steps v -> h -> v: (B, D) -> (B, D)."""
        for _ in range(k):
            v = self.visible(coin(self.hidden(v), generator))
            v = v + self.sigma * noise_like(v, generator)
        return v

    def loss(self, v: Tensor) -> Tensor:
        """Return mean F(data) - mean F(chain), as of RBM."""
        return self.gap(v, self.gibbs(v, self.k))

    def score(self, v: Tensor) -> Tensor:
        """Return grad log p(v) = -grad F(v): (B, D) -> (B, D)."""
        return -with_slope(self.energy, v)[1]

    def log_z(self) -> Tensor:
        """Return log Z by adding the 2^H weights: (), float64."""
        return torch.logsumexp(components(self)[0].double(), 0)

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """Choose one of the Gaussians, then a point of it, without a chain: (n, D)."""
        (log_weights, means), some = components(self), max(validate.count(n), 1)
        which = torch.softmax(log_weights.double(), 0).multinomial(some, replacement=True)
        return (means[which] + self.sigma * noise_like(means[which]))[:n]
