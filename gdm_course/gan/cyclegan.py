"""Translation without pairs: two translators, two critics, and the way there and back.

Domain A has points x, domain B has points y, and nobody knows which y belongs to which x.
G carries A to B, F carries B to A; each has a critic that knows the domain it arrives in.
Nothing is drawn from noise: a `CycleGAN` is no Sampler, no Trainable and no Density.

References:
    Zhu, Park, Isola, Efros (2017). Unpaired image-to-image translation using
        cycle-consistent adversarial networks. arXiv:1703.10593.
    Chu, Zhmoginov, Sandler (2017). CycleGAN, a master of steganography. arXiv:1712.02950.
    Taigman, Polyak, Wolf (2017). Unsupervised cross-domain image generation.
        arXiv:1611.02200 (the identity loss).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from gdm_course import validate
from gdm_course.gan.players import frozen, judged, weight
from gdm_course.nets import conv_net, mlp, precise, zero_last


class Translator(nn.Module):
    """Carry one domain to the other: x + f(x), at first a copy; or f(x) alone.

    Args:
        f: a network whose output has the shape of its input.
        copies: whether to begin as the identity: f is added, and says 0 at first.
    """

    def __init__(self, f: nn.Module, *, copies: bool = True):
        super().__init__()
        self.f, self.copies = zero_last(f) if copies else f, copies

    def forward(self, x: Tensor) -> Tensor:
        """Return where x goes: (B, *D) -> (B, *D)."""
        return x + self.f(x) if self.copies else self.f(x)


class PatchCritic(nn.Module):
    """Judge pieces of a picture, not the whole: a logit for every patch.

    Two convolutions of 4 x 4 with stride 2, and one of 1 x 1: a logit sees 10 x 10 pixels.

    Args:
        C: channels of a picture.
        hidden: channels after the first convolution; after the second, twice as many.
    """

    def __init__(self, C: int, *, hidden: int = 16):
        super().__init__()
        validate.at_least(1, C=C, hidden=hidden)
        self.net = nn.Sequential(
            nn.Conv2d(C, hidden, 4, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(hidden, 2 * hidden, 4, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(2 * hidden, 1, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return logits: (B, C, H, W) -> (B, P), P = H W / 16 if 4 divides H and W."""
        return self.net(x).flatten(1)


def cycle_loss(x: Tensor, x_back: Tensor, y: Tensor, y_back: Tensor) -> Tensor:
    """Return mean |F(G(x)) - x| + mean |G(F(y)) - y| over all numbers, equation (2): ().

    With G(y) in the place of y_back and F(x) in that of x_back it is the identity loss.
    """
    return (x_back - x).abs().mean() + (y_back - y).abs().mean()


def critic_loss(
    critic: nn.Module, real: Tensor, fake: Tensor, r1: float = 0.0, r2: float = 0.0
) -> Tensor:
    """Return softplus(critic(fake) - critic(real)), patch by patch, and penalties: ().

    Of a pair the critic says which one is real. Surplus rows have no partner.

    Args:
        critic: (B, *D) -> logits (B, P) of P patches.
        real, fake: points (B, *D) of one domain.
        r1, r2: weights of half the mean squared slope of the sum of a point's logits, on
            real and on fake points.
    """
    d_real, price_real = judged(critic, real, r1)
    d_fake, price_fake = judged(critic, fake, r2)
    n = min(len(real), len(fake))
    return softplus(d_fake[:n] - d_real[:n]).mean() + price_real + price_fake


def fooling_loss(critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """Return what a translator minimises: softplus(critic(real) - critic(fake))."""
    d_real, d_fake = precise(critic(real)).detach(), precise(critic(fake))
    n = min(len(real), len(fake))
    return softplus(d_real[:n] - d_fake[:n]).mean()


class UnpairedPlayers(nn.Module):
    """Two translators and two critics, all of a CycleGAN but its losses.

    Args:
        shape: of a point of either domain: (D,), or (C, H, W) for pictures.
        hidden: features or channels; depth: hidden layers or residual blocks.
        critic: features or channels of the critics, if not `hidden`.
        copies: whether both translators start as the identity.
    """

    def __init__(
        self, shape: Sequence[int], *, hidden=16, depth=2, critic=0, copies: bool = True
    ):
        super().__init__()
        validate.at_least(1, shape=[*shape], hidden=hidden, depth=depth)
        validate.at_least(0, critic=critic)
        validate.at_least(4, shape=[*shape[1:]])  # for the critic's two halvings
        if len(shape) not in (1, 3):
            raise ValueError(f"shape is {shape}: expected (D,), or (C, H, W) for pictures")
        self.shape, C, wide = tuple(shape), shape[0], critic or hidden
        nets = [mlp((C, *[hidden] * depth, C)) for _ in "GF"]
        critics = [mlp((C, *[wide] * depth, 1)) for _ in "BA"]
        if len(shape) == 3:
            nets = [conv_net(C, C, hidden=hidden, blocks=depth) for _ in "GF"]
            critics = [PatchCritic(C, hidden=wide) for _ in "BA"]
        self.generator = nn.ModuleList(Translator(f, copies=copies) for f in nets)
        self.discriminator = nn.ModuleList(critics)

    def to_b(self, x: Tensor) -> Tensor:
        """Return G(x), points of A carried to B: (B, *D) -> (B, *D)."""
        return precise(self.generator[0](validate.points(x, self.shape, self)))

    def to_a(self, y: Tensor) -> Tensor:
        """Return F(y), points of B carried to A: (B, *D) -> (B, *D)."""
        return precise(self.generator[1](validate.points(y, self.shape, self)))

    def constrain(self) -> None:
        """Do nothing after a critic's step: its penalties are in its loss."""


class CycleGAN(UnpairedPlayers):
    """Learn to go there and back: two adversarial games, and a price on the round trip.

    Args:
        shape, net: of a point, and of the networks: as of `UnpairedPlayers`.
        cycle, identity: weights of `cycle_loss` and of the identity loss.
        noise: standard deviation of what is added to a translation before the way back.
        r1, r2: weights of the critics' penalties, on real and on translated points.
    """

    def __init__(
        self, shape, *, cycle=10.0, identity=0.0, noise=0.0, r1=0.1, r2=0.1, **net
    ):
        super().__init__(shape, **net)
        self.cycle, self.identity = weight(cycle, "cycle"), weight(identity, "identity")
        self.r1, self.r2 = weight(r1, "r1"), weight(r2, "r2")
        self.noise = weight(noise, "noise")

    @torch.enable_grad()
    def discriminator_loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Return what the two critics minimise: (B, *D), (B', *D) -> ()."""
        with torch.no_grad():
            fake_b, fake_a = self.to_b(x), self.to_a(y)
        in_b, in_a = self.discriminator
        r = self.r1, self.r2
        return critic_loss(in_b, y, fake_b, *r) + critic_loss(in_a, x, fake_a, *r)

    def generator_loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Return what the translators minimise, equation (3): (B, *D), (B', *D) -> ()."""
        fake_b, fake_a = self.to_b(x), self.to_a(y)
        in_b, in_a = self.discriminator
        with frozen(self.discriminator):
            loss = fooling_loss(in_b, y, fake_b) + fooling_loss(in_a, x, fake_a)
        sent_b, sent_a = (t + self.noise * torch.randn_like(t) for t in (fake_b, fake_a))
        loss = loss + self.cycle * cycle_loss(x, self.to_a(sent_b), y, self.to_b(sent_a))
        if self.identity:
            loss = loss + self.identity * cycle_loss(x, self.to_a(x), y, self.to_b(y))
        return loss
