"""Changes of a batch at random, where it lies: more data than there are pictures."""

import torch
from torch import Tensor


def mirrored(x: Tensor) -> Tensor:
    """Turn about half of the images left to right: (B, C, H, W), any dtype."""
    turn = torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5
    return torch.where(turn, x.flip(-1), x)
