"""Predictor and corrector on a Gaussian: every sampler is a recursion in numbers."""

from itertools import pairwise

import pytest
import torch

from gdm_course.diffusion import sde as streams
from gdm_course.diffusion.corrector import langevin_step, predictor_corrector
from gdm_course.diffusion.mixture import MixtureDenoiser
from gdm_course.training import generator

SDES = {"VP": streams.VP(), "SubVP": streams.SubVP(), "VE": streams.VE()}
every = pytest.mark.parametrize("sde", SDES.values(), ids=SDES)
S, SNR = 0.6, 0.16


def number(value):
    return torch.tensor(value, dtype=torch.float64)


def points(n, seed=1):
    return torch.randn(n, 1, generator=generator(seed), dtype=torch.float64)


def score_of(sde):
    denoise = MixtureDenoiser(torch.zeros(1, 1, dtype=torch.float64), number(S))
    return streams.score_of(denoise, sde)


def marginal(sde, t):
    """Variance at the time t, and that of its noise alone."""
    noise = sde.sigma(number(t)) ** 2
    return sde.alpha(number(t)) ** 2 * S**2 + noise, noise


@every
def test_a_step_of_langevin_is_linear_on_a_gaussian(sde):
    """x' = (1 - h / v) x + sqrt(2 h) xi with h = 2 snr^2 sigma^2."""
    for t in (0.9, 0.3, 0.02):
        v, noise = marginal(sde, t)
        h, x = 2 * SNR**2 * noise, points(7)
        xi = torch.randn(x.shape, generator=generator(5), dtype=x.dtype)
        found = langevin_step(sde, score_of(sde), x, t, SNR, generator(5))
        torch.testing.assert_close(found, (1 - h / v) * x + (2 * h).sqrt() * xi)


@every
def test_predictor_and_corrector_are_a_recursion_in_numbers(sde):
    """From a first point to the last: the same factors, and a kick for every evaluation."""
    x = here = points(5)
    times, g = torch.linspace(1, 0.05, 12).tolist(), generator(5)
    kick = lambda: torch.randn(x.shape, generator=g, dtype=x.dtype)  # noqa: E731
    for t, s in pairwise(times):
        f, g2 = sde.drift(number(1.0), number(t)), sde.diffusion(number(t)) ** 2
        factor = 1 - (t - s) * (f + g2 / marginal(sde, t)[0])
        here = factor * here + (g2 * (t - s)).sqrt() * kick()
        v, noise = marginal(sde, s)
        h = 2 * SNR**2 * noise
        here = (1 - h / v) * here + (2 * h).sqrt() * kick()
    end = predictor_corrector(sde, score_of(sde), x, times, SNR, generator(5))
    torch.testing.assert_close(end, here)


def test_corrections_bring_a_wrong_spread_home():
    """Points of twice the width, corrected many times: v / (1 - h / 2v), Langevin's own."""
    sde, t = streams.VP(), 0.2
    v, noise = marginal(sde, t)
    x, g = 2 * v.sqrt() * points(4000), generator(2)
    for _ in range(150):
        x = langevin_step(sde, score_of(sde), x, t, SNR, g)
    right = v / (1 - SNR**2 * noise / v)
    assert abs(x.var() / right - 1) < 6 * (2 / len(x)) ** 0.5


def test_a_row_does_not_know_the_others():
    """The paper's step length is measured in the batch; ours is not."""
    sde, x = streams.VP(), points(4)
    one = langevin_step(sde, score_of(sde), x, 0.4, SNR, generator(3))
    far = torch.cat([x[:1], 100 * x[1:]])
    other = langevin_step(sde, score_of(sde), far, 0.4, SNR, generator(3))
    torch.testing.assert_close(one[0], other[0])
