"""A perceptron for noisy points: it sees the point, and how noisy it is."""

import torch
from torch import Tensor, nn

from gdm_course import validate
from gdm_course.nets import mlp


class Waves(nn.Module):
    """A number as 2 K sines and cosines, quick and slow: (B,) -> (B, 2 K).

    Args:
        K: number of frequencies, from 0.05 to 2 radians per unit, cut off beyond +-20.
    """

    def __init__(self, K: int = 16):
        super().__init__()
        rate = 0.05 * 40 ** torch.linspace(0, 1, K)
        self.register_buffer("rate", rate, persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        """Return the sines, then the cosines: (B,) -> (B, 2 K)."""
        angle = t.clamp(-20, 20)[:, None] * self.rate.to(t)
        return torch.cat([angle.sin(), angle.cos()], 1)


class Denoiser(nn.Module):
    """A perceptron that sees a noisy point and how noisy it is: (x, log_snr, y) -> (B, D).

    Args:
        D: dimensions of a point.
        hidden: units in each hidden layer.
        depth: number of hidden layers.
        classes: number of labels; label number `classes`, or none at all, says nothing.
    """

    def __init__(self, D: int, *, hidden: int = 128, depth: int = 3, classes: int = 0):
        super().__init__()
        validate.at_least(1, D=D, hidden=hidden)
        validate.at_least(0, depth=depth, classes=classes)
        self.D, self.classes, self.waves = D, classes, Waves(8)
        self.label = nn.Embedding(classes + 1, 16) if classes else None
        seen = D + 16 + 16 * bool(classes)
        self.net = mlp((seen, *[hidden] * depth, D))

    def forward(self, x: Tensor, log_snr: Tensor, y: Tensor | None = None) -> Tensor:
        """Return what the target asks for: (B, D), (B,), labels (B,) -> (B, D)."""
        x = validate.points(x, self.D, self.net, least=0)
        seen = [x, self.waves(log_snr.to(x))]
        if self.label is not None:
            seen.append(self.label(with_null(y, self.classes, x)))
        return self.net(torch.cat(seen, 1))


def with_null(y: Tensor | None, classes: int, x: Tensor) -> Tensor:
    """Return labels 0..classes (B,), where `classes` stands for none given."""
    if y is None:
        return x.new_full((len(x),), classes, dtype=torch.int64)
    return validate.labels(y, classes + 1, len(x))
