"""The steps of a run: the course's own loop with Fabric around it, or one for a GPU."""

import sys
from collections.abc import Callable, Iterator
from itertools import count

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from gdm_course.batching import Batch, arguments, columns
from gdm_course.recipes import resolve
from gdm_course.scale.data import Order, rows_of
from gdm_course.scale.fast import Watch, compiled, unwatched
from gdm_course.scale.run import Run
from gdm_course.training import train


class Objective(nn.Module):
    """A model whose forward is its loss."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, *batch: Tensor) -> Tensor:
        """Return the loss of a batch."""
        return self.model.loss(*batch)


class Guarded(nn.Module):
    """An `Objective` after Fabric wrapped it, for `train`.

    Fabric's precision and its gradient exchange act in forward. Its `mark_forward_method`
    would do, but on a single device that skips the precision without a word.
    """

    def __init__(self, objective: nn.Module):
        super().__init__()
        self.objective = objective

    def loss(self, *batch: Tensor) -> Tensor:
        """Return the loss of a batch through everything that Fabric put around it."""
        return self.objective(*batch)


class Steps:
    """The steps of a run, from where it is: an iterator of losses, None where unread.

    Args:
        look: read the loss after so many steps; with 1, the loop is `training.train`.
    """

    def __init__(self, run: Run, fabric: Fabric, look: int, say: Callable):
        self.run, self.fabric, self.look = run, fabric, look
        self.watch = Watch(fabric.device)
        inner = Objective(run.model)
        self.objective, self.optimizer = fabric.setup(inner, run.optimizer)
        if run.recipe.compile:
            batch = arguments(next(feed(run, fabric, 1)))
            compiled(self.objective, inner, batch, fabric.backward, say)

    def __call__(self) -> Iterator[float | None]:
        """Begin at the step that the run has reached."""
        run, first = self.run, self.run.step
        rate = lambda step: run.plan.rate(first + step)  # noqa: E731
        batches, backward = feed(run, self.fabric, self.look), self.fabric.backward
        how = {"optimizer": self.optimizer, "clip": run.recipe.clip, "backward": backward}
        if self.look == 1:
            for _, loss in train(
                Guarded(self.objective), batches, sys.maxsize, rate, **how
            ):
                yield loss
        self.watch = Watch(self.fabric.device)
        for loss, norm in unwatched(self.objective, batches, rate, **how):
            self.watch.note(loss, norm)
            yield self.watch.read() if self.watch.n == self.look else None

    def unread(self) -> list[float]:
        """Return the mean loss of the steps that were not read yet, if there are any."""
        return [self.watch.read()] if self.watch.n else []


def feed(run: Run, fabric: Fabric, block: int) -> Iterator[Batch]:
    """Yield this process's share of every batch from the run's step on.

    Args:
        block: the rows of so many steps are sent to the device at once.
    """
    x, world = run.splits.train, fabric.world_size
    N, recipe = len(columns(x)[0]), run.recipe
    order = Order(N, run.plan.batch, recipe.seed, fabric.global_rank, world)
    change = resolve(recipe.augment) if recipe.augment else lambda batch: batch
    for start in count(run.step, block):
        rows = [order.shard(step) for step in range(start, start + block)]
        for chosen in torch.stack(rows).to(fabric.device):
            yield change(rows_of(x, chosen))
