"""The steps of a run: the course's own loop with Fabric around it, or one for a GPU."""

import sys
from collections.abc import Callable, Iterator
from itertools import count

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from gdm_course.batching import Batch, arguments, columns
from gdm_course.recipes import ONE_LOSS, resolve
from gdm_course.scale.data import Order, rows_of
from gdm_course.scale.fast import Watch, compiled, unwatched
from gdm_course.scale.players import unwatched_players
from gdm_course.scale.run import Run


class Objective(nn.Module):
    """A model whose forward is its loss, or one of its losses."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, *batch: Tensor, of: str = "loss") -> Tensor:
        """Return the loss of that name of a batch."""
        return getattr(self.model, of)(*batch)


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


class GuardedPlayers(nn.Module):
    """The same for two players, for `train_gan`.

    Args:
        objective: what Fabric wrapped.
        players: the model inside.
    """

    def __init__(self, objective: nn.Module, players: nn.Module):
        super().__init__()
        self.objective, self.constrain = objective, players.constrain
        self.generator, self.discriminator = players.generator, players.discriminator

    def discriminator_loss(self, *batch: Tensor) -> Tensor:
        """Return what the discriminator minimises, through Fabric."""
        return self.objective(*batch, of="discriminator_loss")

    def generator_loss(self, *batch: Tensor) -> Tensor:
        """Return what the generator minimises, through Fabric."""
        return self.objective(*batch, of="generator_loss")


class Steps:
    """The steps of a run, from where it is: an iterator of losses, None where unread.

    Args:
        look: read the loss after so many steps; with 1, the loop is the recipe's own.

    Raises:
        ValueError: two players are to be trained by several processes.
    """

    def __init__(self, run: Run, fabric: Fabric, look: int, say: Callable):
        self.run, self.fabric, self.look = run, fabric, look
        if run.recipe.loop != ONE_LOSS and fabric.world_size > 1:
            raise ValueError(
                f"{run.recipe.name} has two players, which train on one device: give "
                "--devices 1 and --num-nodes 1"
            )
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
        if self.look == 1:
            yield from self.watched(rate)
        how = (self.optimizer, run.recipe.clip, self.fabric.backward)
        batches = feed(run, self.fabric, self.look)
        if run.recipe.loop == ONE_LOSS:
            taken = unwatched(self.objective, batches, rate, *how)
        else:
            moves, after = run.recipe.moves, run.model.constrain
            taken = unwatched_players(self.objective, moves, after, batches, rate, *how)
        self.watch = Watch(self.fabric.device)
        for loss, norm in taken:
            self.watch.note(loss, norm)
            yield self.watch.read() if self.watch.n == self.look else None

    def watched(self, rate: Callable[[int], float]) -> Iterator[float]:
        """Take the steps of the course's own loop; of two players, the loss is D's."""
        recipe, batches = self.run.recipe, feed(self.run, self.fabric, 1)
        loop, backward = resolve(recipe.loop), self.fabric.backward
        if recipe.loop == ONE_LOSS:
            how = {"optimizer": self.optimizer, "clip": recipe.clip, "backward": backward}
            steps = loop(Guarded(self.objective), batches, sys.maxsize, rate, **how)
        else:
            how = {"adams": (self.optimizer, self.optimizer), "backward": backward}
            how |= {"lr": rate, "critic_steps": recipe.critic_steps}
            players = GuardedPlayers(self.objective, self.run.model)
            steps = loop(players, batches, sys.maxsize // recipe.critic_steps, **how)
        for _, loss, *_ in steps:
            yield loss

    def unread(self) -> list[float]:
        """Return the mean loss of the steps that were not read yet, if there are any."""
        return [self.watch.read()] if self.watch.n else []


def feed(run: Run, fabric: Fabric, block: int) -> Iterator[Batch]:
    """Yield this process's share of every batch from the run's step on.

    A step of two players takes a batch for every move of the discriminator.

    Args:
        block: the rows of so many steps are sent to the device at once.
    """
    x, world = run.splits.train, fabric.world_size
    N, recipe = len(columns(x)[0]), run.recipe
    order = Order(N, run.plan.batch, recipe.seed, fabric.global_rank, world)
    change = resolve(recipe.augment) if recipe.augment else lambda batch: batch
    for start in count(run.step * recipe.critic_steps, block):
        rows = [order.shard(step) for step in range(start, start + block)]
        for chosen in torch.stack(rows).to(fabric.device):
            yield change(rows_of(x, chosen))
