"""What data are at the end of the chain: real numbers, or codes that lie on levels.

The first step of noise is so small that x_1 says everything about x_0; what is left to say
has a closed form and no network.

References:
    Kingma, Salimans, Poole, Ho (2021). Variational diffusion models. arXiv:2107.00630.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gdm_course import validate
from gdm_course.diffusion.schedule import Schedule, rowwise

LOG_2PI = math.log(2 * math.pi)


class RealDecoder(nn.Module):
    """Real numbers: p(x_0 | x_1) = N(x_1 / alpha_1, (sigma_1 / alpha_1)^2), in nats.

    Args:
        shift, scale: the chain sees (x - shift) / scale; shift is a number or (*D,).
    """

    def __init__(self, shift: Tensor | Sequence[float] | float = 0.0, scale: float = 1.0):
        super().__init__()
        if not 0 < scale < math.inf:
            raise ValueError(f"scale is {scale}: expected a positive number")
        self.register_buffer("shift", torch.as_tensor(shift).float())
        self.scale = scale

    def embed(self, x: Tensor) -> Tensor:
        """Show data to the chain, centred and scaled: (B, *D) -> (B, *D)."""
        return (validate.points(x, ...) - self.shift.to(x)) / self.scale

    def log_likelihood(self, x: Tensor, x_1: Tensor, schedule: Schedule) -> Tensor:
        """Return log p(x_0 = x | x_1) in nats: (B, *D), (B, *D) -> (B,)."""
        alpha, sigma = rowwise(schedule.alpha(1), x_1), rowwise(schedule.sigma(1), x_1)
        gap = (alpha * self.embed(x) - x_1) / sigma
        width = (self.scale * sigma / alpha).log()
        return (-gap.square() / 2 - width - LOG_2PI / 2).flatten(1).sum(1)

    def show(self, x: Tensor) -> Tensor:
        """Return the end of the chain as data: (n, *D) -> (n, *D)."""
        return x * self.scale + self.shift.to(x)


class LevelDecoder(nn.Module):
    """Codes 0..K-1 on levels v = 2 code / (K - 1) - 1: P(code | x_1) ~ N(x_1; alpha_1 v).

    P = softmax over v of -(x_1 - alpha_1 v)^2 / (2 sigma_1^2): the bound is of -log P.
    K is the number of values.
    """

    def __init__(self, K: int):
        super().__init__()
        validate.at_least(2, K=K)
        self.K = K
        self.register_buffer("levels", torch.linspace(-1, 1, K), persistent=False)

    def embed(self, x: Tensor) -> Tensor:
        """Return the levels of codes: (B, *D) -> (B, *D) from -1 to 1."""
        return self.levels[validate.codes(x, self.K)]

    def log_likelihood(self, x: Tensor, x_1: Tensor, schedule: Schedule) -> Tensor:
        """Return log P(codes x | x_1) in nats: (B, *D), (B, *D) -> (B,)."""
        alpha, sigma = schedule.alpha(1).to(x_1), schedule.sigma(1).to(x_1)
        k = self.near(x_1 / alpha, (sigma / alpha).item())
        inside, levels = (k >= 0) & (k < self.K), self.levels.to(x_1)
        gaps = (x_1[..., None] - alpha * levels[k.clamp(0, self.K - 1)]) / sigma
        own = (x_1 - alpha * levels[validate.codes(x, self.K)]) / sigma
        total = (-gaps.square() / 2).masked_fill(~inside, -math.inf).logsumexp(-1)
        return (-own.square() / 2 - total).flatten(1).sum(1)

    def near(self, x: Tensor, width: float) -> Tensor:
        """Return codes (B, *D, n) or (K,), some not 0..K-1; others weigh below exp(-84)."""
        n = 13 * width * (self.K - 1) / 2  # 13 widths, in codes
        if not 2 * n + 3 < self.K:
            return torch.arange(self.K, device=x.device)
        n = math.ceil(n)
        return self.show(x)[..., None] + torch.arange(-n, n + 1, device=x.device)

    def show(self, x: Tensor) -> Tensor:
        """Return the codes whose levels are nearest: (n, *D) -> (n, *D), int64."""
        return ((x + 1) * (self.K - 1) / 2).round().clamp(0, self.K - 1).long()
