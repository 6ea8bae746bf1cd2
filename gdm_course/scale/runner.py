"""Run a recipe with Lightning Fabric around the course's own training loop.

The same call trains on a laptop, on one GPU, or on many GPUs of many hosts. A run that is
killed goes on from its last evaluation and ends, on a CPU, with the same bits.
"""

import math
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from gdm_course import checkpoints
from gdm_course.batching import columns
from gdm_course.chance import own_chance
from gdm_course.recipes import Recipe, resolve
from gdm_course.scale.data import Order, rows_of
from gdm_course.scale.finish import publish
from gdm_course.scale.run import Run, count_step, keep, naming, prepare, restore
from gdm_course.scale.state import load
from gdm_course.source import ROOT
from gdm_course.training import train

RUNS = (ROOT if (ROOT / "pyproject.toml").is_file() else Path()) / "build" / "runs"


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


def fit(
    recipe: Recipe,
    fabric: Fabric,
    runs: Path = RUNS,
    out: Path = checkpoints.FOLDER,
    resume: bool = True,
    minutes: float = math.inf,
    say: Callable[[str], Any] = print,
) -> dict[str, Any] | None:
    """Train a recipe, from where it was left, and write its checkpoint and card.

    Args:
        recipe, fabric: what to train, and on what; launched.
        runs, out: folders of the unfinished runs and of the finished checkpoints.
        resume: go on from the state in `runs`, if there is one.
        minutes: pause at the first evaluation after so long.
        say: prints a line of progress, in the first process.

    Returns:
        The card, or None when the run was paused.

    Raises:
        OtherRun: the unfinished run was started with other settings or other code.
        FloatingPointError: the loss is not finite any more.
    """
    first, path = fabric.is_global_zero, runs / recipe.name / "state.pt"
    say = say if first else lambda line: None
    run, found = prepare(recipe, fabric), load(path) if resume and first else None
    if state := fabric.broadcast(found):
        restore(run, state, fabric)
        say(f"{recipe.name}: going on from step {run.step} of {recipe.steps}")
    with naming(run):
        learn(run, fabric, path, time.monotonic() + 60 * minutes, say)
    if not run.over:
        say(f"{recipe.name}: paused at step {run.step}; the same command goes on from it")
        return None
    card = fabric.broadcast(publish(run, fabric, out) if first else None)
    path.unlink(missing_ok=True)  # only now that the checkpoint is on disk
    return card


def learn(run: Run, fabric: Fabric, path: Path, deadline: float, say: Callable) -> None:
    """Take steps until the run is over or time is up; evaluate and save at intervals."""
    recipe, first, clock = run.recipe, run.step, time.monotonic()
    objective, optimizer = fabric.setup(Objective(run.model), run.optimizer)
    loop = train(
        Guarded(objective),
        feed(run, fabric),
        0 if run.over else recipe.steps - first,
        lr=lambda step: recipe.rate(first + step),
        optimizer=optimizer,
        clip=recipe.clip,
        backward=fabric.backward,
    )
    for _, loss in loop:
        count_step(run, loss)
        if run.step % recipe.every and run.step < recipe.steps:
            continue
        evaluate(run, fabric, say)
        clock, run.seconds = time.monotonic(), run.seconds + time.monotonic() - clock
        keep(run, fabric, path)
        if run.over or fabric.broadcast(clock > deadline):
            return


def feed(run: Run, fabric: Fabric):
    """Yield this process's share of every batch from the run's step on."""
    x, world = run.splits.train, fabric.world_size
    N = len(columns(x)[0])
    order = Order(N, run.recipe.batch, run.recipe.seed, fabric.global_rank, world)
    for step in count(run.step):
        yield rows_of(x, order.shard(step).to(fabric.device))


def evaluate(run: Run, fabric: Fabric, say: Callable) -> None:
    """Measure the validation split in the first process and keep the best weights."""
    metric, value = run.recipe.metrics[0], None
    if fabric.is_global_zero:
        with own_chance(run.recipe.seed):
            value = resolve(metric.function)(run.chosen(), run.splits.valid).value
    value = fabric.broadcast(value)
    if not math.isfinite(value):
        raise FloatingPointError(
            f"{run.recipe.name}: {metric.name} is {value} at {run.step}"
        )
    sign = 1 if metric.lower else -1
    if run.best is None or sign * value < sign * run.value:
        run.value, run.best_step, run.waited = value, run.step, 0
        run.best = {
            k: v.detach().cpu().clone() for k, v in run.chosen().state_dict().items()
        }
    else:
        run.waited += 1
    loss = fabric.all_reduce(torch.tensor(fmean(run.losses)), reduce_op="mean").item()
    run.losses.clear()
    of, unit = f"step {run.step}/{run.recipe.steps}", metric.unit
    say(f"{run.recipe.name}: {of}  loss {loss:.4f}  validation {value:.4f} {unit}")
