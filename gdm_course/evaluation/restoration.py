"""Whether restored data differ from draw to draw as much as they should.

Draws from the true conditional law, whose variance is V, and the truth itself are alike
and, given what is seen, independent: a single draw is wrong by 2 V, the mean of K draws by
(1 + 1/K) V. So the ratio of the two mean squared errors is 2 K / (K + 1), whatever V is. It
is less if the draws are too much alike, and also if their mean is off.
"""

import math

import torch
from torch import Tensor

from gdm_course import validate
from gdm_course.evaluation.likelihood import Estimate


def right_ratio(K: int) -> float:
    """Return the calibration ratio of K draws from the true law: 1.78 for 8."""
    return 2 * validate.count(K, "K", 2) / (K + 1)


def calibration_ratio(draws: Tensor, x: Tensor, missing: Tensor | None = None) -> Estimate:
    """Return mean squared error of one draw over that of the mean of K draws.

    Args:
        draws: K draws for each example (K, N, *D), K and N at least 2.
        x: the truth (N, *D).
        missing: 1 where numbers were missing, broadcast with x; all of them if None.

    Returns:
        The ratio and its standard error over examples, by the delta method.
    """
    validate.points(draws, x.shape, x, name="draws", least=2)
    weight = torch.ones_like(x) if missing is None else missing.expand_as(x)
    total = lambda e: (weight * e).flatten(1).sum(1).double()  # noqa: E731
    one = torch.stack([total((d - x).square()) for d in draws]).mean(0)  # (N,)
    mean = total((draws.mean(0) - x).square())
    ratio = one.mean() / mean.mean()
    error = (one - ratio * mean).std() / (mean.mean() * math.sqrt(len(x)))
    return Estimate(ratio.item(), error.item())
