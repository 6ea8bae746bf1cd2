"""Layers that do not stretch: a critic whose slope is at most 1, whatever its weights.

References:
    Miyato, Kataoka, Koyama, Yoshida (2018). Spectral normalization for generative
        adversarial networks. arXiv:1802.05957.
    Anil, Lucas, Grosse (2019). Sorting out Lipschitz function approximation.
        arXiv:1811.05381.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from gdm_course import validate
from gdm_course.gan.wgan import WGAN
from gdm_course.learning import on_backward


def power_iteration(W: Tensor, u: Tensor, steps: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Find what a matrix stretches most: v <- W^T u, u <- W v, each made of length 1.

    Args:
        W: (n, m).
        u: a guess in the space of outputs (n,), of any length but 0.
        steps: how often.

    Returns:
        sigma = u . W v, which approaches the largest singular value of W from below and
        is differentiable in W alone; and the unit vectors u (n,) and v (m,).
    """
    v = W.new_zeros(W.shape[1])
    with torch.no_grad():
        for _ in range(steps):
            v = normalize(W.T @ u, dim=0)
            u = normalize(W @ v, dim=0)
    return u @ (W @ v), u, v


class SpectralLinear(nn.Linear):
    """A linear layer whose matrix is divided by its largest singular value.

    The vector u is kept from step to step and improved by one iteration each time that a
    loss is backpropagated; measuring leaves it alone.
    """

    def __init__(self, n_in: int, n_out: int):
        super().__init__(n_in, n_out)
        guess = torch.randn(n_out)
        self.register_buffer("u", power_iteration(self.weight, guess, 20)[1].detach())

    def forward(self, x: Tensor) -> Tensor:
        """Return x (W / sigma)^T + b: (B, n_in) -> (B, n_out)."""
        sigma, u, _ = power_iteration(self.weight, self.u)
        sigma = on_backward(sigma, lambda: self.u.copy_(u))
        return linear(x, self.weight / sigma, self.bias)


class GroupSort(nn.Module):
    """Sort the features in pairs: an activation that keeps the length of every slope.

    ReLU takes length away where it cuts; here every output is some input, so that a
    network can have the slope 1 everywhere and a kink besides.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return each pair as (larger, smaller): (*B, 2 K) -> (*B, 2 K)."""
        pairs = x.unflatten(-1, (-1, 2))
        return torch.stack([pairs.amax(-1), pairs.amin(-1)], -1).flatten(-2)


class SpectralCritic(nn.Module):
    """A function of slope at most 1: layers that do not stretch.

    While it learns, sigma is found from below, so that the slope may be a percent or so
    above 1, and more in a deep network with ReLU.

    Args:
        D: dimension of a point.
        hidden, depth: features (an even number) and number of the hidden layers.
        sort: GroupSort between the layers; False takes ReLU.
    """

    def __init__(self, D: int, *, hidden: int = 64, depth: int = 3, sort: bool = True):
        super().__init__()
        validate.at_least(1, D=D, hidden=hidden, depth=depth)
        if hidden % 2:
            raise ValueError(f"hidden is {hidden}: expected an even number, to make pairs")
        layers: list[nn.Module] = []
        for i, o in pairwise([D, *[hidden] * depth, 1]):
            layers += [SpectralLinear(i, o), GroupSort() if sort else nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1], nn.Flatten(0))
        self.D = D

    def forward(self, x: Tensor) -> Tensor:
        """Return f(x): (B, D) -> (B,)."""
        return self.layers(validate.points(x, self.D, self))


class SpectralGAN(WGAN):
    """The two players with a `SpectralCritic`: no clipping, no penalty.

    Args:
        D: dimension of a point.
        sort: of the critic: GroupSort, or ReLU.
        Z, hidden, depth: of both players.
    """

    def __init__(self, D: int = 2, *, sort: bool = True, Z: int = 2, hidden=64, depth=2):
        super().__init__(D, clip=None, Z=Z, hidden=hidden, depth=depth)
        self.discriminator = SpectralCritic(D, hidden=hidden, depth=depth, sort=sort)


def stretch(layer: nn.Module, shape: tuple[int, ...], steps: int = 100) -> Tensor:
    """Return the largest |layer(x) - layer(y)| / |x - y| of a linear layer: ().

    Power iteration on the map itself, whatever its weights look like: v <- A^T u comes by
    autograd. A convolution's is not the largest singular value of its kernel, written as
    a matrix: the places overlap.

    Args:
        layer: linear up to a constant, (1, *shape) -> (1, ...).
        shape: of one input.
        steps: how often.
    """
    weight = next(layer.parameters())
    x = torch.zeros(1, *shape).to(weight).requires_grad_()
    with torch.enable_grad():
        y = layer(x)
        u, size = torch.randn_like(y), weight.new_zeros(())
        for _ in range(steps):
            (v,) = torch.autograd.grad(y, x, u, retain_graph=True)
            u = layer(v / v.norm()).detach() - layer(torch.zeros_like(v)).detach()
            size, u = u.norm(), u / u.norm()
    return size
