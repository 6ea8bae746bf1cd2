"""What a sampler of eight Gaussians finds of them, for recipes."""

import math

from torch import nn

from gdm_course.chance import own_chance
from gdm_course.evaluation.likelihood import Estimate
from gdm_course.gan.modes import Census, census

N = 20_000  # samples


def _counted(model: nn.Module) -> Census:
    """Count samples of a model, always the same ones."""
    from gdm_course.data import toy

    law = toy.get("eight_gaussians").law
    with own_chance(0):
        return census(model.sample(N).cpu(), law.means, law.sigma[0].item())


def good_share(model: nn.Module, split: object) -> Estimate:
    """Return the share of samples within three standard deviations of a mode."""
    share = _counted(model).quality
    return Estimate(share, math.sqrt(share * (1 - share) / N))


def found_modes(model: nn.Module, split: object) -> Estimate:
    """Return how many of the eight modes have a tenth of their share of good samples."""
    return Estimate(float(_counted(model).modes), 0.0)
