"""How good samples are where no density is known: two clouds of features compared.

References:
    Heusel, Ramsauer, Unterthiner, Nessler, Hochreiter (2017). GANs trained by a two
        time-scale update rule converge to a local Nash equilibrium. arXiv:1706.08500.
"""

import torch
from torch import Tensor

from gdm_course import validate


def frechet_distance(a: Tensor, b: Tensor) -> Tensor:
    """Return the squared Wasserstein-2 distance of two Gaussians fitted to features: ().

    |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)): the "FID" of whatever network made
    the features. It falls with the number of rows: compare equal numbers only.

    Args:
        a, b: features (N, K) and (M, K), with N and M well above K.

    Raises:
        ValueError: they are not two tables with as many columns, or have fewer than 2 rows.
    """
    a = validate.points(a, "K", name="a", least=2).double()
    b = validate.points(b, a.shape[1], name="b", least=2).double()
    C_a, C_b = (torch.atleast_2d(torch.cov(t.T)) for t in (a, b))
    root = square_root(C_a)
    cross = torch.linalg.eigvalsh(root @ C_b @ root).clamp_min(0).sqrt().sum()
    gap = (a.mean(0) - b.mean(0)).square().sum()
    return gap + C_a.trace() + C_b.trace() - 2 * cross


def square_root(C: Tensor) -> Tensor:
    """Return the symmetric square root of a covariance (K, K); rounding below 0 is 0."""
    values, vectors = torch.linalg.eigh(C)
    return vectors * values.clamp_min(0).sqrt() @ vectors.T
