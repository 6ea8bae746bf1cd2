"""From codes to real numbers: noise that makes a density of discrete data, and a bound.

References:
    Uria, Murray, Larochelle (2013). RNADE. arXiv:1306.0186. (Uniform noise.)
    Theis, van den Oord, Bethge (2016). A note on the evaluation of generative models.
        arXiv:1511.01844. (Why the density is a bound.)
    Ho, Chen, Srinivas, Duan, Abbeel (2019). Flow++. arXiv:1902.00275. (Variational.)
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdm_course import validate
from gdm_course.flows.glow import Glow, MaskedCoupling, checkerboard
from gdm_course.learning import teaching
from gdm_course.nets import conv_net, mlp, zero_last


def log_slope_of_sigmoid(x: Tensor) -> Tensor:
    """Return sum_d log sigmoid'(x_d), the log density of logistic x: (B, *D) -> (B,)."""
    return (F.logsigmoid(x) + F.logsigmoid(-x)).flatten(1).sum(1)


def noise_like(x: Tensor) -> Tensor:
    """Draw uniform numbers in the shape of x, the same however x lies in memory."""
    return torch.rand(x.shape, dtype=x.dtype, device=x.device)


class Logit(nn.Module):
    """z = logit(alpha + (1 - 2 alpha) x): from (0, 1) to all real numbers.

    alpha keeps x away from 0 and 1, where the logit is infinite.
    """

    def __init__(self, alpha: float = 0.05):
        super().__init__()
        if not 0 < alpha < 0.5:
            raise ValueError(f"alpha is {alpha}: expected a small number above 0")
        self.alpha = alpha

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Stretch: x (B, *D) in [0, 1] -> z (B, *D), log |dz/dx| (B,)."""
        validate.between(x, 0, 1)
        z = torch.logit(self.alpha + (1 - 2 * self.alpha) * x)
        return z, self.log_slope(z)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Undo it: z (B, *D) -> x (B, *D), log |dx/dz| (B,)."""
        return (torch.sigmoid(z) - self.alpha) / (1 - 2 * self.alpha), -self.log_slope(z)

    def log_slope(self, z: Tensor) -> Tensor:
        """Return sum_d log |dz_d/dx_d|, as a function of z: (B, *D) -> (B,)."""
        return math.prod(z.shape[1:]) * math.log(1 - 2 * self.alpha) - log_slope_of_sigmoid(
            z
        )


class UniformNoise(nn.Module):
    """q(u | x) = 1 on the unit cube: the simplest noise, equation (6)."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Draw u in [0, 1): codes x (B, *D) -> u (B, *D), log q(u | x) = 0 (B,)."""
        return noise_like(x), x.new_zeros(len(x))


class VariationalNoise(nn.Module):
    """q(u | x): logistic noise through masked couplings that see x, then a sigmoid: (8).

    A coupling starts as the identity, and the sigmoid of logistic noise is uniform: so the
    noise starts uniform, and learns.

    Args:
        shape: of one x: (D,) or (C, H, W).
        layers: number of couplings, under alternating masks.
        hidden: size of their networks.

    References:
        Ho et al. (2019). Flow++. arXiv:1902.00275, section 3.1.
    """

    def __init__(self, shape: tuple[int, ...], *, layers: int = 4, hidden: int = 32):
        super().__init__()
        validate.at_least(1, shape=shape, layers=layers, hidden=hidden)
        self.shape, C, couplings = tuple(shape), shape[0], []
        for k in range(layers):
            if len(shape) == 3:
                net = conv_net(2 * C, 2 * C, hidden=hidden, blocks=1)
                mask = checkerboard(*shape[1:], odd=k % 2 == 1)
            else:
                net = mlp((2 * C, hidden, hidden, 2 * C))
                mask = ((torch.arange(C) + k) % 2 == 0).float()
            couplings.append(MaskedCoupling(mask, zero_last(net)))
        self.couplings = nn.ModuleList(couplings)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Draw u: x (B, *D), scaled to [-1, 1] -> u (B, *D) and log q(u | x) (B,)."""
        x = validate.points(x, self.shape)
        eps = torch.logit(noise_like(x), eps=1e-6)
        log_q = log_slope_of_sigmoid(eps)  # which is the density of logistic noise
        for coupling in self.couplings:
            eps, log_det = coupling(eps, x)
            log_q = log_q - log_det
        return torch.sigmoid(eps), log_q - log_slope_of_sigmoid(eps)


class Dequantised(nn.Module):
    """A model of codes 0..K-1 from a density of real numbers, by added noise.

    log P(x) >= E_q [log p((x + u) / K) - D log K - log q(u | x)], (6) for any noise q.

    Args:
        flow: a Density and Sampler of real numbers (B, *D); it sees Logit((x + u) / K).
        K, noise: number of values of a code; draws u (uniformly, if None).
        alpha: of the Logit; small for images with much pure black.
    """

    def __init__(
        self, flow: nn.Module, K: int, *, noise: nn.Module | None = None, alpha=0.05
    ):
        super().__init__()
        validate.at_least(2, K=K)
        self.flow, self.K, self.logit = flow, K, Logit(alpha)
        self.noise = noise or UniformNoise()

    def elbo(self, x: Tensor) -> Tensor:
        """Return a lower bound of log P(x) in nats with one draw of u: codes -> (B,)."""
        x = validate.codes(x, self.K, ...).to(validate.dtype_of(self.flow))
        u, log_q = self.noise(2 * x / (self.K - 1) - 1)
        z, log_det = self.logit((x + u) / self.K)
        return self.flow.log_prob(z) + log_det - x[0].numel() * math.log(self.K) - log_q

    @teaching()
    def loss(self, x: Tensor) -> Tensor:
        """Return the mean of -elbo in nats: codes (B, *D) -> ()."""
        return -self.elbo(x).mean()

    def iwae(self, x: Tensor, k: int) -> Tensor:
        """Return the tighter bound log mean exp of k draws: codes (B, *D) -> (B,)."""
        draws = torch.stack([self.elbo(x) for _ in range(validate.count(k, "k", 1))])
        return draws.logsumexp(0) - math.log(k)

    def sample(self, n: int) -> Tensor:
        """Draw codes (n, *D): what falls outside of the cells goes to the nearest."""
        x = self.logit.inverse(self.flow.sample(n))[0]
        return (x * self.K).floor().clamp(0, self.K - 1).long()


class DequantisedGlow(Dequantised):
    """Glow for images of codes 0..K-1, with uniform or variational noise.

    Args:
        shape: of one image, (C, H, W).
        K: number of values of a pixel.
        noise_layers, noise_hidden: couplings of the noise and their size; 0: uniform.
        alpha: of the Logit.
        scales, steps, checkers, hidden, blocks: of `Glow`.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        K: int,
        *,
        noise_layers: int = 0,
        noise_hidden: int = 32,
        alpha: float = 0.05,
        scales: int = 2,
        steps: int = 4,
        checkers: int = 0,
        hidden: int = 64,
        blocks: int = 0,
    ):
        validate.at_least(0, noise_layers=noise_layers)
        validate.at_least(1, noise_hidden=noise_hidden)
        sizes = {"scales": scales, "steps": steps, "checkers": checkers}
        flow = Glow(shape, **sizes, hidden=hidden, blocks=blocks)
        noise = None
        if noise_layers:
            noise = VariationalNoise(shape, layers=noise_layers, hidden=noise_hidden)
        super().__init__(flow, K, noise=noise, alpha=alpha)
