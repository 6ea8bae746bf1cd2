"""Predictor and corrector: after each step back, one along the score at that noise.

References:
    Song, Sohl-Dickstein, Kingma, Kumar, Ermon, Poole (2021). Score-based generative
        modeling through stochastic differential equations. arXiv:2011.13456.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Generator, Tensor

from gdm_course.diffusion.sde import SDE, Score, euler_maruyama, time_like


def langevin_step(
    sde: SDE,
    score: Score,
    x: Tensor,
    t: float,
    snr: float = 0.16,
    generator: Generator | None = None,
) -> Tensor:
    """Follow the score a little and be kicked: x + h score + sqrt(2 h) xi.

    For small h it keeps p_t as it is, and brings points that are off nearer to it. Here
    h = 2 (snr sigma)^2, for noise of length sqrt(D) and a score of sqrt(D) / sigma. The
    paper measures both lengths in the batch, which makes its rows depend on one another.

    Args: a stream, its score, points (B, *D), their time, step per noise, source of xi.
    """
    xi = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
    h = 2 * (snr * sde.sigma(time_like(t, x))) ** 2
    return x + h * score(x, t) + (2 * h).sqrt() * xi


def predictor_corrector(
    sde: SDE,
    score: Score,
    x: Tensor,
    times: Sequence[float],
    snr: float = 0.16,
    generator: Generator | None = None,
) -> Tensor:
    """Run a stream backwards, a `langevin_step` after every step of `euler_maruyama`.

    Two evaluations of the score a step. Arguments as of both.
    """
    for t, s in pairwise(times):
        x = euler_maruyama(sde, score, x, (t, s), generator=generator)
        x = langevin_step(sde, score, x, s, snr, generator)
    return x
