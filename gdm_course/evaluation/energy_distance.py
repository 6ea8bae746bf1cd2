"""The energy distance of a model's samples from the truth, as a figure of a recipe."""

import torch
from torch import nn

from gdm_course.batching import Batch, columns
from gdm_course.divergences.samples import energy_distance
from gdm_course.evaluation.likelihood import Estimate
from gdm_course.learning import evaluating


def energy_estimate(model: nn.Module, x: Batch, n: int = 4000) -> Estimate:
    """Return the energy distance of samples to points, times 1000, and its error.

    Args:
        model: anything with `sample`.
        x: points (N, D), or a tuple that begins with them. Parts of n are compared with as
            many samples each, ten at most, and their figures averaged.
        n: points of a part.
    """
    parts = [p for p in columns(x)[0].split(n) if len(p) >= 2][:10]
    with evaluating(model), torch.no_grad():
        found = torch.stack([energy_distance(model.sample(len(p)), p) for p in parts])
    error = found.std().item() / len(found) ** 0.5 if len(found) > 1 else float("nan")
    return Estimate(1000 * found.mean().item(), 1000 * error)
