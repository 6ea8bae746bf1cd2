"""The energy distance of two clouds of points: a distance of laws from distances of points.

References:
    Szekely, Rizzo (2013). Energy statistics: a class of statistics based on distances.
        Journal of Statistical Planning and Inference 143.
"""

import torch
from torch import Tensor, nn

from gdm_course import validate
from gdm_course.batching import Batch, columns
from gdm_course.evaluation.likelihood import Estimate
from gdm_course.learning import evaluating


def energy_distance(x: Tensor, y: Tensor) -> Tensor:
    """Return 2 E|x - y| - E|x - x'| - E|y - y'|, without bias, in the unit of the data: ().

    It is 0 if both clouds have one law, up to chance, and then a little below 0 as often as
    above.

    Args:
        x, y: clouds (N, *D) and (M, *D), two points or more each.
    """
    x = validate.points(x, ..., name="x", least=2)
    y = validate.points(y, x.shape[1:], x, name="y", least=2)
    x, y = x.flatten(1), y.flatten(1)
    return 2 * torch.cdist(x, y).mean() - within(x) - within(y)


def within(x: Tensor) -> Tensor:
    """Return the mean distance of two different rows of x (N, D): ()."""
    return torch.cdist(x, x).sum() / (len(x) * (len(x) - 1))


def energy_estimate(model: nn.Module, x: Batch, n: int = 4000) -> Estimate:
    """Return the energy distance of samples to points, times 1000, and its error.

    Args:
        model: anything with `sample`.
        x: points (N, *D), or a tuple that begins with them. Parts of n are compared with as
            many samples each, ten at most, and their figures averaged.
        n: points of a part.
    """
    parts = [p for p in columns(x)[0].split(n) if len(p) >= 2][:10]
    with evaluating(model), torch.no_grad():
        found = torch.stack([energy_distance(model.sample(len(p)), p) for p in parts])
    error = found.std().item() / len(found) ** 0.5 if len(found) > 1 else float("nan")
    return Estimate(1000 * found.mean().item(), 1000 * error)
