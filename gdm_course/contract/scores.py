"""Scores on the digits: the Frechet distance in features of the course's own classifier."""

import torch
from torch import Tensor

from gdm_course.contract.digits import DIRECTIONS, Turned
from gdm_course.contract.frozen import JUMPS, generate, with_weights
from gdm_course.evaluation.features import opinions
from gdm_course.evaluation.samples import frechet


def digit_scores(
    weights: Tensor, law: Turned, g: torch.Generator, n: int = 2000
) -> list[float]:
    """Return the distance from the other half, for each number of evaluations.

    It is the Frechet distance of the samples divided by that of the noise they were made
    from, which has the mean and covariance of the data: whoever learns a Gaussian gets 1.

    Args:
        weights: of the frozen network, as `Contract.fit` returns them.
        law: the rotation and the half that nobody has trained on.
        g: draws the noise.
        n: samples.
    """
    net, real = with_weights(weights, DIRECTIONS), opinions(law.others)
    eps = torch.randn(n, DIRECTIONS, generator=g)

    def distance(x: Tensor) -> float:
        seen = opinions(law.pictures(x))
        return frechet(seen, real).item() if seen.isfinite().all() else float("inf")

    unit = distance(eps)
    return [distance(generate(net, eps, k)) / unit for k in JUMPS]
