"""Finite scalar quantisation: round every number by itself; the codebook is a fixed grid.

Numbered equations are those of the lecture vae/vqvae.

References:
    Mentzer, Minnen, Agustsson, Tschannen (2023). Finite scalar quantization: VQ-VAE made
        simple. arXiv:2309.15505.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gdm_course import validate
from gdm_course.nets import precise
from gdm_course.vae.quantise import Quantised, straight_through


def squash(z: Tensor, levels: Tensor) -> Tensor:
    """Bound each number to the open interval (-1/2, L - 1/2): L sigmoid(2 z) - 1/2.

    L whole numbers lie in it, whether L is odd or even, and each has an equal share of the
    sigmoid's range. (The paper has tanh in place of the sigmoid, shifted for even L.)
    """
    return levels * torch.sigmoid(2 * z) - 0.5


def whole_digits(digits: Tensor, levels: Tensor) -> Tensor:
    """Return digits (*B, D) as int64, if each is below its number of levels (D,)."""
    validate.vectors(digits.float(), len(levels), name="digits")
    digits = validate.codes(digits, int(levels.max()), name="digits")
    advice = "give the digits of codes, one for every level"
    return validate.between(digits, 0, levels - 1, "digits", advice)


class FiniteScalarQuantiser(nn.Module):
    """Round each of D numbers to one of its levels: (7), with the same face as a codebook.

    The codes are the points of a grid, none of which is learnt, moves or dies. Digit d has
    levels[d] >= 2 values; a code is all digits as one number, the first the smallest place.
    Reference: Mentzer, Minnen, Agustsson, Tschannen (2023). arXiv:2309.15505.
    """

    def __init__(self, levels: Sequence[int] = (8, 5, 5, 5)):
        super().__init__()
        validate.at_least(2, levels=levels)
        validate.at_least(1, digits=len(levels))
        self.K, self.D = math.prod(levels), len(levels)
        place = [math.prod(levels[:d]) for d in range(len(levels))]
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        self.register_buffer("place", torch.tensor(place), persistent=False)
        self.register_buffer("one", torch.tensor(1.0), persistent=False)  # has the dtype

    def digits(self, codes: Tensor) -> Tensor:
        """Return the digits of codes: (*B,) -> (*B, D), int64."""
        return validate.codes(codes, self.K)[..., None] // self.place % self.levels

    def code(self, digits: Tensor) -> Tensor:
        """Return the codes of digits: (*B, D) -> (*B,), int64."""
        return (whole_digits(digits, self.levels) * self.place).sum(-1)

    def scale(self, digits: Tensor) -> Tensor:
        """Spread the digits 0..L-1 evenly over [-1, 1]: (*B, D) -> (*B, D)."""
        return 2 * digits * self.one / (self.levels - 1) - 1

    def lookup(self, codes: Tensor) -> Tensor:
        """Return the grid points of codes: (*B,) -> (*B, D)."""
        return self.scale(self.digits(codes))

    def forward(self, z: Tensor) -> Quantised:
        """Quantise (*B, D): grid points (*B, D), codes (*B,), and a penalty of 0 (*B,)."""
        u = squash(precise(validate.vectors(z, self.D)), self.levels)
        digits = u.detach().round().clamp_min(0).minimum(self.levels - 1)  # if saturated
        q = self.scale(straight_through(u, digits))
        return q, self.code(digits), torch.zeros_like(q[..., 0])
