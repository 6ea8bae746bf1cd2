"""RePaint: fill holes with a model that never saw one.

References:
    Lugmayr, Danelljan, Romero, Yu, Timofte, Van Gool (2022). RePaint: inpainting using
        denoising diffusion probabilistic models. arXiv:2201.09865.
"""

from itertools import pairwise

import torch
from torch import Tensor

from gdm_course import validate
from gdm_course.diffusion.ddim import strided
from gdm_course.diffusion.ddpm import DenoisingSteps
from gdm_course.diffusion.schedule import (
    Schedule,
    noise_like,
    posterior,
    q_sample,
    rowwise,
)
from gdm_course.learning import evaluating


def repaint_step(
    x0_hat: Tensor, x_t: Tensor, seen: Tensor, known: Tensor, s: int, t: int, schedule
) -> Tensor:
    """Go from step t to s: draw what is missing, and paste what is known, equation (7).

    Both parts are at the level s then: the known one is clean data with the noise of s.

    Args: clean guess and noisy data (B, *D); damaged data, and 1 where known, as in x_t.
    """
    mean, var = posterior(x0_hat, x_t, s, t, schedule)
    drawn = mean + var.sqrt() * noise_like(x_t)
    noisy = q_sample(seen, s, noise_like(x_t), schedule)
    return torch.where(known > 0, noisy, drawn)


def forward_again(x_s: Tensor, s: int, t: int, schedule: Schedule) -> Tensor:
    """Take the steps of noise from s to t once more: x_t = r x_s + sqrt(1 - r^2) eps.

    r = alpha_t / alpha_s, of the pair: alpha_t alone would be noise from clean data.
    """
    r = rowwise(schedule.alpha(t) / schedule.alpha(s), x_s)
    return r * x_s + (1 - r.square()).sqrt() * noise_like(x_s)


@torch.no_grad()
def repaint(
    model: DenoisingSteps,
    seen: Tensor,
    known: Tensor,
    *,
    steps: int = 50,
    resample: int = 5,
) -> Tensor:
    """Fill in what is missing with a model that never saw a hole: (B, *D).

    Args:
        model: with `predict_clean(x_t, t)`, trained on whole data.
        seen, known: damaged data, and 1 where they are known (B, *D).
        steps: of the way back from noise.
        resample: how often each of them is taken, with noise in between; 1 is only once.
    """
    validate.at_least(1, resample=resample)
    x, S = noise_like(validate.points(seen, model.shape, name="seen")), model.schedule
    with evaluating(model):
        for t, s in pairwise(strided(S.T, steps)):
            for left in range(resample - 1, -1, -1):
                x = repaint_step(model.predict_clean(x, t), x, seen, known, s, t, S)
                x = forward_again(x, s, t, S) if left else x
    return x
