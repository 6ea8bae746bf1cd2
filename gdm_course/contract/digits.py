"""The digits, turned: half of them for an entry to learn from, half to compare with."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gdm_course.data import images


@dataclass(frozen=True)
class Turned:
    """The digits of 8 x 8, turned in their 64 dimensions by a random rotation, and shifted.

    A perceptron that starts at random does not notice the rotation, but nothing that was
    learnt beforehand fits. The shift puts them away from 0, where noise is.

    Attributes:
        rotation: Q (64, 64), orthogonal; rows are x Q + b.
        shift: b (64,), of length 4.
        rows: half of the digits, turned: what an entry is given (N, 64).
        others: the other half, pictures (M, 1, 8, 8) with values from -1 to 1.
    """

    rotation: Tensor
    shift: Tensor
    rows: Tensor
    others: Tensor

    def pictures(self, x: Tensor) -> Tensor:
        """Turn samples (n, 64) back into pictures (n, 1, 8, 8)."""
        return ((x - self.shift) @ self.rotation.T).reshape(-1, 1, 8, 8)


def turned(g: torch.Generator) -> Turned:
    """Draw a rotation, a shift, and which half of the digits an entry is given."""
    data = images.load("digits")
    codes = torch.cat([data.x_train, data.x_valid, data.x_test])
    x = codes.float()[torch.randperm(len(codes), generator=g)] * (2 / 16) - 1
    rotation, triangle = torch.linalg.qr(torch.randn(64, 64, generator=g))
    rotation = rotation * triangle.diagonal().sign()  # else it is not uniform
    shift, half = torch.randn(64, generator=g), len(x) // 2
    shift = 4 * shift / shift.norm()
    rows = x[:half].flatten(1) @ rotation + shift
    return Turned(rotation, shift, rows, x[half:])
