"""The digits, turned: half of them for an entry to learn from, half to compare with."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gdm_course.data import images


@dataclass(frozen=True)
class Turned:
    """The digits of 8 x 8, turned in their 64 dimensions by a random rotation.

    A perceptron that starts at random does not notice the rotation, but nothing that was
    learnt beforehand fits.

    Attributes:
        rotation: Q (64, 64), orthogonal; rows are turned by x Q.
        rows: half of the digits, turned: what an entry is given (N, 64).
        others: the other half, pictures (M, 1, 8, 8) with values from -1 to 1.
    """

    rotation: Tensor
    rows: Tensor
    others: Tensor

    def pictures(self, x: Tensor) -> Tensor:
        """Turn samples (n, 64) back into pictures (n, 1, 8, 8)."""
        return (x @ self.rotation.T).reshape(-1, 1, 8, 8)


def turned(g: torch.Generator) -> Turned:
    """Draw a rotation, and which half of the digits an entry is given."""
    data = images.load("digits")
    codes = torch.cat([data.x_train, data.x_valid, data.x_test])
    x = codes.float()[torch.randperm(len(codes), generator=g)] * (2 / 16) - 1
    rotation, triangle = torch.linalg.qr(torch.randn(64, 64, generator=g))
    rotation = rotation * triangle.diagonal().sign()  # else it is not uniform
    half = len(x) // 2
    return Turned(rotation, x[:half].flatten(1) @ rotation, x[half:])
