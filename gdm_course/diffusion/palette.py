"""Pictures from damaged pictures: Palette is trained for it, RePaint needs no training.

A damaged picture is a pair: `seen` (B, C, H, W), what is left to see, and `known`
(B, 1, H, W), 1 where a pixel of it is that of the clean picture itself, 0 where it is
missing. Grey pictures show something of every pixel, and know none.

References:
    Saharia, Chan, Chang, Lee, Ho, Salimans, Fleet, Norouzi (2022). Palette: image-to-image
        diffusion models. arXiv:2111.05826.
    Lugmayr, Danelljan, Romero, Yu, Timofte, Van Gool (2022). RePaint: inpainting using
        denoising diffusion probabilistic models. arXiv:2201.09865.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from gdm_course import validate
from gdm_course.diffusion.ddim import ddim_step, strided
from gdm_course.diffusion.ddpm import DenoisingSteps, spread_steps
from gdm_course.diffusion.schedule import (
    Schedule,
    cosine_schedule,
    posterior,
    q_sample,
    rowwise,
)
from gdm_course.diffusion.targets import Target, Velocity
from gdm_course.learning import evaluating
from gdm_course.nets import Waves, mlp, precise

Damaged = tuple[Tensor, Tensor]


# Ways to damage a picture -----------------------------------------------------------------


def hide(x: Tensor, missing: Tensor) -> Damaged:
    """Return what is left of x (B, C, H, W) where pixels are missing (B, 1, H, W) bool."""
    known = (~missing).to(x)
    return x * known, known


def inpaint_box(x: Tensor) -> Damaged:
    """Hide a box: half of the rows or half of the columns, at a random place."""
    B, _, H, W = x.shape
    rows = torch.rand(B, 1, 1, 1, device=x.device) < 0.5
    place = torch.rand(B, 1, 1, 1, device=x.device)

    def band(n: int, view: tuple) -> Tensor:
        at, half = torch.arange(n, device=x.device).view(view), (n + 1) // 2
        first = (place * (n - half + 1)).floor()
        return (at >= first) & (at < first + half)

    return hide(x, torch.where(rows, band(H, (1, 1, H, 1)), band(W, (1, 1, 1, W))))


def uncrop_frame(x: Tensor) -> Damaged:
    """Leave the middle, half as high and half as wide: the frame around it is missing."""
    _, _, H, W = x.shape
    missing = torch.ones(len(x), 1, H, W, dtype=torch.bool, device=x.device)
    missing[:, :, H // 4 : H - H // 4, W // 4 : W - W // 4] = False
    return hide(x, missing)


def to_grey(x: Tensor) -> Damaged:
    """Show the mean of the channels in every channel, and know no pixel."""
    return x.mean(1, keepdim=True).expand_as(x), torch.zeros_like(x[:, :1])


def any_of(*ways: Callable[[Tensor], Damaged]) -> Callable[[Tensor], Damaged]:
    """Damage every picture in one of several ways, at random: one network for all."""

    def damage(x: Tensor) -> Damaged:
        which = torch.randint(len(ways), (len(x), 1, 1, 1), device=x.device)
        seen, known = zip(*(way(x) for way in ways))
        chosen = [which == k for k in range(len(ways))]
        return sum(c * s for c, s in zip(chosen, seen)), sum(
            c * k for c, k in zip(chosen, known)
        )

    return damage


# Palette ----------------------------------------------------------------------------------


class Palette(nn.Module):
    """A denoiser that also sees the damaged picture; only what is missing gets noise.

    Args:
        net: (x_t, log_snr, condition=) -> like x_t, with C + 1 channels of condition: what
            is seen, and which pixels are known.
        shape: of a picture (C, H, W).
        degrade: damages pictures (B, C, H, W) anew in every batch, see above.
        schedule: `cosine_schedule(1000)` if None.
        target: what the network is asked for; `Velocity()` if None.
    """

    def __init__(
        self,
        net: nn.Module,
        shape: Sequence[int],
        *,
        degrade: Callable[[Tensor], Damaged] = inpaint_box,
        schedule: Schedule | None = None,
        target: Target | None = None,
    ):
        super().__init__()
        self.net, self.shape, self.degrade = net, tuple(shape), degrade
        self.schedule, self.target = schedule or cosine_schedule(1000), target or Velocity()

    def answer(self, x_t: Tensor, log_snr: Tensor, seen: Tensor, known: Tensor) -> Tensor:
        """Return what the network says of the noisy picture beside the damaged one."""
        condition = torch.cat([seen, known], 1)
        return precise(self.net(x_t, log_snr.to(x_t), condition=condition))

    def loss(self, x: Tensor) -> Tensor:
        """Return the mean squared error over the missing numbers, equation (6): ()."""
        x0 = validate.points(x, self.shape, self)
        (seen, known), eps = self.degrade(x0), torch.randn_like(x0)
        t = spread_steps(len(x0), 1, self.schedule.T, x0.device)
        x_t = torch.lerp(q_sample(x0, t, eps, self.schedule), x0, known)
        out = self.answer(x_t, self.schedule.log_snr(t), seen, known)
        alpha, sigma = (rowwise(f(t), x0) for f in (self.schedule.alpha, self.schedule.sigma))
        error = (out - self.target.target(x0, eps, alpha, sigma)).square()
        missing = (1 - known).expand_as(x0)
        return (missing * error).sum() / missing.sum().clamp_min(1)

    @torch.no_grad()
    def restore(
        self, seen: Tensor, known: Tensor, steps: int = 25, start: Tensor | None = None
    ) -> Tensor:
        """Draw what is missing by DDIM; known pixels stay as they are, to the bit.

        Args:
            seen, known: damaged pictures (B, C, H, W), (B, 1, H, W).
            steps: evaluations of the network; 1 answers from noise alone, which is the mean.
            start: noise to begin with (B, C, H, W), the only chance in it; drawn if None.
        """
        seen = validate.points(seen, self.shape, self, name="seen")
        known = validate.points(known, (1, *self.shape[1:]), self, name="known")
        x, S = torch.randn_like(seen) if start is None else start, self.schedule
        with evaluating(self):
            for t, s in pairwise(strided(S.T, steps)):
                x_t = torch.where(known > 0, seen, x)
                log_snr = S.log_snr(t).expand(len(x))
                out = self.answer(x_t, log_snr, seen, known)
                x0_hat = self.target.clean(
                    out, x_t, rowwise(S.alpha(t), x), rowwise(S.sigma(t), x)
                )
                x = ddim_step(x, x0_hat, s, t, S)
        return torch.where(known > 0, seen, x)


class PixelNet(nn.Module):
    """A perceptron of small pictures that sees a condition: residual, for any `Palette`.

    Args:
        shape: of a picture (C, H, W).
        C_condition: channels of the condition, (C + 1) for `Palette`.
        hidden, depth: units, and residual layers.
    """

    def __init__(
        self, shape: Sequence[int], C_condition: int, *, hidden: int = 320, depth: int = 3
    ):
        super().__init__()
        validate.at_least(1, shape=shape, hidden=hidden)
        validate.at_least(0, C_condition=C_condition, depth=depth)
        (C, H, W), self.waves = shape, Waves(16)
        self.given = (C_condition, H, W)
        self.first = nn.Linear((C + C_condition) * H * W + 32, hidden)
        self.layers = nn.ModuleList(mlp((hidden, hidden, hidden)) for _ in range(depth))
        self.last = nn.Linear(hidden, C * H * W)

    def forward(self, x: Tensor, log_snr: Tensor, y=None, condition=None) -> Tensor:
        """Return (B, C, H, W) of x (B, C, H, W), log_snr (B,) and the condition."""
        validate.points(condition, self.given, self, name="condition")
        h = self.first(
            torch.cat([x.flatten(1), condition.flatten(1), self.waves(log_snr)], 1)
        )
        for layer in self.layers:
            h = h + layer(h)
        return self.last(nn.functional.silu(h)).view_as(x)


# RePaint ----------------------------------------------------------------------------------


def repaint_step(
    x0_hat: Tensor, x_t: Tensor, seen: Tensor, known: Tensor, s: int, t: int, schedule
) -> Tensor:
    """Go from step t to s: draw what is missing, and paste what is known, equation (7).

    Both parts are at the level s then: the known one is clean data with the noise of s.

    Args: clean guess and noisy data (B, *D); damaged data, and 1 where known, as in x_t.
    """
    mean, var = posterior(x0_hat, x_t, s, t, schedule)
    drawn = mean + var.sqrt() * torch.randn_like(x_t)
    noisy = q_sample(seen, s, torch.randn_like(x_t), schedule)
    return torch.where(known > 0, noisy, drawn)


def forward_again(x_s: Tensor, s: int, t: int, schedule: Schedule) -> Tensor:
    """Take the steps of noise from s to t once more: x_t = r x_s + sqrt(1 - r^2) eps.

    r = alpha_t / alpha_s, of the pair: alpha_t alone would be noise from clean data.
    """
    r = rowwise(schedule.alpha(t) / schedule.alpha(s), x_s)
    return r * x_s + (1 - r.square()).sqrt() * torch.randn_like(x_s)


@torch.no_grad()
def repaint(
    model: DenoisingSteps, seen: Tensor, known: Tensor, *, steps: int = 50, resample: int = 5
) -> Tensor:
    """Fill in what is missing with a model that never saw a hole: (B, *D).

    Args:
        model: with `predict_clean(x_t, t)`, trained on whole data.
        seen, known: damaged data, and 1 where they are known (B, *D).
        steps: of the way back from noise.
        resample: how often each of them is taken, with noise in between; 1 is only once.
    """
    validate.at_least(1, resample=resample)
    x, S = torch.randn_like(validate.points(seen, model.shape, name="seen")), model.schedule
    for t, s in pairwise(strided(S.T, steps)):
        for left in range(resample - 1, -1, -1):
            x = repaint_step(model.predict_clean(x, t), x, seen, known, s, t, S)
            x = forward_again(x, s, t, S) if left else x
    return x
