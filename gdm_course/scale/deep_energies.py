"""Deep energies: how far they are from the truth, or from the pictures that they learn."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdm_course.chance import own_chance
from gdm_course.energy.langevin import ExactEnergyModel
from gdm_course.energy.normalise import Normalised, log_z_grid
from gdm_course.energy.pictures import ConvEnergyModel
from gdm_course.energy.sampling import noise_like
from gdm_course.evaluation.likelihood import Estimate, kl_to_truth
from gdm_course.evaluation.samples import frechet as distance
from gdm_course.nets import mlp
from gdm_course.scale.data import Splits
from gdm_course.training import adamw, forever
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


CHAINS, STEPS = 1000, 1000


def grey_vectors(name: str) -> Splits:
    """Load grey pictures as vectors (N, D) of numbers from -1 to 1."""
    from gdm_course.data import images

    data = images.load(name)
    splits = (
        x.flatten(1).float() * 2 / (data.levels - 1) - 1
        for x in (data.x_train, data.x_valid, data.x_test)
    )
    return Splits(*splits, data.source)


def fit_bowl(model: ConvEnergyModel, x: Tensor) -> None:
    """Let a model's bowl be the Gaussian of the data."""
    model.fit_bowl(x)


@lru_cache(maxsize=2)
def features(name: str, steps: int = 2000) -> nn.Module:
    """Train a classifier of grey vectors and return it but for its last layer: 64 numbers.

    With a chance of its own: the same features for every model.
    """
    from gdm_course.data import images

    x, labels = grey_vectors(name).train, images.load(name).y_train
    with own_chance(0):
        net = mlp((x.shape[1], 128, 64, 10))
        optimizer = adamw(net, 1e-3)
        for _, (rows, y) in zip(range(steps), forever((x, labels), 100)):
            optimizer.zero_grad()
            F.cross_entropy(net(rows), y).backward()
            optimizer.step()
    return net[:4].requires_grad_(False)


@torch.no_grad()
def frechet(model: ConvEnergyModel, x: Tensor, name: str = "mnist") -> Estimate:
    """Return the Frechet distance of 1,000 fresh chains to noisy pictures x (N, D).

    In the `features` of a data set; the chains start at the bowl and take 1,000 steps.
    """
    with torch.enable_grad():
        see = features(name).to(x.device)
    drawn, noisy = model.sample(CHAINS, STEPS), x + model.sigma * noise_like(x)
    return Estimate(distance(see(drawn), see(noisy)).item(), 0.0)
