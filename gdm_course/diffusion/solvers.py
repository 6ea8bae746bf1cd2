"""Solvers of the probability-flow ODE, in the clock where a step is short to write.

Let s = sigma / alpha be the noise per signal and z = x / alpha = x0 + s eps. Then
    dz/ds = (z - E[x0 | z]) / s,                                                     (A)
whatever the stream was. A solver is called as `solver(denoise, z, sigmas)` with
`denoise(z, s)` and falling levels s, the last of which may be 0.

References:
    Song, Meng, Ermon (2021). Denoising diffusion implicit models. arXiv:2010.02502.
    Karras, Aittala, Aila, Laine (2022). Elucidating the design space of diffusion-based
        generative models. arXiv:2206.00364.
    Lu, Zhou, Bao, Chen, Li, Zhu (2022). DPM-Solver++: fast solver for guided sampling of
        diffusion probabilistic models. arXiv:2211.01095.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from gdm_course import validate
from gdm_course.diffusion.sde import Denoise

Denoiser = Callable[[Tensor, float], Tensor]


def per_noise(denoise: Denoise) -> Denoiser:
    """Make a denoiser of z = x / alpha at noise s out of one of x at a log_snr."""

    def denoiser(z: Tensor, s: float) -> Tensor:
        log_snr = z.new_full((len(z),), -2 * math.log(s))
        return denoise(z / math.sqrt(1 + s * s), log_snr)

    return denoiser


def euler(denoise: Denoiser, z: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Go along the slope (z - x0) / s: this is DDIM without noise. Order 1.

    z' = x0 + (s' / s) (z - x0).
    """
    for s, s_next in pairwise(sigmas):
        x0 = denoise(z, s)
        z = x0 + s_next / s * (z - x0)
    return z


def heun(denoise: Denoiser, z: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Average the slopes at both ends of a step, two evaluations each. Order 2.

    At the level 0 the slope is 0/0: the last step is Euler's.
    """
    for s, s_next in pairwise(sigmas):
        slope = (z - denoise(z, s)) / s
        there = z + (s_next - s) * slope
        if s_next > 0:
            slope = (slope + (there - denoise(there, s_next)) / s_next) / 2
        z = z + (s_next - s) * slope
    return z


def dpm_solver_2m(denoise: Denoiser, z: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Draw a line through the last two denoised points: order 2 for one evaluation a step.

    In the clock l = -log s, whose step is h, the ODE is linear but for x0, and that part is
    solved exactly:  z' = e^-h z + (1 - e^-h) (x0 + (x0 - x0_before) h / (2 h_before)).

    The first step has no point before it, and a step to s = 0 has h infinite: both are
    Euler's.
    """
    before = h_before = None
    for s, s_next in pairwise(sigmas):
        x0 = denoise(z, s)
        h = math.log(s / s_next) if s_next > 0 else math.inf
        ahead = x0
        if before is not None and h < math.inf:
            ahead = x0 + (x0 - before) * (h / (2 * h_before))
        z = s_next / s * z - math.expm1(-h) * ahead
        before, h_before = x0, h
    return z


def karras_sigmas(n: int, low: float, high: float, rho: float = 7.0) -> list[float]:
    """Return n falling levels, equally spaced in s^(1/rho), and 0 behind them.

    rho = 1 is uniform in s, a large rho nearly uniform in log s; math.inf is exactly that.
    """
    u = torch.linspace(0, 1, validate.count(n, "n", 2), dtype=torch.float64)
    if rho == math.inf:
        levels = torch.exp(math.log(high) + u * math.log(low / high))
    else:
        ends = (high ** (1 / rho), low ** (1 / rho))
        levels = (ends[0] + u * (ends[1] - ends[0])) ** rho
    return [*levels.tolist(), 0.0]


def angle_sigmas(n: int, low: float, high: float) -> list[float]:
    """Return n falling levels, equally spaced in the angle arctan s, and 0 behind them."""
    u = torch.linspace(0, 1, validate.count(n, "n", 2), dtype=torch.float64)
    ends = math.atan(high), math.atan(low)
    return [*(ends[0] + u * (ends[1] - ends[0])).tan().tolist(), 0.0]
