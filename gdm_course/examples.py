"""What the registry of a family holds: a small model, and data that it takes.

`gdm_course/<family>/__init__.py` has

    def models() -> dict[str, Example]     # by name, one or more for every public class
    PARTS = {"RasterDensity": "why no example of it can be built"}

for every class that samples, is trained, or has a density or a bound on one. What is in a
registry is swept by `tests/test_models.py`, and `gallery.taxonomy` asks it what it can do.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from gdm_course.protocols import abilities


@dataclass(frozen=True)
class Example:
    """How to build a small model, and what its data look like.

    Attributes:
        build: makes the model, with random weights.
        shape: of one example.
        K: how many values codes have, 2 for bits; None for real numbers.
        classes: how many labels there are, 0 for none.
        more: what else `loss` takes.
        draw: what `sample` takes besides n, where its defaults take long.
        any_length: whether examples may be shorter or longer than the shape says.
    """

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    K: int | None = None
    classes: int = 0
    more: tuple = ()
    draw: Mapping[str, int] = field(default_factory=dict)
    any_length: bool = False

    def batch(self, B: int) -> tuple:
        """Draw what `loss` takes: x (B, *shape), labels (B,) if there are any, and more."""
        size = (B, *self.shape)
        x = torch.randn(size) if self.K is None else torch.randint(self.K, size)
        y = (torch.randint(self.classes, (B,)),) if self.classes else ()
        return (x, *y, *self.more)

    def abilities(self) -> dict[str, bool]:
        """Say which protocols the model satisfies: each promise is tested by keeping it."""
        model, (x, *rest) = self.build(), self.batch(3)
        calls = {
            "Sampler": lambda: model.sample(3, **self.draw).shape[0] == 3,
            "Trainable": lambda: model.loss(x, *rest).shape == (),
            "Density": lambda: model.log_prob(x, *rest[: bool(self.classes)]).shape == (3,),
        }
        named = abilities(model)
        return {p: named[p] and kept(call) for p, call in calls.items()}


def kept(promise: Callable[[], bool]) -> bool:
    """Return what a call says, or False if it raises."""
    try:
        return bool(promise())
    except Exception:
        return False
