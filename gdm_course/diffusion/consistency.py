"""Consistency models: from any noisy point straight to the end of its ODE.

Noise level s = sigma / alpha, noisy point z = x0 + s eps, ODE dz/ds = (z - E[x0 | z]) / s.
Numbered equations are those of the lecture diffusion/few_step.

References:
    Song, Dhariwal, Chen, Sutskever (2023). Consistency models. arXiv:2303.01469.
    Song, Dhariwal (2024). Improved techniques for training consistency models.
        arXiv:2310.14189.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gdm_course import validate
from gdm_course.diffusion.schedule import noise_like, rowwise
from gdm_course.diffusion.score_sde import noise_for
from gdm_course.diffusion.sde import Denoise, time_like
from gdm_course.diffusion.solvers import heun, karras_sigmas, per_noise
from gdm_course.learning import evaluating
from gdm_course.nets import precise

FAR = 1e3  # a level of noise at which no trace of the data is left


def solution_map(denoise: Denoise, eps: Tensor, steps: int = 100) -> Tensor:
    """Follow the ODE from noise to data in small steps: what one step should say.

    Args:
        denoise: (x, log_snr) -> E[x0 | x], with alpha^2 + sigma^2 = 1: exact or trained.
        eps: standard normal noise (B, *D).
        steps: of Heun, evenly spaced in log s, from 1000 to 0.001 and then to 0.

    Returns:
        The data that belong to the noise: (B, *D).
    """
    levels = karras_sigmas(steps, 1 / FAR, FAR, math.inf)
    return heun(per_noise(denoise), FAR * eps, levels)


def boundary(s: Tensor, low: float, sigma_data: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return c_skip and c_out, which are exactly 1 and 0 at s = low, equation (3).

    c_skip = sigma_data^2 / ((s - low)^2 + sigma_data^2),
    c_out = sigma_data (s - low) / sqrt(s^2 + sigma_data^2), for s of any shape.
    """
    c_skip = sigma_data**2 / ((s - low).square() + sigma_data**2)
    return c_skip, sigma_data * (s - low) / (s.square() + sigma_data**2).sqrt()


def pseudo_huber(a: Tensor, b: Tensor, c: float = 0.03) -> Tensor:
    """Return sqrt(|a - b|^2 + c^2) - c: the distance, made smooth at 0: (B, *D) -> (B,)."""
    return ((a - b).flatten(1).square().sum(1) + c * c).sqrt() - c


class ConsistencyFunction(nn.Module):
    """A network that says where the ODE through a noisy point ends: one step is enough.

    f(z, s) = c_skip z - c_out net(c_in z, log_snr), as EDM's denoiser but for the boundary
    f(z, low) = z.

    Args:
        net: (x, log_snr (B,), y=None) -> as x.
        shape: of one example; (net.D,) if None.
        sigma_data: standard deviation of the data.
        low, high: least and most noise.
    """

    def __init__(
        self,
        net: nn.Module,
        shape: Sequence[int] | None = None,
        *,
        sigma_data: float = 1.0,
        low: float = 0.01,
        high: float = 20.0,
    ):
        super().__init__()
        self.shape = (net.D,) if shape is None else tuple(shape)
        validate.at_least(1, shape=self.shape)
        if not (0 < low < high and sigma_data > 0):
            raise ValueError(
                f"low={low}, high={high}, sigma_data={sigma_data}: expected 0 < low < high "
                "and sigma_data > 0"
            )
        self.net, self.sigma_data, self.low, self.high = net, sigma_data, low, high

    def forward(self, z: Tensor, s: Tensor | float, y: Tensor | None = None) -> Tensor:
        """Return the end of the path through z at the level s, one or (B,): (B, *D)."""
        z = validate.points(z, self.shape, self, name="z", least=0)
        s = time_like(s, z)
        c_skip, c_out = boundary(s, self.low, self.sigma_data)
        log_snr = 2 * (self.sigma_data / s).log().flatten().expand(len(z))
        c_in = 1 / (s.square() + self.sigma_data**2).sqrt()
        return c_skip * z - c_out * precise(self.net(c_in * z, log_snr, y))


class ConsistencyModel(ConsistencyFunction):
    """Trained without any ODE: neighbours on one line of data and noise are to agree.

    Args:
        net, shape: as of `ConsistencyFunction`.
        N: number of levels; more of them are more exact, and train more slowly.
        stop: False lets the gradient through the teacher, to see what stopping is for.
        more: sigma_data, low, high.
    """

    def __init__(self, net: nn.Module, shape=None, *, N: int = 40, stop=True, **more):
        super().__init__(net, shape, **more)
        validate.at_least(2, N=N)
        self.N, self.stop = N, stop

    def loss(self, x: Tensor) -> Tensor:
        """Return how far neighbours disagree, per difference of level: (B, *D) -> ()."""
        x = validate.points(x, self.shape, self)
        less, more = (s.to(x) for s in neighbours(len(x), self.low, self.high, self.N))
        eps = noise_like(x)  # the same at both levels
        student = self(x + rowwise(more, x) * eps, more)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.stop):
            teacher = self(x + rowwise(less, x) * eps, less)
        return (pseudo_huber(student, teacher) / (more - less)).mean()

    @torch.no_grad()
    def sample(self, n: int, steps: int = 1) -> Tensor:
        """Jump from noise to data, then so many times back to less noise: (n, *D)."""
        z = self.high * noise_for(self, n, self.shape)
        n = validate.count(steps, "steps", 1) + 1
        first, *rest = karras_sigmas(n, self.low, self.high, math.inf)[:-2]
        with evaluating(self):
            x = self(z, first)
            for s in rest:
                x = self(renoise(x, s, self.low), s)
        return x


def renoise(x: Tensor, s: float, low: float) -> Tensor:
    """Bring points from the level low to the level s > low: + sqrt(s^2 - low^2) eps."""
    return x + math.sqrt(s * s - low * low) * noise_like(x)


def neighbours(
    B: int, low: float, high: float, N: int, mean: float = -1.1, std: float = 2.0
) -> tuple[Tensor, Tensor]:
    """Draw B pairs of neighbouring levels out of N from low to high: (B,), (B,).

    The levels are EDM's, rho = 7; a pair is drawn as often as log s ~ N(mean, std^2) falls
    between its two levels.
    """
    s = torch.tensor(karras_sigmas(N, low, high)[-2::-1])  # rising
    inside = torch.special.ndtr((s.log() - mean) / std).diff()
    k = torch.multinomial(inside, B, replacement=True)
    return s[k], s[k + 1]
