"""Other things to minimise with the same model, against a latent that falls silent.

References:
    Bowman, Vilnis, Vinyals, Dai, Jozefowicz, Bengio (2016). Generating sentences from a
        continuous space. arXiv:1511.06349. (KL warm-up.)
    Kingma, Salimans, Jozefowicz, Chen, Sutskever, Welling (2016). Improving variational
        inference with inverse autoregressive flow. arXiv:1606.04934. (Free bits.)
    Burda, Grosse, Salakhutdinov (2016). Importance weighted autoencoders. arXiv:1509.00519.
"""

import torch
from torch import Tensor, nn

from gdm_course import validate
from gdm_course.learning import on_backward
from gdm_course.vae.vae import LatentModel


def warm_up(step: int, steps: int) -> float:
    """Return the weight of the KL at a step: from 0 to 1 in so many steps, then 1."""
    return min(1.0, step / max(steps, 1))


def free_bits(kl: Tensor, floor: float) -> Tensor:
    """Charge for a dimension only what it uses beyond `floor` nats on average: (5).

    Below the floor the gradient of the KL is 0, so nothing pushes a dimension to silence.

    Args:
        kl: KL per example and dimension (B, K), in nats.
        floor: nats that every dimension may use for nothing.

    Returns:
        The sum over dimensions of max(mean KL, floor), a scalar.
    """
    return kl.mean(0).clamp_min(floor).sum()


class WarmUp(nn.Module):
    """Train a model on -log p(x | z) + beta KL, beta rising from 0 to 1: Trainable.

    Args:
        model: whose weights are trained; evaluate that one.
        steps: until beta is 1 and the loss is the model's own.
    """

    def __init__(self, model: LatentModel, *, steps: int = 1000):
        super().__init__()
        validate.at_least(0, steps=steps)
        self.model, self.steps = model, steps
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def loss(self, x: Tensor) -> Tensor:
        """Return the loss of this step in nats; a step counts once it is backpropagated."""
        log_p, kl = self.model.terms(x)
        beta = warm_up(int(self.step), self.steps)
        loss = (beta * kl.sum(-1) - log_p).mean()
        return on_backward(loss, lambda: self.step.add_(1)) if self.training else loss


class FreeBits(nn.Module):
    """Train a model on -log p(x | z) + free bits: Trainable.

    Args:
        model: whose weights are trained; evaluate that one.
        floor: nats per dimension that cost nothing.
    """

    def __init__(self, model: LatentModel, *, floor: float = 0.1):
        super().__init__()
        self.model, self.floor = model, floor

    def loss(self, x: Tensor) -> Tensor:
        """Return the loss in nats."""
        log_p, kl = self.model.terms(x)
        return free_bits(kl, self.floor) - log_p.mean()


class ImportanceWeighted(nn.Module):
    """Train a model on its importance weighted bound (7): an IWAE, Trainable.

    Args:
        model: whose weights are trained.
        k: draws per example.
    """

    def __init__(self, model: LatentModel, *, k: int = 5):
        super().__init__()
        validate.at_least(1, k=k)
        self.model, self.k = model, k

    def loss(self, x: Tensor) -> Tensor:
        """Return the mean negative bound in nats."""
        return -self.model.iwae(x, self.k).mean()
