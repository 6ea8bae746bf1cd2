"""The digits, whitened and turned: half to learn from, half to compare with."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gdm_course.data import images

DIRECTIONS = 8  # of the 64, those with the largest variance


@dataclass(frozen=True)
class Turned:
    """Digits of 8 x 8 as points: their main directions, each of variance 1, then turned.

    Rows are (x - m) V / s Q. Their mean is 0 and their covariance is I, as the noise's: a
    Gaussian with the right mean and covariance is the noise itself, so that nothing is
    gained by matching those. The rotation is secret: nothing learnt beforehand fits.

    Attributes:
        mean: m of the half that an entry is given (64,).
        basis: V / s, (64, D), and its inverse on these directions, (V s)': (D, 64).
        rotation: Q (D, D), orthogonal.
        rows: that half, as an entry sees it (N, D).
        others: the other half as pictures (M, 1, 8, 8), of these directions only.
    """

    mean: Tensor
    basis: tuple[Tensor, Tensor]
    rotation: Tensor
    rows: Tensor
    others: Tensor

    def pictures(self, x: Tensor) -> Tensor:
        """Turn samples (n, D) back into pictures (n, 1, 8, 8)."""
        flat = x @ self.rotation.T @ self.basis[1] + self.mean
        return flat.reshape(-1, 1, 8, 8)


def turned(g: torch.Generator) -> Turned:
    """Draw a rotation, and which half of the digits an entry is given."""
    data = images.load("digits")
    codes = torch.cat([data.x_train, data.x_valid, data.x_test]).flatten(1)
    x = codes.float()[torch.randperm(len(codes), generator=g)] * (2 / 16) - 1
    given, others = x.tensor_split(2)
    mean = given.mean(0)
    _, s, V = torch.linalg.svd(given - mean, full_matrices=False)
    V, s = V[:DIRECTIONS], s[:DIRECTIONS, None] / (len(given) - 1) ** 0.5
    seen = (others - mean) @ V.T @ V + mean
    rotation = _rotation(g)
    rows = (given - mean) @ (V / s).T @ rotation
    return Turned(mean, ((V / s).T, V * s), rotation, rows, seen.reshape(-1, 1, 8, 8))


def _rotation(g: torch.Generator) -> Tensor:
    """Draw a rotation or a reflection, all alike: (D, D)."""
    Q, R = torch.linalg.qr(torch.randn(DIRECTIONS, DIRECTIONS, generator=g))
    return Q * R.diagonal().sign()  # else it is not uniform
