"""A generator that looks ahead: it plays against the discriminator of some steps later.

References:
    Metz, Poole, Pfau, Sohl-Dickstein (2017). Unrolled generative adversarial networks.
        arXiv:1611.02163.
"""

import torch
from torch import Tensor
from torch.func import functional_call

from gdm_course import validate
from gdm_course.gan.gan import GAN
from gdm_course.gan.players import packed


class UnrolledGAN(GAN):
    """G's loss is taken after k imagined steps of D, and their reaction to G is in it.

    D's answer to a G that crowds into one place is to mark that place as fake. With k = 0
    G learns of it too late; here its gradient goes through the k steps.

    Args:
        D: dimension of a point.
        k: imagined steps of D.
        step: size of each, of plain gradient descent.
        through: whether D's reaction is in G's gradient. If not, D has just moved.
        more: as of `GAN`.
    """

    def __init__(self, D: int = 2, *, k: int = 5, step=0.1, through: bool = True, **more):
        super().__init__(D, **more)
        self.k, self.step, self.through = validate.count(k, "k"), step, through

    @torch.enable_grad()
    def generator_loss(self, x: Tensor) -> Tensor:
        """Return G's loss against the D of k steps later: (B, D) -> ()."""
        real = packed(validate.points(x, self.shape, self), self.pack)
        fake = packed(self.fake(len(x)), self.pack)
        named = self.discriminator.named_parameters()
        later = {name: p.detach().requires_grad_() for name, p in named}
        for _ in range(self.k):
            d = [functional_call(self.discriminator, later, (y,)) for y in (real, fake)]
            loss = self.critic_objective(*d)
            slopes = torch.autograd.grad(loss, [*later.values()], create_graph=self.through)
            later = {n: p - self.step * s for (n, p), s in zip(later.items(), slopes)}
        d = [functional_call(self.discriminator, later, (y,)) for y in (real, fake)]
        return self.generator_objective(*d)
