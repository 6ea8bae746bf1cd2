"""What the contract freezes: the network, its sampler, the training loop."""

import math

import torch
from torch import Tensor, nn

from gdm_course.nets import mlp

STEPS, BATCH, RATE = 500, 128, 3e-3
WAVES = 4  # sines and cosines of t and of d, each
JUMPS = (1, 2, 4)  # evaluations that a sample may take


class JumpNet(nn.Module):
    """A perceptron that is told where it is and how far it will jump: u(x, t, d).

    A sample goes from noise at t = 1 to data at t = 0; a jump from t to t - d is
    x - d u(x, t, d). With d = 0, u is a velocity.

    Args:
        D: dimensions of a point.
        hidden: units of each of three hidden layers; None: 128 in the plane, else 256.
    """

    def __init__(self, D: int, hidden: int | None = None):
        super().__init__()
        hidden = hidden or (128 if D == 2 else 256)
        self.D = D
        self.body = mlp((D + 2 + 4 * WAVES, hidden, hidden, hidden, D))

    def forward(self, x: Tensor, t: Tensor, d: Tensor) -> Tensor:
        """Return the mean velocity of a jump: (B, D), (B,), (B,) -> (B, D)."""
        both = torch.stack([t, d], 1)  # (B, 2)
        k = math.pi * torch.arange(1, WAVES + 1, device=x.device)
        angles = (both[:, :, None] * k / 2).flatten(1)  # (B, 2 WAVES)
        return self.body(torch.cat([x, both, angles.sin(), angles.cos()], 1))


@torch.no_grad()
def generate(net: JumpNet, eps: Tensor, evaluations: int) -> Tensor:
    """Carry noise (n, D) to samples (n, D) by equal jumps, one evaluation each."""
    x, d = eps, torch.full((len(eps),), 1 / evaluations, dtype=eps.dtype)
    for i in range(evaluations):
        x = x - d[:, None] * net(x, 1 - i * d, d)
    return x


class Contract:
    """What an entry inherits: the frozen loop. The three methods are the entry's own."""

    def times(self, n: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return noise levels t and lengths d of jumps, 0 <= d <= t <= 1: (n,), (n,)."""
        raise NotImplementedError

    def coupling(self, x: Tensor, eps: Tensor, g: torch.Generator) -> Tensor:
        """Return the noise for each row of the data: (B, D), (B, D) -> (B, D)."""
        raise NotImplementedError

    def loss(self, net: nn.Module, x: Tensor, eps: Tensor, t: Tensor, d: Tensor) -> Tensor:
        """Return what is minimised: a number ()."""
        raise NotImplementedError

    def fit(self, x: Tensor, steps: int, seed: int) -> Tensor:
        """Train on data (N, D) and return all weights of the network in one vector.

        The gradient is clipped at 1 and the rate falls to 0 along a cosine; the first
        weights and all draws follow from the seed.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = JumpNet(x.shape[1])
        g = torch.Generator().manual_seed(seed)
        optimizer = torch.optim.Adam(net.parameters(), lr=RATE)
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(steps):
            rows = x[torch.randint(len(x), (BATCH,), generator=g)]
            eps = self.coupling(rows, torch.randn(rows.shape, generator=g), g)
            optimizer.zero_grad()
            self.loss(net, rows, eps, *self.times(BATCH, g)).backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            falling.step()
        return nn.utils.parameters_to_vector(net.parameters()).detach()


def with_weights(weights: Tensor, D: int) -> JumpNet:
    """Return the frozen network with weights from `Contract.fit`.

    Raises:
        ValueError: there are not as many as it has, or they are not finite.
    """
    net = JumpNet(D)
    n = sum(p.numel() for p in net.parameters())
    if weights.shape != (n,) or not weights.isfinite().all():
        raise ValueError(
            f"weights of shape {tuple(weights.shape)}, expected ({n},) finite numbers: "
            "return what `fit` returns"
        )
    nn.utils.vector_to_parameters(weights.float(), net.parameters())
    return net.requires_grad_(False)
