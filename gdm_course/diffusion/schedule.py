"""How much signal is left after t steps of noise, and what one step back looks like.

Data are at t = 0, noise at t = T; t counts the steps of noise that were taken, so that no
formula has a t - 1. With alpha^2 = alpha_bar and sigma^2 = 1 - alpha_bar,
    x_t = alpha_t x_0 + sigma_t eps,  log_snr = log(alpha^2 / sigma^2).
Numbered equations are those of the lecture diffusion/ddpm.

References:
    Ho, Jain, Abbeel (2020). Denoising diffusion probabilistic models. arXiv:2006.11239.
    Nichol, Dhariwal (2021). Improved denoising diffusion probabilistic models.
        arXiv:2102.09672.
    Kingma, Salimans, Poole, Ho (2021). Variational diffusion models. arXiv:2107.00630.
    Karras, Aittala, Aila, Laine (2022). Elucidating the design space of diffusion-based
        generative models. arXiv:2206.00364.
"""

import math

import torch
from torch import Tensor, nn

from gdm_course import validate

EXACT = {"dtype": torch.float64, "device": "cpu"}  # whatever the default device


class Schedule(nn.Module):
    """The share of signal alpha_bar_t of every step; kept as log_snr, to lose no digits.

    Args:
        alpha_bar: (T + 1,), from alpha_bar[0] = 1 (clean) falling to almost 0, T >= 2.

    Raises:
        ValueError: it has another shape, does not start at 1 or does not fall.
    """

    def __init__(self, alpha_bar: Tensor):
        super().__init__()
        falling = falls(validate.shaped(alpha_bar, None, "alpha_bar").double())
        log_snr = torch.logit(falling).to(torch.get_default_dtype())
        self.register_buffer("log_snrs", log_snr, persistent=False)  # weights serve any

    @property
    def T(self) -> int:
        """The number of steps from data to noise."""
        return len(self.log_snrs) - 1

    def log_snr(self, t: Tensor | int) -> Tensor:
        """Return log(alpha^2 / sigma^2) after t steps, inf at t = 0: the shape of t."""
        return self.log_snrs[t]

    def alpha(self, t: Tensor | int) -> Tensor:
        """Return the factor of the signal after t steps: the shape of t."""
        return self.log_snr(t).sigmoid().sqrt()

    def sigma(self, t: Tensor | int) -> Tensor:
        """Return the standard deviation of the noise after t steps: the shape of t."""
        return (-self.log_snr(t)).sigmoid().sqrt()


def falls(alpha_bar: Tensor) -> Tensor:
    """Return alpha_bar if it is (T + 1,), starts at 1 and falls, but not below 0."""
    fine = alpha_bar.ndim == 1 and len(alpha_bar) >= 3 and alpha_bar[0] == 1
    if not (fine and alpha_bar[-1] >= 0 and (alpha_bar.diff() < 0).all()):
        raise ValueError(
            f"alpha_bar of shape {tuple(alpha_bar.shape)} does not fall from 1 towards 0: "
            "expected (T + 1,), T >= 2, with alpha_bar[0] = 1, each smaller than the last"
        )
    return alpha_bar


def linear_schedule(T: int, *, rescale: bool = True) -> Schedule:
    """Noise variances beta that grow in equal steps, as DDPM has them for T = 1000.

    beta from 0.0001 to 0.02, alpha_bar_t = product of (1 - beta_1) ... (1 - beta_t).

    Args:
        T: number of steps, above 20 if rescaled: no beta may reach 1.
        rescale: times 1000 / T, so that x_T is noise for any T; False forgets it.
    """
    T = validate.count(T, "T", 21 if rescale else 2)
    beta = torch.linspace(1e-4, 0.02, T, **EXACT)
    beta = beta * (1000 / T if rescale else 1)
    return Schedule(torch.cat([beta.new_ones(1), (1 - beta).cumprod(0)]))


def cosine_schedule(T: int) -> Schedule:
    """Signal and noise as cosine and sine of an angle that grows in equal steps.

    alpha_bar_t = cos^2(phi_t) / cos^2(phi_0), phi_t = (t / T + 0.008) / 1.008 * pi / 2;
    the last step keeps one part in 1000 of alpha_bar, so that none is exactly 0.
    """
    t = torch.arange(validate.count(T, "T", 2) + 1, **EXACT)
    f = ((t / T + 0.008) / 1.008 * math.pi / 2).cos().square()
    f[-1] = f[-2] / 1000
    return Schedule(f / f[0])


def log_snr_schedule(T: int, high: float = 13.3, low: float = -5) -> Schedule:
    """log_snr that falls in equal steps, from `high` at t = 1 to `low` at t = T."""
    T = validate.count(T, "T", 2)
    log_snr = torch.linspace(high, low, T, **EXACT)
    return Schedule(torch.cat([log_snr.new_ones(1), log_snr.sigmoid()]))


def rowwise(values: Tensor, x: Tensor) -> Tensor:
    """Shape one number for all rows, or one each (B,), so that it multiplies x (B, *D)."""
    return values.to(x).reshape(-1, *[1] * (x.ndim - 1))


def normal_schedule(T: int, mean: float = 2.4, std: float = 2.4) -> Schedule:
    """log_snr that spends most steps around `mean`: the T middle quantiles of a normal law.

    Its mean and width here are those of Karras et al. (2022), whose log sigma is drawn from
    N(-1.2, 1.2^2), there for data of standard deviation 0.5.
    """
    share = (torch.arange(validate.count(T, "T", 2), **EXACT) + 0.5) / T
    log_snr = mean - std * torch.special.ndtri(share)
    return Schedule(torch.cat([share.new_ones(1), log_snr.sigmoid()]))


def noise_like(x: Tensor) -> Tensor:
    """Draw standard normal numbers of the shape, dtype and device of x."""
    return torch.randn(x.shape, dtype=x.dtype, device=x.device)


def q_sample(x0: Tensor, t: Tensor | int, eps: Tensor, schedule: Schedule) -> Tensor:
    """Take t steps of noise at once: alpha_t x0 + sigma_t eps, equation (1).

    Args:
        x0: data (B, *D).
        t: steps, one number or (B,).
        eps: standard normal noise (B, *D).
        schedule: says alpha and sigma.
    """
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    return rowwise(alpha, x0) * x0 + rowwise(sigma, x0) * eps


def posterior(
    x0: Tensor, x_t: Tensor, s: Tensor | int, t: Tensor | int, schedule: Schedule
) -> tuple[Tensor, Tensor]:
    """Return mean and variance of q(x_s | x_t, x0) for any s < t, equation (2).

    With r = 1 - SNR_t / SNR_s, what the steps from s to t took of the ratio:
        mean = (alpha_t / alpha_s) (sigma_s^2 / sigma_t^2) x_t + r alpha_s x0,
        variance = r sigma_s^2.

    Args:
        x0, x_t: clean and noisy (B, *D).
        s, t: steps, one number or (B,); s = 0 returns x0 and 0.
        schedule: says alpha and sigma.

    Returns:
        The mean (B, *D), and the variance of every coordinate, (B, 1, ...) or (1, 1, ...).
    """
    r = -torch.expm1(schedule.log_snr(t) - schedule.log_snr(s))
    shrink = schedule.alpha(t) / schedule.alpha(s)
    keep = shrink * (schedule.sigma(s) / schedule.sigma(t)).square()
    mean = rowwise(keep, x_t) * x_t + rowwise(r * schedule.alpha(s), x0) * x0
    return mean, rowwise(r * schedule.sigma(s).square(), x0)


def step_kl(
    x0: Tensor, x0_hat: Tensor, s: Tensor | int, t: Tensor | int, schedule: Schedule
) -> Tensor:
    """Return KL(q(x_s | x_t, x0) || q(x_s | x_t, x0_hat)) in nats, equation (4): (B,).

    (SNR_s - SNR_t) |x0 - x0_hat|^2 / 2: both have the same variance.

    Args: clean (B, *D) and guessed (B, *D); steps 0 < s < t, one number or (B,).
    """
    snr_s, snr_t = schedule.log_snr(s).exp(), schedule.log_snr(t).exp()
    return (snr_s - snr_t).to(x0) / 2 * (x0 - x0_hat).flatten(1).square().sum(1)
