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
from gdm_course.gan.dcgan import doubling, halving
from gdm_course.gan.gan import RelativisticGAN
from gdm_course.gan.players import Players, frozen, judged
from gdm_course.learning import evaluating
from gdm_course.nets import precise


def label_logit(logits: Tensor, y: Tensor) -> Tensor:
    """Pick the logit of each row's label: (B, K), (B,) -> (B,)."""
    return logits.gather(1, y[:, None]).squeeze(1)


class Labelled(Players):
    """Images with labels: G sees z beside the label, D has one logit for every label.

    Args:
        shape: (C, H, W); H and W multiples of 2^halvings.
        K: number of labels.
        Z: dimension of the noise.
        r1, r2: weights of the penalties on data and on fakes.
        size: width, halvings, blocks and hidden, see `doubling`.
    """

    def __init__(self, shape: Sequence[int], K: int, *, Z=64, r1=1.0, r2=1.0, **size: int):
        validate.at_least(1, K=K, Z=Z)
        G, D = doubling(shape, Z + K, **size), halving(shape, K, **size)
        Players.__init__(self, shape, Z, G, D, r1=r1, r2=r2)
        self.K = K

    def fake(self, n: int, y: Tensor | None = None) -> Tensor:
        """Draw an image of each label y (n,), or of random labels: (n, C, H, W)."""
        like = next(self.generator.parameters())
        y = torch.randint(self.K, (n,), device=like.device) if y is None else y
        z = like.new_empty(n, self.Z).normal_()
        return precise(self.generator(torch.cat([z, one_hot(y, self.K).to(z)], 1)))

    def sample(self, n: int, y: Tensor | None = None) -> Tensor:
        """Draw n images, of the labels y (n,) or of random ones: (n, C, H, W)."""
        y = None if y is None else validate.labels(y, self.K, validate.count(n))
        with torch.no_grad(), evaluating(self):
            return self.fake(validate.count(n), y)

    def discriminate(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the logit of each image's own label: (B, C, H, W), (B,) -> (B,)."""
        y = validate.labels(y, self.K, len(validate.points(x, self.shape, self)))
        return label_logit(precise(self.discriminator(x)), y)


class ConditionalGAN(Labelled, RelativisticGAN):
    """The relativistic loss for `Labelled` players: a fake has the label of its data point.

    Args: as of `Labelled`.
    """

    def __init__(self, shape: Sequence[int], K: int, **more):
        Labelled.__init__(self, shape, K, **more)

    @torch.enable_grad()
    def discriminator_loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Return what D minimises, with both penalties: (B, C, H, W), (B,) -> ()."""
        y = validate.labels(y, self.K, len(validate.points(x, self.shape, self)))
        with torch.no_grad():
            fake = self.fake(len(x), y)
        d_real, price_real = judged(lambda x: self.discriminate(x, y), x, self.r1)
        d_fake, price_fake = judged(lambda x: self.discriminate(x, y), fake, self.r2)
        return self.critic_objective(d_real, d_fake) + price_real + price_fake

    def generator_loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Return what G minimises, for as many fakes with the same labels: ()."""
        with frozen(self.discriminator):
            d_real = self.discriminate(x, y).detach()
            d_fake = self.discriminate(self.fake(len(x), y.long()), y)
            return self.generator_objective(d_real, d_fake)
