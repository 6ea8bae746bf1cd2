"""Quality and variety of samples, told apart by nearest neighbours among features.

Around every point of a table lies a ball that reaches to its k-th neighbour in that table.
The balls of the real points stand for the region of real data, those of the samples for
that of the model. A point is inside a ball if it is strictly nearer than the radius.

References:
    Kynkaanniemi, Karras, Laine, Lehtinen, Aila (2019). Improved precision and recall metric
        for assessing generative models. arXiv:1904.06991.
    Naeem, Oh, Uh, Choi, Yoo (2020). Reliable fidelity and diversity metrics for generative
        models. arXiv:2002.09797.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from gdm_course import validate

ROWS = 500  # of a table of distances at once


class PrecisionRecall(NamedTuple):
    """Shares, 0 to 1: of samples among real points, and of real points among samples."""

    precision: float
    recall: float


class DensityCoverage(NamedTuple):
    """Real balls around a sample, over k; and the share of real balls with a sample."""

    density: float
    coverage: float


def precision_recall(real: Tensor, fake: Tensor, k: int = 5) -> PrecisionRecall:
    """Return the share of samples inside a real ball, and of real points inside a sample's.

    Precision is quality: how much of what the model makes could be real. Recall is variety:
    how much of what is real the model could have made. One real outlier has a huge ball,
    and whatever falls into it counts as precise.

    Args:
        real, fake: features (N, K) and (M, K), more than k rows each.
        k: which neighbour is the radius; a point is no neighbour of its own.
    """
    real, fake, k = _clouds(real, fake, k)
    precise = (balls_around(fake, real, radius(real, k)) > 0).double().mean().item()
    recalled = (balls_around(real, fake, radius(fake, k)) > 0).double().mean().item()
    return PrecisionRecall(precise, recalled)


def density_coverage(real: Tensor, fake: Tensor, k: int = 5) -> DensityCoverage:
    """Return how many real balls a sample is in, over k, and how many balls have a sample.

    Density is 1 on average where the laws are equal, and above 1 where samples crowd in
    the middle of the data. Coverage is close to 1 - 2^-k there: `expected_coverage`.

    Args:
        real, fake: features (N, K) and (M, K); more than k real ones.
        k: which neighbour is the radius; a point is no neighbour of its own.
    """
    real, fake, k = _clouds(real, fake, k, only_real=True)
    reach = radius(real, k)
    density = balls_around(fake, real, reach).double().mean().item() / k
    covered = (nearest(real, fake, 1) < reach).double().mean().item()
    return DensityCoverage(density, covered)


def expected_coverage(N: int, M: int, k: int = 5) -> float:
    """Return the coverage of N real points by M samples of the same law, any law.

    1 - product over i = 1..k of (N - i) / (N + M - i). Seen from one real point, the other
    N - 1 and the M samples are equally likely to be nearest, second nearest and so on. Its
    ball holds no sample if the k nearest of all are real.
    """
    validate.at_least(1, N=N, M=M, k=k)
    missed = 1.0
    for i in range(1, k + 1):
        missed *= max(N - i, 0) / (N + M - i)
    return 1 - missed


def nearest(x: Tensor, y: Tensor, k: int = 1) -> Tensor:
    """Return the distance from every row of x to its k-th nearest row of y, (N,)."""
    far = (distances(rows, y).kthvalue(k).values for rows in x.split(ROWS))
    return torch.cat([*far])


def radius(x: Tensor, k: int) -> Tensor:
    """Return the distance from every row of x to its k-th neighbour in x, (N,)."""
    return nearest(x, x, k + 1)  # the first is the row itself


def balls_around(x: Tensor, centres: Tensor, radii: Tensor) -> Tensor:
    """Return in how many balls every row of x is, (N,)."""
    inside = ((distances(rows, centres) < radii).sum(1) for rows in x.split(ROWS))
    return torch.cat([*inside])


def distances(x: Tensor, y: Tensor) -> Tensor:
    """Return all Euclidean distances, (N, M), exactly 0 between equal rows."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def _clouds(
    real: Tensor, fake: Tensor, k: int, only_real: bool = False
) -> tuple[Tensor, Tensor, int]:
    """Return both in float64, and k, if there are more rows than k."""
    k = validate.count(k, "k", 1)
    real = validate.points(real, "K", name="real", least=k + 1)
    fake = validate.points(
        fake, real.shape[1], name="fake", least=1 if only_real else k + 1
    )
    return real.double(), fake.double(), k
