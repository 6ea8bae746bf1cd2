"""EDM: what a network should see and say at every level of noise, from three wishes.

z = x0 + s eps, and the denoiser is D(z, s) = c_skip z + c_out F(c_in z, level).
    1. The input has variance 1:          c_in^2 (sigma_data^2 + s^2) = 1.
    2. The target of F has variance 1.
    3. F's errors count as little as possible: c_out is as small as can be.

References:
    Karras, Aittala, Aila, Laine (2022). Elucidating the design space of diffusion-based
        generative models. arXiv:2206.00364.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gdm_course import validate
from gdm_course.diffusion.decoders import LevelDecoder
from gdm_course.diffusion.schedule import noise_like
from gdm_course.diffusion.score_sde import ScoreSDE, edm_levels, noise_for
from gdm_course.diffusion.sde import time_like
from gdm_course.diffusion.solvers import heun, karras_sigmas
from gdm_course.diffusion.unet import UNet
from gdm_course.flows.continuous import rademacher
from gdm_course.flows.ode import Fixed, rk4_step
from gdm_course.learning import evaluating


def precondition(s: Tensor, sigma_data: float = 0.5) -> tuple[Tensor, Tensor, Tensor]:
    """Return c_skip, c_out and c_in at the noise level s, of any shape."""
    total = s * s + sigma_data**2
    return sigma_data**2 / total, s * sigma_data / total.sqrt(), 1 / total.sqrt()


def edm_weight(s: Tensor, sigma_data: float = 0.5) -> Tensor:
    """Return 1 / c_out^2 = (s^2 + sigma_data^2) / (s sigma_data)^2: F counts equally."""
    return (s * s + sigma_data**2) / (s * sigma_data) ** 2


class Preconditioned(nn.Module):
    """A denoiser D(z, s) = c_skip z - c_out v(c_in z, log_snr) around a network v.

    The minus makes v the course's velocity: with sigma_data = 1 this is v-prediction, word
    for word, and EDM's own F is -v. The network is told the log_snr of what it sees,
    2 log(sigma_data / s); EDM's c_noise, log(s) / 4, is another name for the same number.

    Args:
        net: (x, log_snr (B,), y) -> v, as x.
        sigma_data: standard deviation of the data.
    """

    def __init__(self, net: nn.Module, *, sigma_data: float = 0.5):
        super().__init__()
        if not sigma_data > 0:
            raise ValueError(f"sigma_data is {sigma_data}: expected a number above 0")
        self.net, self.sigma_data = net, sigma_data

    def forward(self, z: Tensor, s: Tensor | float, y: Tensor | None = None) -> Tensor:
        """Return the denoised z: (B, *D), at the level s, a number or (B,)."""
        s = time_like(s, z)
        c_skip, c_out, c_in = precondition(s, self.sigma_data)
        log_snr = 2 * (self.sigma_data / s).log().flatten().expand(len(z))
        return c_skip * z - c_out * self.net(c_in * z, log_snr, y)


class EDM(Preconditioned):
    """EDM's training and sampling: log-normal levels, an equal weight for F, Heun's steps.

    loss = E[ weight(s) |D(x0 + s eps, s) - x0|^2 / D ],  log s ~ N(-1.2, 1.2^2).

    Args:
        net: (x, log_snr, y) -> like x.
        shape: of one example.
        sigma_data: standard deviation of the data; 0.5 is that of pictures in [-1, 1].
        more: about the ODE of `log_prob`, see `ScoreSDE`: probes, solver.
    """

    def __init__(self, net: nn.Module, shape: Sequence[int], *, sigma_data=0.5, **more):
        super().__init__(net, sigma_data=sigma_data)
        validate.at_least(1, shape=shape)
        self.shape, self.more = tuple(shape), more

    def loss(self, x: Tensor) -> Tensor:
        """Return the weighted squared error, averaged over all numbers: (B, *D) -> ()."""
        x = validate.points(x, self.shape, self)
        s = time_like(edm_levels(len(x)), x)
        error = self(x + s * noise_like(x), s.flatten()) - x
        return (edm_weight(s, self.sigma_data) * error.square()).mean()

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p(x) in nats by the ODE of x / sigma_data: (B, *D) -> (B,)."""
        x = validate.points(x, self.shape, self)
        unit = ScoreSDE(self.net, self.shape, **self.more)
        return unit.log_prob(x / self.sigma_data) - x[0].numel() * math.log(self.sigma_data)

    @torch.no_grad()
    def sample(self, n: int, steps: int = 18, low=0.002, high=80.0) -> Tensor:
        """Take so many steps of Heun from noise: (n, *D), 2 steps - 1 evaluations."""
        z = high * noise_for(self, n, self.shape)
        with evaluating(self):
            return heun(self, z, karras_sigmas(steps, low, high))


class ImageEDM(nn.Module):
    """EDM for pictures of codes, by a U-Net: Trainable, a Sampler, with a bound on log P.

    Codes become levels from -1 to 1. With noise u, uniform in a bin 2 / (K - 1) wide,
    log P(code) >= E[log p(level + u)] + D log(2 / (K - 1)).

    Args:
        shape: of a picture (C, H, W); K: number of values of a pixel.
        sigma_data: standard deviation of the levels.
        net: more about the network, see `UNet`: width, mult, dropout, ...
    """

    def __init__(self, shape: Sequence[int], K: int, *, sigma_data: float = 0.5, **net):
        super().__init__()
        ode = {"probes": rademacher, "solver": Fixed(rk4_step, 16)}
        unet = UNet(shape[0], **net)
        self.edm, self.levels = EDM(unet, shape, sigma_data=sigma_data, **ode), K
        self.decoder = LevelDecoder(K)

    def loss(self, x: Tensor) -> Tensor:
        """Return the loss of `EDM` on the levels of codes: (B, C, H, W) -> ()."""
        return self.edm.loss(self.decoder.embed(validate.shaped(x, self.edm.shape)))

    def elbo(self, x: Tensor) -> Tensor:
        """Return a draw's estimate of the bound, in nats, trace and u drawn: (B,)."""
        level = self.decoder.embed(validate.shaped(x, self.edm.shape))
        bin_ = 2 / (self.levels - 1)
        noisy = level + (torch.rand(x.shape).to(level) - 0.5) * bin_
        return self.edm.log_prob(noisy) + x[0].numel() * math.log(bin_)

    def sample(self, n: int, steps: int = 18) -> Tensor:
        """Draw codes (n, C, H, W), int64."""
        return self.decoder.show(self.edm.sample(n, steps))
