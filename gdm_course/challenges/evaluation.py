"""Samplers that fool a figure on purpose, and the card of figures that they are held to.

Each of these samplers gets one thing right and something else badly wrong. A figure that
looks at the first only is fooled; another one, that looks at the second, catches it.

References:
    Theis, van den Oord, Bethge (2016). A note on the evaluation of generative models.
        arXiv:1511.01844.
    Borji (2019). Pros and cons of GAN evaluation measures. arXiv:1802.03446.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from gdm_course import validate
from gdm_course.evaluation import features, samples
from gdm_course.evaluation.likelihood import Estimate


def repeated(x: Tensor, n: int, k: int) -> Tensor:
    """Draw n of the first k rows of x (N, *D), each as often as any other: a memory.

    With k = N it has learned all its data by heart, with a small k a few of them.

    Raises:
        ValueError: x has fewer than k rows.
    """
    n, k = validate.count(n, least=1), validate.count(k, "k", 1)
    if len(x) < k:
        raise ValueError(f"k is {k}: expected at most {len(x)}, the rows that there are")
    return x[torch.arange(n, device=x.device) % k]


def one_of_each(x: Tensor, y: Tensor, n: int) -> Tensor:
    """Draw n times the first row of x (N, *D) of each label in y (N,), in turn."""
    y = validate.labels(y, 1 + int(y.max()), len(x))
    first = torch.stack([(y == label).nonzero()[0, 0] for label in y.unique()])
    return repeated(x[first], n, len(first))


def without(x: Tensor, y: Tensor, label: int) -> Tensor:
    """Return the rows of x (N, *D) whose label in y (N,) is another one."""
    return x[validate.labels(y, 1 + int(y.max()), len(x)) != label]


def blurred(x: Tensor) -> Tensor:
    """Return every pixel as the mean of itself and its neighbours: (B, C, H, W)."""
    x = validate.points(x, (*x.shape[1:],) if x.ndim == 4 else (1, 1, 1), name="x")
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def corners(n: int, d: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw corners of the cube {-1, 1}^d: (n, d).

    Means, covariances and third moments are those of N(0, I), fourth moments are not.
    """
    n, d = validate.count(n, least=1), validate.count(d, "d", 1)
    return torch.randint(0, 2, (n, d), generator=generator) * 2.0 - 1


class Diluted:
    """A share of a good density, the rest noise: log p falls by at most -log share.

    p(x) = share p_good(x) + (1 - share) p_noise(x) >= share p_good(x), in any dimension.

    Args:
        good, noise: with `sample` and `log_prob` of the same points.
        share: of good samples, above 0 and at most 1.
    """

    def __init__(self, good, noise, share: float = 0.01):
        if not 0 < share <= 1:
            raise ValueError(f"share is {share}: expected above 0, and at most 1")
        self.good, self.noise, self.share = good, noise, share

    def sample(self, n: int) -> Tensor:
        """Draw n points, of which a share is good: (n, *D)."""
        good, noise = self.good.sample(n), self.noise.sample(n)
        keep = torch.rand(n, *[1] * (good.ndim - 1)) < self.share
        return torch.where(keep, good, noise.to(good.dtype))

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p in nats: (B, *D) -> (B,)."""
        rest = math.log1p(-self.share) if self.share < 1 else -math.inf
        good = self.good.log_prob(x) + math.log(self.share)
        return torch.logaddexp(good, self.noise.log_prob(x) + rest)


def by_parts(figure: Callable[..., float], *tables: Tensor, parts: int = 5) -> Estimate:
    """Return a figure of whole tables, with the error that disjoint parts of them show.

    The figure of a part spreads sqrt(parts) times as far as that of the whole, so the error
    is the spread over parts / sqrt(parts).

    Args:
        figure: takes the tables, each (N, *D), and returns a number.
        tables: rows in any order; every part takes every parts-th row.
        parts: how many, at least 2.
    """
    validate.at_least(2, parts=parts)
    found = [figure(*(t[i::parts] for t in tables)) for i in range(parts)]
    spread = torch.tensor(found, dtype=torch.float64).std().item()
    return Estimate(float(figure(*tables)), spread / math.sqrt(parts))


class Kind(NamedTuple):
    """What a figure is called, whether more of it is better, and what it can see."""

    name: str
    higher: bool


KINDS = (
    Kind("IS", True),
    Kind("Frechet", False),
    Kind("KID", False),
    Kind("precision", True),
    Kind("recall", True),
    Kind("density", True),
    Kind("coverage", True),
    Kind("C2ST", False),
    Kind("copying", False),
)


def scorecard(train: Tensor, held: Tensor, fake: Tensor) -> dict[str, Estimate]:
    """Return all nine figures of samples, by the name of their `Kind`, with errors.

    Args:
        train: pictures that were learned from (N, C, H, W).
        held: unseen pictures of the same law: what samples are compared with.
        fake: samples; as many as `held` has, or a Frechet distance is another one.
    """
    seen, real, made = (features.opinions(x) for x in (train, held, fake))
    pr, dc = samples.precision_recall, samples.density_coverage
    test = samples.classifier_two_sample(real, made)
    copied = samples.data_copying(seen, real, made)
    n, m = len(real), len(made)
    return {
        "IS": samples.inception_score(features.opinions(fake, "logits")),
        "Frechet": samples.frechet_with_error(made, real),
        "KID": samples.kid(made, real, block=max(2, len(real) // 5)),
        "precision": by_parts(lambda a, b: pr(a, b).precision, real, made),
        "recall": by_parts(lambda a, b: pr(a, b).recall, real, made),
        "density": by_parts(lambda a, b: dc(a, b).density, real, made),
        "coverage": by_parts(lambda a, b: dc(a, b).coverage, real, made),
        "C2ST": Estimate(test.share, 0.5 / math.sqrt(2 * (min(n, m) // 2))),
        "copying": Estimate(copied.share, math.sqrt((n + m + 1) / (12 * n * m))),
    }


def worse(found: Estimate, honest: Estimate, higher: bool) -> float:
    """Return by how many standard errors a figure is worse than an honest one.

    Args:
        found: of the samples.
        honest: of unseen data in their place.
        higher: whether more of it is better.

    Returns:
        Their number; below 0 the figure is better than the honest one. Without any error
        it is 0 for equal figures, and infinite for others.
    """
    gap = (honest.value - found.value) * (1 if higher else -1)
    error = math.hypot(found.error, honest.error)
    return gap / error if error else gap and math.copysign(math.inf, gap)
