"""How far a deep energy of the plane is from the truth, with log Z from a grid."""

import torch
from torch import Tensor

from gdm_course.energy.langevin import ExactEnergyModel
from gdm_course.energy.normalise import Normalised, log_z_grid
from gdm_course.evaluation.likelihood import Estimate, kl_to_truth
from gdm_course.validate import dtype_of


@torch.no_grad()
def grid_kl(model: ExactEnergyModel, x: tuple[Tensor, Tensor]) -> Estimate:
    """Return KL(truth || model) in nats; log Z from a grid twice as wide as training's.

    Args:
        model: of points (N, D), with the `bounds` of its grid.
        x: points of the truth (N, D), and the truth's log p at each, (N,).
    """
    twice = ((1.5 * a - b / 2, 1.5 * b - a / 2) for a, b in model.bounds)
    log_z = log_z_grid(model.energy, tuple(twice), 400, dtype_of(model))
    return kl_to_truth(Normalised(model, log_z), x)
