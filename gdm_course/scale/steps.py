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


def must_fit(run: Run, fabric: Fabric) -> None:
    """Refuse several processes for two players, whose gradients nobody would exchange."""
    if run.recipe.loop != ONE_LOSS and fabric.world_size > 1:
        raise ValueError(
            f"{run.recipe.name} has two players, which train on one device: give "
            "--devices 1 and --num-nodes 1"
        )


class Steps:
    """The steps of a run, from where it is: an iterator of losses, None where unread.

    Args:
        look: read the loss after so many steps; with 1, the loop is the recipe's own.
    """

    def __init__(self, run: Run, fabric: Fabric, look: int, say: Callable):
        self.run, self.fabric, self.look = run, fabric, look
        must_fit(run, fabric)
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
            yield from watched(self, rate)
        batches = feed(run, self.fabric, self.look)
        how = (batches, rate, self.optimizer, run.recipe.clip, self.fabric.backward)
        if run.recipe.loop == ONE_LOSS:
            taken = unwatched(self.objective, *how)
        else:
            players = GuardedPlayers(self.objective, run.model)
            taken = unwatched_players(players, run.recipe.moves, *how)
        self.watch = Watch(self.fabric.device)
        for loss, norm in taken:
            self.watch.note(loss, norm)
            yield self.watch.read() if self.watch.n == self.look else None

    def unread(self) -> list[float]:
        """Return the mean loss of the steps that were not read yet, if there are any."""
        return [self.watch.read()] if self.watch.n else []


def watched(steps: Steps, rate: Callable[[int], float]) -> Iterator[float]:
    """Take the steps of the course's own loop; of two players, the loss is D's."""
    run, recipe, optimizer = steps.run, steps.run.recipe, steps.optimizer
    loop, batches = resolve(recipe.loop), feed(run, steps.fabric, 1)
    how: dict = {"lr": rate, "backward": steps.fabric.backward}
    if recipe.loop == ONE_LOSS:
        model: nn.Module = Guarded(steps.objective)
        how |= {"optimizer": optimizer, "clip": recipe.clip}
    else:
        model = GuardedPlayers(steps.objective, run.model)
        how |= {"adams": (optimizer, optimizer), "critic_steps": recipe.critic_steps}
    for _, loss, *_ in loop(model, batches, sys.maxsize // recipe.critic_steps, **how):
        yield loss


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
