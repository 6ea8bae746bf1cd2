"""Learn the slope of log p instead of log p: its constant has no slope.

The score of a density is s_p(x) = grad log p(x). All losses here have one goal: half of
the mean squared distance E |s(x) - s_p(x)|^2 / 2 over the data, without knowing s_p.

References:
    Hyvarinen (2005). Estimation of non-normalized statistical models by score matching.
    Vincent (2011). A connection between score matching and denoising autoencoders.
    Song, Garg, Shi, Ermon (2019). Sliced score matching. arXiv:1905.07088.
    Song, Ermon (2019). Generative modeling by estimating gradients of the data
        distribution. arXiv:1907.05600.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from gdm_course import validate
from gdm_course.energy.sampling import noise_like
from gdm_course.nets import wave_net

SIGMAS = (4.0, 2.0, 1.0, 0.5, 0.25, 0.12, 0.06)


def trace_of_jacobian(s: Tensor, x: Tensor) -> Tensor:
    """Return sum_d ds_d / dx_d of every row, one backward pass for each d.

    Args:
        s: a function's values (B, D), computed from x row by row.
        x: points (B, D) that require a gradient.

    Returns:
        The traces (B,), differentiable once more.
    """
    slopes = (
        torch.autograd.grad(s[:, d].sum(), x, create_graph=True)[0][:, d]
        for d in range(s.shape[1])
    )
    return torch.stack([*slopes]).sum(0)


def signs_like(x: Tensor) -> Tensor:
    """Draw +1 or -1 with equal probability, in the shape of x: E v v^T = I."""
    return 2 * torch.randint(2, x.shape, device=x.device).to(x) - 1


def product_with_jacobian(s: Tensor, x: Tensor, v: Tensor) -> Tensor:
    """Return v^T (ds/dx) v of every row by one backward pass: (B,).

    Its mean over v with E v v^T = I is the trace (Hutchinson).

    Args: values s (B, D), points x (B, D) that require a gradient, directions v (B, D).
    """
    (back,) = torch.autograd.grad(s, x, v, create_graph=True)  # v^T ds/dx
    return (back * v).sum(1)


class ScoreModel(nn.Module):
    """A network for the score, trained by explicit score matching.

    loss = E[ |s|^2 / 2 + tr ds/dx ] = E |s - s_p|^2 / 2 - E |s_p|^2 / 2, equation (4): the
    second term is what the data alone decide. Lowest at s = s_p.

    Args:
        D: dimension of a point.
        net: more about the network, see `nets.wave_net`: hidden, waves, scale.
    """

    def __init__(self, D: int, **net):
        super().__init__()
        validate.at_least(1, D=D)
        self.net, self.D = wave_net(D, D, **net), D

    def score(self, x: Tensor) -> Tensor:
        """Return the score at every point: (B, D) -> (B, D)."""
        return self.net(validate.points(x, self.D, self))

    def at(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return a copy of x that records a gradient, and the score there."""
        x = validate.points(x, self.D, self).detach().requires_grad_()
        return x, self.score(x)

    def loss(self, x: Tensor) -> Tensor:
        """Return the mean of |s|^2 / 2 + tr ds/dx, which may be negative: (B, D) -> ()."""
        with torch.enable_grad():
            x, s = self.at(x)
            return (s.square().sum(1) / 2 + trace_of_jacobian(s, x)).mean()

    def sample(self, n: int, steps: int = 500, eps: float = 0.01) -> Tensor:
        """Run n chains of Langevin steps with this score, from N(0, I): (n, D)."""
        like = next(self.parameters())
        start = noise_like(like.new_empty(validate.count(n), self.D))
        return langevin(self.score, start, eps, steps)


@torch.no_grad()
def langevin(
    score: Callable[[Tensor], Tensor], x: Tensor, eps: float, steps: int
) -> Tensor:
    """Take steps x + (eps/2) s(x) + sqrt(eps) xi with a score: (B, D) -> (B, D)."""
    for _ in range(steps if len(x) else 0):
        x = x + eps / 2 * score(x) + math.sqrt(eps) * noise_like(x)
    return x


class SlicedScoreModel(ScoreModel):
    """The same, with the trace seen along one random direction: one pass for any D."""

    def loss(self, x: Tensor) -> Tensor:
        """Return the mean of |s|^2 / 2 + v^T (ds/dx) v over random signs v: ()."""
        with torch.enable_grad():
            x, s = self.at(x)
            slope = product_with_jacobian(s, x, signs_like(x))
            return (s.square().sum(1) / 2 + slope).mean()


class DenoisingScoreModel(ScoreModel):
    """Learn to point from a noisy point back to where it came from.

    loss = E |sigma s(x + sigma e) + e|^2 / 2 with e ~ N(0, I), equation (5): no derivative
    in x at all. Lowest at the score of p blurred by N(0, sigma^2 I), and not at 0 there.

    Args:
        D, net: as of `ScoreModel`.
        sigma: standard deviation of the noise.
    """

    def __init__(self, D: int, *, sigma: float = 0.1, **net):
        super().__init__(D, **net)
        self.sigma = sigma

    def loss(self, x: Tensor) -> Tensor:
        """Return the mean of |sigma s(x + sigma e) + e|^2 / 2: (B, D) -> ()."""
        e = noise_like(validate.points(x, self.D, self))
        s = self.score(x + self.sigma * e)
        return (self.sigma * s + e).square().sum(1).mean() / 2

    def denoise(self, x: Tensor) -> Tensor:
        """Return E[clean | noisy] = x + sigma^2 s(x) (Tweedie): (B, D) -> (B, D)."""
        return x + self.sigma**2 * self.score(x)


class NoiseConditionalModel(nn.Module):
    """One network for the scores of p under many noises, from wide to narrow.

    Args:
        D: dimension of a point.
        sigmas: standard deviations of the noises, falling; the first as wide as the data.
        net: more about the network, as of `ScoreModel`.
    """

    def __init__(self, D: int, *, sigmas: Sequence[float] = SIGMAS, **net):
        super().__init__()
        validate.at_least(1, D=D)
        self.register_buffer("sigmas", torch.tensor(sigmas))
        self.net, self.D = wave_net(D + 1, D, **net), D

    def score(self, x: Tensor, sigma: Tensor | float | None = None) -> Tensor:
        """Return the score of p blurred by sigma, one for all or (B, 1): (B, D) -> (B, D).

        net(x / sqrt(1 + sigma^2), log sigma) / sigma, so that the network's own answer is
        of order 1 at most, whatever sigma. Without sigma, by the narrowest noise.
        """
        x = validate.points(x, self.D, self, least=0)
        sigma = self.sigmas[-1] if sigma is None else torch.as_tensor(sigma).to(x)
        sigma = sigma.expand(len(x), 1)
        seen = torch.cat([x / (1 + sigma.square()).sqrt(), sigma.log()], 1)
        return self.net(seen) / sigma

    def loss(self, x: Tensor) -> Tensor:
        """Return the mean of |sigma s + e|^2 / 2, every row with a noise of its own: ()."""
        e = noise_like(validate.points(x, self.D, self))
        level = torch.randint(len(self.sigmas), (len(x), 1), device=x.device)
        sigma = self.sigmas[level]
        s = self.score(x + sigma * e, sigma)
        return (sigma * s + e).square().sum(1).mean() / 2

    def sample(self, n: int, steps: int = 100, share: float = 0.2) -> Tensor:
        """Run Langevin chains through the noises, the widest first: (n, D)."""
        return annealed(self, n, steps, share)


def annealed(model: NoiseConditionalModel, n: int, steps: int, share: float) -> Tensor:
    """Run n Langevin chains through the noises of a model, from the widest: (n, D).

    Args: steps at every noise, and the share of sigma^2 that a step is.
    """
    first = model.sigmas[0]
    x = first * noise_like(first.new_empty(validate.count(n), model.D))
    for sigma in model.sigmas:
        eps = share * sigma.item() ** 2
        x = langevin(lambda x, s=sigma: model.score(x, s), x, eps, steps)
    return x
