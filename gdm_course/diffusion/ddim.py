"""Fewer steps, and no noise on the way: DDIM.

References:
    Song, Meng, Ermon (2021). Denoising diffusion implicit models. arXiv:2010.02502.
"""

import torch
from torch import Tensor

from gdm_course import validate
from gdm_course.diffusion.ddpm import DenoisingSteps, start_noise
from gdm_course.diffusion.schedule import Schedule, noise_like, rowwise
from gdm_course.learning import evaluating


def ddim_step(
    x_t: Tensor,
    x0_hat: Tensor,
    s: int,
    t: int,
    schedule: Schedule,
    eta: float = 0.0,
    noise: Tensor | None = None,
) -> Tensor:
    """Go from step t to any earlier step s: mix the guess, its noise, and fresh noise, (7).

    x_s = alpha_s x0_hat + sqrt(sigma_s^2 - c^2) eps_hat + c noise,
    c^2 = eta^2 (1 - SNR_t / SNR_s) sigma_s^2, eps_hat = (x_t - alpha_t x0_hat) / sigma_t.

    Args:
        x_t, x0_hat: where the chain is, and the clean data it is guessed to be (B, *D).
        s, t: steps, s < t.
        schedule: says alpha and sigma.
        eta: 0 has no noise; 1 is a step of DDPM's own chain.
        noise: standard normal (B, *D); drawn if None and needed.
    """
    a_s, a_t, sd_s, sd_t = (
        rowwise(f(k), x_t) for f in (schedule.alpha, schedule.sigma) for k in (s, t)
    )
    eps_hat = (x_t - a_t * x0_hat) / sd_t
    r = rowwise(-torch.expm1(schedule.log_snr(t) - schedule.log_snr(s)), x_t)
    kept = sd_s * (1 - eta**2 * r).sqrt()
    x_s = a_s * x0_hat + kept * eps_hat
    if eta:
        noise = noise_like(x_t) if noise is None else noise
        x_s = x_s + eta * r.sqrt() * sd_s * noise
    return x_s


def strided(T: int, steps: int) -> list[int]:
    """Choose steps + 1 of the times T..0, as evenly as whole numbers can be."""
    if not 1 <= validate.count(steps, "steps", 1) <= T:
        raise ValueError(f"steps is {steps}: expected 1 to {T}, the schedule's own number")
    return [round(T * k / steps) for k in range(steps, -1, -1)]


@torch.no_grad()
def ddim(
    model: DenoisingSteps,
    n: int,
    steps: int = 50,
    eta: float = 0.0,
    *,
    y: Tensor | None = None,
    start: Tensor | None = None,
) -> Tensor:
    """Walk back from noise in fewer steps than the schedule has: (n, *shape).

    Args:
        model: a trained `DDPM`, or any with `predict_clean(x_t, t, y)`.
        n: how many.
        steps: evaluations of the network, at most the schedule's T.
        eta: as of `ddim_step`.
        y: labels (n,), for a network that takes them.
        start: noise to begin with (n, *shape); drawn if None.
    """
    x = start_noise(model, n) if start is None else start
    times = strided(model.schedule.T, steps)
    with evaluating(model):
        for t, s in zip(times, times[1:] if n else []):
            x = ddim_step(x, model.predict_clean(x, t, y), s, t, model.schedule, eta)
    return model.decoder.show(x)
