"""A generator that is told what to draw, and a discriminator that is told what it sees.

References:
    Mirza, Osindero (2014). Conditional generative adversarial nets. arXiv:1411.1784.
    Miyato, Koyama (2018). cGANs with projection discriminator. arXiv:1802.05637. A linear
        layer with one row per label, as here, is their projection.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from gdm_course import validate
from gdm_course.gan.dcgan import check_shape, doubling, halving
from gdm_course.gan.gan import RelativisticGAN
from gdm_course.gan.players import Players, frozen, judged
from gdm_course.learning import evaluating
from gdm_course.nets import precise


class ConditionalGAN(RelativisticGAN):
    """Images with labels: G sees z beside the label, D has one logit for every label.

    Args:
        shape: (C, H, W); H and W multiples of 2^halvings.
        K: number of labels.
        Z, width, halvings, blocks, r1, r2: as of `DCGAN`.
    """

    def __init__(
        self, shape: Sequence[int], K: int, *, Z: int = 64, width: int = 32,
        halvings: int = 2, blocks: int = 0, r1: float = 1.0, r2: float = 1.0,
    ):  # fmt: skip
        sizes = {"Z": Z, "width": width, "halvings": halvings}
        validate.at_least(1, shape=[*shape], K=K, **sizes)
        validate.at_least(0, blocks=blocks)
        check_shape(shape, halvings)
        generator = doubling(shape, Z + K, width, halvings, blocks, norm=False)
        critic = halving(shape, K, width, halvings, blocks)
        Players.__init__(self, shape, Z, generator, critic, r1=r1, r2=r2)
        self.K = K

    def fake(self, n: int, y: Tensor | None = None) -> Tensor:
        """Draw an image of each label y (n,), or of random labels: (n, C, H, W)."""
        like = next(self.generator.parameters())
        y = torch.randint(self.K, (n,), device=like.device) if y is None else y
        z = like.new_empty(n, self.Z).normal_()
        return precise(self.generator(torch.cat([z, one_hot(y, self.K).to(z)], 1)))

    def sample(self, n: int, y: Tensor | None = None) -> Tensor:
        """Draw n images, of the labels y (n,) or of random ones: (n, C, H, W)."""
        n = validate.count(n)
        y = y if y is None else validate.labels(y, self.K, n)
        with torch.no_grad(), evaluating(self):
            return self.fake(n, y)

    def discriminate(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the logit of each image's own label: (B, C, H, W), (B,) -> (B,)."""
        x = validate.points(x, self.shape, self)
        y = validate.labels(y, self.K, len(x))
        return label_logit(precise(self.discriminator(x)), y)

    @torch.enable_grad()
    def discriminator_loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Return what D minimises; fakes have the labels of the data: ()."""
        y = validate.labels(y, self.K, len(validate.points(x, self.shape, self)))
        with torch.no_grad():
            fake = self.fake(len(x), y)
        d_real, price_real = judged(lambda x: self.discriminate(x, y), x, self.r1)
        d_fake, price_fake = judged(lambda x: self.discriminate(x, y), fake, self.r2)
        return self.critic_objective(d_real, d_fake) + price_real + price_fake

    def generator_loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Return what G minimises, for as many fakes with the same labels: ()."""
        y = validate.labels(y, self.K, len(validate.points(x, self.shape, self)))
        with frozen(self.discriminator):
            d_real = self.discriminate(x, y).detach()
            fake = self.discriminate(self.fake(len(x), y), y)
            return self.generator_objective(d_real, fake)


def label_logit(logits: Tensor, y: Tensor) -> Tensor:
    """Pick the logit of each row's label: (B, K), (B,) -> (B,)."""
    return logits.gather(1, y[:, None]).squeeze(1)
