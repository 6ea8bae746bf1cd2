"""How good the pictures of a diffusion are, by how often its network was asked."""

import torch
from torch import Tensor

from gdm_course.diffusion.ddim import ddim
from gdm_course.diffusion.ddpm import DenoisingSteps
from gdm_course.evaluation.features import opinions
from gdm_course.evaluation.likelihood import Estimate
from gdm_course.evaluation.samples import frechet_with_error

DRAWN = 500


def frechet_of_jumps(model: DenoisingSteps, x: Tensor, steps: int) -> Estimate:
    """Return the Frechet distance of 500 pictures by so many jumps of DDIM from data x.

    In features of our own classifier. It is above 0 for true pictures, too: hold it beside
    that of as many of them.
    """
    parts = [ddim(model, DRAWN // 4, steps) for _ in range(4)]
    return frechet_with_error(opinions(torch.cat(parts).cpu()), opinions(x.cpu()))


def jumps_5(model: DenoisingSteps, x: Tensor) -> Estimate:
    """Return `frechet_of_jumps` of 5 jumps."""
    return frechet_of_jumps(model, x, 5)


def jumps_10(model: DenoisingSteps, x: Tensor) -> Estimate:
    """Return `frechet_of_jumps` of 10 jumps."""
    return frechet_of_jumps(model, x, 10)


def jumps_20(model: DenoisingSteps, x: Tensor) -> Estimate:
    """Return `frechet_of_jumps` of 20 jumps."""
    return frechet_of_jumps(model, x, 20)


def jumps_50(model: DenoisingSteps, x: Tensor) -> Estimate:
    """Return `frechet_of_jumps` of 50 jumps."""
    return frechet_of_jumps(model, x, 50)
