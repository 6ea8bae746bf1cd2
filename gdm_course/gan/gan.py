"""Two players: a generator that makes points from noise, a discriminator that tells.

They play for one number, V = E_p log sigmoid(D(x)) + E_q log(1 - sigmoid(D(y))), y = G(z):
D raises it, G lowers it. There is no density anywhere: a GAN samples, and no more.

References:
    Goodfellow, Pouget-Abadie, Mirza, Xu, Warde-Farley, Ozair, Courville, Bengio (2014).
        Generative adversarial networks. arXiv:1406.2661.
    Mao, Li, Xie, Lau, Wang, Smolley (2017). Least squares generative adversarial networks.
        arXiv:1611.04076.
    Lim, Ye (2017). Geometric GAN. arXiv:1705.02894 (the hinge loss).
    Jolicoeur-Martineau (2019). The relativistic discriminator: a key element missing from
        standard GAN. arXiv:1807.00734.
    Huang, Gokaslan, Kuleshov, Tompkin (2024). The GAN is dead; long live the GAN! A modern
        GAN baseline. arXiv:2501.05441 (the relativistic loss with R1 and R2).
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import relu, softplus

from gdm_course import validate
from gdm_course.batching import Batch, numbered
from gdm_course.gan.players import Players, frozen, judged, packed
from gdm_course.learning import Attempt
from gdm_course.nets import mlp
from gdm_course.training import ema, finite, gradient_norm


class GAN(Players):
    """Two perceptrons that play: D minimises -V, equation (1), G -E log sigmoid(D(G(z))).

    Args:
        D, Z: dimensions of a point and of the noise.
        hidden, depth: features and number of the hidden layers, in both players.
        more: r1, r2, pack, see `Players`.
    """

    def __init__(self, D: int = 2, *, Z: int = 2, hidden=64, depth=2, pack=1, **more):
        validate.at_least(1, D=D, Z=Z, hidden=hidden, depth=depth, pack=pack)
        inner = [hidden] * depth
        logits = nn.Sequential(mlp((pack * D, *inner, 1)), nn.Flatten(0))
        super().__init__((D,), Z, mlp((Z, *inner, D)), logits, pack=pack, **more)

    @torch.enable_grad()
    def discriminator_loss(self, x: Tensor) -> Tensor:
        """Return what D minimises, with its penalties: (B, *D) -> ()."""
        real = packed(validate.points(x, self.shape, self), self.pack)
        with torch.no_grad():
            fake = packed(self.fake(len(x)), self.pack)
        d_real, price_real = judged(self.discriminator, real, self.r1)
        d_fake, price_fake = judged(self.discriminator, fake, self.r2)
        return self.critic_objective(d_real, d_fake) + price_real + price_fake

    def generator_loss(self, x: Tensor) -> Tensor:
        """Return what G minimises, for as many fakes as data: (B, *D) -> ()."""
        with frozen(self.discriminator):
            d_real = self.discriminate(x).detach()
            return self.generator_objective(d_real, self.discriminate(self.fake(len(x))))

    def critic_objective(self, d_real: Tensor, d_fake: Tensor) -> Tensor:
        """Return -V: -log sigmoid(d) = softplus(-d), -log(1 - sigmoid(d)) = softplus(d)."""
        return softplus(-d_real).mean() + softplus(d_fake).mean()

    def generator_objective(self, d_real: Tensor, d_fake: Tensor) -> Tensor:
        """Return -E log sigmoid(d_fake), the non-saturating loss."""
        return softplus(-d_fake).mean()


class SaturatingGAN(GAN):
    """G minimises V itself, as the mathematics says, and gets no slope when it is bad."""

    def generator_objective(self, d_real: Tensor, d_fake: Tensor) -> Tensor:
        """Return E log(1 - sigmoid(d_fake)), the part of V that G can change."""
        return -softplus(d_fake).mean()


class LeastSquaresGAN(GAN):
    """Squares instead of logarithms: D wants 1 at data and -1 at fakes, G wants 0.

    With the best D, which is (p - q) / (p + q), G's loss is half of E_q of its square.
    """

    def critic_objective(self, d_real: Tensor, d_fake: Tensor) -> Tensor:
        """Return E (D(x) - 1)^2 / 2 + E (D(y) + 1)^2 / 2."""
        return ((d_real - 1).square().mean() + (d_fake + 1).square().mean()) / 2

    def generator_objective(self, d_real: Tensor, d_fake: Tensor) -> Tensor:
        """Return E D(y)^2 / 2."""
        return d_fake.square().mean() / 2


class HingeGAN(GAN):
    """D stops caring about what is right by a margin of 1; G raises D's answer."""

    def critic_objective(self, d_real: Tensor, d_fake: Tensor) -> Tensor:
        """Return E max(0, 1 - D(x)) + E max(0, 1 + D(y))."""
        return relu(1 - d_real).mean() + relu(1 + d_fake).mean()

    def generator_objective(self, d_real: Tensor, d_fake: Tensor) -> Tensor:
        """Return -E D(y)."""
        return -d_fake.mean()


class RelativisticGAN(GAN):
    """D says of a pair which one is data: only the difference of its logits counts."""

    def critic_objective(self, d_real: Tensor, d_fake: Tensor) -> Tensor:
        """Return -E log sigmoid(D(x) - D(y)), over pairs of a data point and a fake."""
        return softplus(d_fake - d_real).mean()

    def generator_objective(self, d_real: Tensor, d_fake: Tensor) -> Tensor:
        """Return -E log sigmoid(D(y) - D(x))."""
        return softplus(d_real - d_fake).mean()


Adams = Sequence[torch.optim.Optimizer]
Backward = Callable[[Tensor], None]


def move(
    loss: Tensor, adam, gan: nn.Module, who: str, step: int, last: float, backward: Backward
) -> float:
    """Take one step of one player down its own loss, or say what is not finite."""
    adam.zero_grad(set_to_none=True)
    value = finite(loss, f"{who}'s loss", gan, step, last)
    backward(loss)
    weights = [p for group in adam.param_groups for p in group["params"]]
    finite(gradient_norm(weights), f"{who}'s gradient", gan, step, value)
    adam.step()
    return value


def train_gan(
    gan: Players, batches: Iterable[Batch], steps: int, *,
    lr: float | Callable[[int], float] = 1e-3, critic_steps=1, generator_steps=1,
    betas=(0.0, 0.99), average: nn.Module | None = None, decay=0.995,
    adams: Adams | None = None, backward: Backward = Tensor.backward,
) -> Iterator[tuple[int, float, float]]:  # fmt: skip
    """Let the players move in turn: yields (step, D's loss, G's loss), steps from 1.

    Args:
        batches, steps: a new batch for every move of D; rounds of the game.
        lr: the rate of both, or a function from the step (0, 1, ...) to it.
        critic_steps, generator_steps: moves of D, and then of G, in a round.
        betas: of Adam; without momentum, for the other one moves too.
        average, decay: a copy of the generator that follows it; at first more quickly.
        adams, backward: of D and G; and what computes gradients. For large runs.
    """
    validate.at_least(1, critic_steps=critic_steps, generator_steps=generator_steps)
    rate, players = lr if callable(lr) else lambda _: lr, (gan.discriminator, gan.generator)
    make = partial(torch.optim.Adam, lr=rate(0), betas=betas, fused=True)
    for_D, for_G = adams or [make(p.parameters()) for p in players]
    d, g, attempt = math.nan, math.nan, Attempt(gan)
    for turn, batch in numbered(batches, steps * critic_steps):
        step, pause = 1 + (turn - 1) // critic_steps, turn % critic_steps
        for group in [*for_D.param_groups, *for_G.param_groups] if callable(lr) else []:
            group["lr"] = rate(step - 1)
        gan.train()
        with attempt:  # a move that fails leaves both as they were
            d = move(gan.discriminator_loss(*batch), for_D, gan, "D", step, d, backward)
            gan.constrain()
            for _ in range(0 if pause else generator_steps):
                g = move(gan.generator_loss(*batch), for_G, gan, "G", step, g, backward)
        if average is not None and not pause:
            ema(average, gan.generator, min(decay, step / (step + 10)))
        if not pause:
            yield step, d, g
