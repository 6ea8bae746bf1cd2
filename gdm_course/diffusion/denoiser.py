"""A perceptron for noisy points: it sees the point, and how noisy it is."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from gdm_course import validate
from gdm_course.nets import FourierFeatures


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


class ToldLinear(nn.Module):
    """silu(W h * (1 + scale) + shift), where e says scale and shift: (B, I) -> (B, O)."""

    def __init__(self, features_in: int, features_out: int, E: int):
        super().__init__()
        self.linear = nn.Linear(features_in, features_out)
        self.told = nn.Linear(E, 2 * features_out)

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        """Return (B, O) of h (B, I) and e (B, E)."""
        scale, shift = self.told(e).chunk(2, 1)
        return silu(self.linear(h) * (1 + scale) + shift)


class Denoiser(nn.Module):
    """A perceptron that sees a noisy point and how noisy it is: (x, log_snr, y) -> (B, D).

    Args:
        D: dimensions of a point.
        hidden: units in each hidden layer.
        depth: number of hidden layers.
        classes: number of labels; label number `classes`, or none at all, says nothing.
        waves: how many random waves of x it sees beside x, see `nets.FourierFeatures`.
    """

    def __init__(
        self, D: int, *, hidden: int = 128, depth: int = 3, classes: int = 0, waves=32
    ):
        super().__init__()
        validate.at_least(1, D=D, hidden=hidden, depth=depth)
        validate.at_least(0, classes=classes, waves=waves)
        self.D, self.classes, self.noise = D, classes, Waves(8)
        self.waves = FourierFeatures(D, waves, (8 / D) ** 0.5) if waves else None
        self.label = nn.Embedding(classes + 1, 16) if classes else None
        sizes, E = [D + 2 * waves, *[hidden] * depth], 16 + 16 * bool(classes)
        self.layers = nn.ModuleList(ToldLinear(i, o, E) for i, o in pairwise(sizes))
        self.out = nn.Linear(hidden, D)

    def forward(self, x: Tensor, log_snr: Tensor, y: Tensor | None = None) -> Tensor:
        """Return what the target asks for: (B, D), (B,), labels (B,) -> (B, D)."""
        x = validate.points(x, self.D, self.out, least=0)
        e, h = self.noise(log_snr.to(x)), x
        if self.label is not None:
            e = torch.cat([e, self.label(with_null(y, self.classes, x))], 1)
        if self.waves is not None:
            h = torch.cat([x, self.waves(x)], 1)
        for layer in self.layers:
            h = layer(h, e)
        return self.out(h)


def with_null(y: Tensor | None, classes: int, x: Tensor) -> Tensor:
    """Return labels 0..classes (B,), where `classes` stands for none given."""
    if y is None:
        return x.new_full((len(x),), classes, dtype=torch.int64)
    return validate.labels(y, classes + 1, len(x))
