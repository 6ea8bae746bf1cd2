"""How good samples are where no density is known: two clouds of features compared.

A network that was trained for something else turns every picture into a row of features.
All figures here compare two such tables; each has its blind spot, so they come together.

References:
    Heusel, Ramsauer, Unterthiner, Nessler, Hochreiter (2017). GANs trained by a two
        time-scale update rule converge to a local Nash equilibrium. arXiv:1706.08500.
    Salimans, Goodfellow, Zaremba, Cheung, Radford, Chen (2016). Improved techniques for
        training GANs. arXiv:1606.03498.
    Binkowski, Sutherland, Arbel, Gretton (2018). Demystifying MMD GANs. arXiv:1801.01401.
"""

import math

import torch
from torch import Tensor

from gdm_course import validate
from gdm_course.evaluation.likelihood import Estimate, estimate
from gdm_course.evaluation.neighbours import density_coverage, precision_recall
from gdm_course.evaluation.two_sample import classifier_two_sample, data_copying

__all__ = ["classifier_two_sample", "data_copying", "density_coverage", "frechet"]
__all__ += ["frechet_bias", "frechet_with_error", "inception_score", "kid"]
__all__ += ["precision_recall"]


def frechet(a: Tensor, b: Tensor) -> Tensor:
    """Return the squared Wasserstein-2 distance of two Gaussians fitted to features: ().

    |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a^(1/2) C_b C_a^(1/2))^(1/2)), in float64: the "FID"
    of whatever network made the features. The last root is that of a symmetric matrix, so
    its trace is a sum of roots of real eigenvalues. Estimated covariances differ even if
    the laws do not (`frechet_bias`): compare figures of equal numbers of rows only.

    Args:
        a, b: features (N, K) and (M, K), with N and M above K.

    Returns:
        The distance, in the square of the features' unit.

    Raises:
        ValueError: they are not two tables with as many columns, or have too few rows.
    """
    a, b = _tables(a, b)
    K = a.shape[1]
    if min(len(a), len(b)) <= K:
        raise ValueError(
            f"got {len(a)} and {len(b)} rows of {K} features: expected more rows than "
            "features, or a covariance is singular; draw more, or take fewer features"
        )
    C_a, C_b = (torch.atleast_2d(torch.cov(t.T)) for t in (a, b))
    root = square_root(C_a)
    cross = torch.linalg.eigvalsh(root @ C_b @ root).clamp_min(0).sqrt().sum()
    gap = (a.mean(0) - b.mean(0)).square().sum()
    return gap + C_a.trace() + C_b.trace() - 2 * cross


def square_root(C: Tensor) -> Tensor:
    """Return the symmetric square root of a covariance (K, K); rounding below 0 is 0."""
    values, vectors = torch.linalg.eigh(C)
    return vectors * values.clamp_min(0).sqrt() @ vectors.T


def frechet_with_error(a: Tensor, b: Tensor) -> Estimate:
    """Return `frechet` of features (N, K) and (M, K) with its standard error.

    The error is that of first order: how much a row moves the distance, by the derivative
    in its weight, as a spread over rows. It is 0 where the distance is, which chance then
    moves by amounts of second order, about `frechet_bias`.
    """
    value, (a, b) = frechet(a, b).item(), _tables(a, b)
    squares = [(row_slopes(*pair).var() / len(pair[0])).item() for pair in ((a, b), (b, a))]
    return Estimate(value, math.sqrt(sum(squares)))


def row_slopes(a: Tensor, b: Tensor) -> Tensor:
    """Return the slope of `frechet` in the weight of each row of a, less a constant: (N,).

    2 (m_a - m_b) . x + x^T (I - T) x, x = a_i - m_a, where T = C_b^(1/2) (C_b^(1/2) C_a
    C_b^(1/2))^(-1/2) C_b^(1/2) is the linear map that takes one Gaussian to the other.
    """
    x, gap = a - a.mean(0), a.mean(0) - b.mean(0)
    root = square_root(torch.atleast_2d(torch.cov(b.T)))
    values, vectors = torch.linalg.eigh(root @ torch.atleast_2d(torch.cov(a.T)) @ root)
    inverse = values.clamp_min(1e-12 * values.max()).rsqrt() * (values > 0)
    T = root @ (vectors * inverse @ vectors.T) @ root
    return 2 * x @ gap + (x * (x - x @ T)).sum(1)


def frechet_bias(K: int, n: int) -> float:
    """Return what `frechet` is on average for two samples of one law, to first order.

    K (K + 5) / (2 n), of which 2 K / n is the means' part, where both samples have n rows
    and all K features are independent, N(0, 1). It is not 0: a floor to say aloud.
    """
    validate.at_least(1, K=K, n=n)
    return K * (K + 5) / (2 * n)


def inception_score(logits: Tensor, splits: int = 1) -> Estimate:
    """Return exp(E KL(p(y|x) || p(y))) of a classifier's opinions on samples.

    It is 1 if all samples look alike to the classifier, and the number of classes if it is
    sure of each and sees all classes equally often. It never looks at real data.

    Args:
        logits: of the classifier on samples, (N, K).
        splits: parts with a p(y) of their own, whose scores are averaged. Small parts
            lower the score; the original paper has 10.

    Returns:
        The score, and its standard error to first order, both without unit.
    """
    logits = validate.points(logits, "K", name="logits", least=2).double()
    validate.at_least(1, splits=splits)
    if len(logits) < 2 * splits:
        raise ValueError(
            f"got {len(logits)} rows for splits={splits}: expected 2 or more rows in each"
        )
    scores, nats = [], []
    for part in logits.log_softmax(-1).tensor_split(splits):
        log_p_y = part.logsumexp(0) - math.log(len(part))  # (K,)
        nats.append((part.exp() * (part - log_p_y)).sum(-1))  # KL of each row
        scores.append(nats[-1].mean().exp())
    value = torch.stack(scores).mean().item()
    return Estimate(value, value * estimate(torch.cat(nats)).error)


def kid(a: Tensor, b: Tensor, block: int = 1000, seed: int = 0) -> Estimate:
    """Estimate the MMD^2 of two samples of features with k(x, y) = (x . y / K + 1)^3.

    Without bias: a sample and itself are no pair, so the figure is 0 on average for equal
    laws, and negative every other time. The kernel sees means, covariances and third
    moments, nothing beyond. It grows up to the sixth power with the scale of the features.

    Args:
        a, b: features (N, K) and (M, K), at least 2 rows each.
        block: rows of each in a block, at most; the blocks are disjoint, so independent.
        seed: of the order in which rows fall into blocks.

    Returns:
        The mean over blocks and its standard error, which a single block does not have
        (nan).
    """
    a, b = _tables(a, b)
    validate.at_least(2, block=block)
    blocks = max(1, min(len(a), len(b)) // block)
    order = torch.Generator().manual_seed(seed)
    parts = [
        t[torch.randperm(len(t), generator=order).to(t.device)].tensor_split(blocks)
        for t in (a, b)
    ]
    values = torch.stack([cubic_mmd2(x, y) for x, y in zip(*parts)])
    error = estimate(values).error if blocks > 1 else math.nan
    return Estimate(values.mean().item(), error)


def cubic_mmd2(x: Tensor, y: Tensor) -> Tensor:
    """Return the unbiased MMD^2 of x (N, K) and y (M, K) with k = (x . y / K + 1)^3: ()."""
    across, within = cubic(x, y).mean(), 0.0
    for t in (x, y):
        others = cubic(t, t).sum() - ((t.square().mean(1) + 1) ** 3).sum()
        within = within + others / (len(t) * (len(t) - 1))
    return within - 2 * across


def cubic(x: Tensor, y: Tensor) -> Tensor:
    """Return the kernel (x . y / K + 1)^3 of all pairs of rows, (N, M)."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def _tables(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return two tables of features in float64, with as many columns and 2 or more rows."""
    a = validate.points(a, "K", name="a", least=2)
    b = validate.points(b, a.shape[1], name="b", least=2)
    return a.double(), b.double()
