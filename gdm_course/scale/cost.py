"""What a training step costs, counted on a CPU, and how long it may take on an H100.

    python -m gdm_course.scale.cost              # all recipes for a GPU
    python -m gdm_course.scale.cost NAME ...

The count is exact: products of matrices and convolutions, operations, and bytes that they
write, in forward and backward of a small batch. The time is an estimate, from three rates
below: whoever has a GPU measures it (`gdm train --jobs` says it in its first seconds).
"""

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from gdm_course import recipes
from gdm_course.batching import arguments
from gdm_course.learning import teaching
from gdm_course.scale.data import rows_of

FLOPS = {"bf16-mixed": 200e12, "32-true": 60e12}  # a second, of middling matrices
BYTES = 2.5e12  # a second, read or written
LAUNCH = 7e-6  # seconds of the processor per operation, autograd's share included
EVALUATED = 1.15  # all time, over training time


class Counted(TorchDispatchMode):
    """Counts operations, those of numbers, and bytes that they make; views are free."""

    def __init__(self):
        super().__init__()
        self.operations = self.bytes = self.flops = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        """Do it, and count it."""
        made = function(*args, **(kwargs or {}))
        if price := flop_registry.get(function._overloadpacket):
            self.flops += price(*args, **(kwargs or {}), out_val=made)
        storages = {t.untyped_storage().data_ptr() for t in tensors((args, kwargs))}
        new = [t for t in tensors(made) if t.untyped_storage().data_ptr() not in storages]
        if new or function._schema.is_mutable:
            self.operations += 1
        self.bytes += sum(t.numel() * t.element_size() for t in new)
        return made


def tensors(tree: Any) -> list[Tensor]:
    """Return all tensors of a nested structure."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


@dataclass(frozen=True)
class Cost:
    """Of one step: floating-point operations, operations of torch, bytes they write."""

    parameters: int
    flops: float
    operations: int
    bytes: float
    precision: str

    @property
    def seconds(self) -> float:
        """Estimate the time of a step on an H100: the processor or the GPU has to wait."""
        working = self.flops / FLOPS[self.precision] + 3 * self.bytes / BYTES
        return max(working, LAUNCH * self.operations)


def count(
    model: nn.Module, batch: tuple, precision: str, moves: Sequence[str] = ("loss",)
) -> Cost:
    """Count a step of a model on a batch: the losses of these names, one by one."""
    half = precision == "bf16-mixed"
    context = torch.autocast("cpu", torch.bfloat16) if half else nullcontext()
    with Counted() as counted:
        for name in moves:
            with context, teaching():
                loss = getattr(model, name)(*batch)
            loss.backward()
            model.zero_grad()
    parameters = sum(p.numel() for p in model.parameters())
    steps = 20 + len(list(model.parameters())) // 30  # of the optimiser, fused
    flops, operations = counted.flops, counted.operations + steps
    written = counted.bytes + 4 * 4 * parameters  # Adam's two moments, weights, average
    return Cost(parameters, flops, operations, written, precision)


def of(recipe: recipes.Recipe, few: int = 2) -> Cost:
    """Count a step of a recipe from two small batches: costs grow as straight lines."""
    x, model = recipes.resolve(recipe.data)(*recipe.data_args).train, recipe.build().train()
    one, two = (
        count(
            model, arguments(rows_of(x, torch.arange(rows))), recipe.precision, recipe.moves
        )
        for rows in (few, 2 * few)
    )
    more = (recipe.batch - few) / few
    line = lambda name: getattr(one, name) * (1 - more) + getattr(two, name) * more  # noqa: E731
    return replace(one, flops=line("flops"), bytes=line("bytes"))


def told(recipe: recipes.Recipe) -> str:
    """Say in one line what a recipe costs."""
    cost = of(recipe)
    minutes = recipe.steps * cost.seconds * EVALUATED / 60
    return (
        f"{recipe.name}: {cost.parameters:,} parameters; a step {cost.flops / 1e9:,.0f} "
        f"GFLOP, {cost.operations:,} operations, {cost.bytes / 1e9:.2f} GB written: about "
        f"{1000 * cost.seconds:.1f} ms; {recipe.steps:,} steps {minutes:.1f} min"
    )


if __name__ == "__main__":
    asked = [recipes.get(name) for name in sys.argv[1:]]
    for one in asked or [r for r in recipes.RECIPES if r.device == "gpu"]:
        print(told(one), flush=True)
