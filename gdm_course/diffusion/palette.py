"""Palette: a diffusion model that sees a damaged picture and draws what is missing.

References:
    Saharia, Chan, Chang, Lee, Ho, Salimans, Fleet, Norouzi (2022). Palette: image-to-image
        diffusion models. arXiv:2111.05826.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from gdm_course import validate
from gdm_course.diffusion.damage import Damaged, inpaint_box
from gdm_course.diffusion.ddim import ddim_step, strided
from gdm_course.diffusion.ddpm import DenoisingModel, spread_steps
from gdm_course.diffusion.denoiser import ToldLinear, Waves
from gdm_course.diffusion.schedule import (
    Schedule,
    cosine_schedule,
    noise_like,
    q_sample,
    rowwise,
)
from gdm_course.diffusion.targets import Clean, Target
from gdm_course.learning import evaluating
from gdm_course.nets import precise


def missing_error(answer: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Return the mean squared error over all missing numbers, equation (6): ().

    Args: answer and target (B, C, H, W); known (B, 1, H, W), 1 or 0. Nothing missing is 0.
    """
    missing = (known == 0).expand_as(target)
    error = (answer - target).square()
    return torch.where(missing, error, 0).sum() / missing.sum().clamp_min(1)


class Palette(DenoisingModel):
    """A denoiser that also sees the damaged picture; only what is missing gets noise.

    Args:
        net: (x_t, log_snr, condition=) -> like x_t; C + 1 channels of condition.
        shape: of a picture (C, H, W).
        degrade: damages pictures anew in every batch, such as `damage.inpaint_box`.
        schedule: `cosine_schedule(1000)` if None.
        target, decoder: as of `DDPM`, but that the clean picture is asked for if None.
    """

    def __init__(
        self,
        net: nn.Module,
        shape: Sequence[int],
        *,
        degrade: Callable[[Tensor], Damaged] = inpaint_box,
        schedule: Schedule | None = None,
        target: Target | None = None,
        decoder: nn.Module | None = None,
    ):
        super().__init__(net, shape, target or Clean(), decoder)
        self.degrade, self.schedule = degrade, schedule or cosine_schedule(1000)

    def answer(self, x_t: Tensor, t: Tensor, seen: Tensor, known: Tensor) -> Tensor:
        """Return what the network says of the noisy picture beside the damaged one."""
        log_snr, condition = self.schedule.log_snr(t).to(x_t), torch.cat([seen, known], 1)
        return precise(self.net(x_t, log_snr.expand(len(x_t)), condition=condition))

    def loss(self, x: Tensor) -> Tensor:
        """Return the mean squared error over the missing numbers, equation (6): ()."""
        x0, S = self.embed(x), self.schedule
        (seen, known), eps = self.degrade(x0), noise_like(x0)
        t = spread_steps(len(x0), 1, S.T, x0.device)
        x_t = torch.where(known > 0, x0, q_sample(x0, t, eps, S))
        alpha, sigma = rowwise(S.alpha(t), x0), rowwise(S.sigma(t), x0)
        target = self.target.target(x0, eps, alpha, sigma)
        return missing_error(self.answer(x_t, t, seen, known), target, known)


@torch.no_grad()
def restore(
    model: Palette,
    seen: Tensor,
    known: Tensor,
    steps: int = 25,
    start: Tensor | None = None,
) -> Tensor:
    """Draw what is missing by DDIM; known pixels stay as they are, to the bit.

    Args:
        model: trained on such damage.
        seen, known: damaged pictures (B, C, H, W), (B, 1, H, W).
        steps: evaluations of the network; 1 asks it about noise alone.
        start: noise to begin with (B, C, H, W), the only chance in it; drawn if None.
    """
    C, *size = model.shape
    seen = validate.points(seen, (C, *size), model, name="seen")
    known = validate.points(known, (1, *size), model, name="known")
    x, S = noise_like(seen) if start is None else start, model.schedule
    with evaluating(model):
        for t, s in pairwise(strided(S.T, steps)):
            x_t = torch.where(known > 0, seen, x)
            out = model.answer(x_t, t, seen, known)
            alpha, sigma = rowwise(S.alpha(t), x), rowwise(S.sigma(t), x)
            x = ddim_step(x, model.target.clean(out, x_t, alpha, sigma), s, t, S)
    return torch.where(known > 0, seen, x)


class PixelNet(nn.Module):
    """A perceptron for small pictures that sees a damaged one beside them, for `Palette`.

    Args:
        shape: of a picture (C, H, W).
        hidden, depth: units, and residual layers, each of which is told the noise.
    """

    def __init__(self, shape: Sequence[int], *, hidden: int = 320, depth: int = 4):
        super().__init__()
        validate.at_least(1, shape=shape, hidden=hidden)
        validate.at_least(0, depth=depth)
        (C, H, W), self.waves = shape, Waves(16)
        self.given = (C + 1, H, W)
        self.first = ToldLinear((2 * C + 1) * H * W, hidden, 32)
        self.layers = nn.ModuleList(ToldLinear(hidden, hidden, 32) for _ in range(depth))
        self.last = nn.Linear(hidden, C * H * W)

    def forward(self, x: Tensor, log_snr: Tensor, y=None, condition=None) -> Tensor:
        """Return (B, C, H, W) of x (B, C, H, W), log_snr (B,) and the condition."""
        x = validate.points(x, (self.given[0] - 1, *self.given[1:]), self)
        condition = validate.points(condition, self.given, self, name="condition")
        e = self.waves(log_snr.to(x))
        h = self.first(torch.cat([x, condition], 1).flatten(1), e)
        for layer in self.layers:
            h = h + layer(h, e)
        return self.last(h).view_as(x)
