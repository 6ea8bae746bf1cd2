"""Scores on the digits: the Frechet distance in features of the course's own classifier."""

import torch
from torch import Tensor

from gdm_course.contract.digits import Turned
from gdm_course.contract.frozen import JUMPS, generate, with_weights
from gdm_course.evaluation.features import opinions
from gdm_course.evaluation.samples import frechet


def digit_scores(
    weights: Tensor, law: Turned, g: torch.Generator, n: int = 2000
) -> list[float]:
    """Return the Frechet distance from the other half, for each number of evaluations.

    Args:
        weights: of the frozen network, as `Contract.fit` returns them.
        law: the rotation and the half that nobody has trained on.
        g: draws the noise.
        n: samples.
    """
    net, real = with_weights(weights, 64), opinions(law.others)
    eps = torch.randn(n, 64, generator=g)
    made = (law.pictures(generate(net, eps, k)) for k in JUMPS)
    return [frechet(opinions(pictures), real).item() for pictures in made]
