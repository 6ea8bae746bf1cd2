"""Run a recipe with Lightning Fabric around the course's own training loop.

The same call trains on a laptop, on one GPU, or on many GPUs of many hosts. A run that is
killed goes on from its last evaluation and ends, on a CPU, with the same bits.
"""

import math
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from lightning.fabric import Fabric

from gdm_course import checkpoints
from gdm_course.chance import own_chance
from gdm_course.recipes import Recipe, resolve
from gdm_course.scale.fast import patient, release
from gdm_course.scale.finish import publish
from gdm_course.scale.job import RUNS
from gdm_course.scale.pace import Pace
from gdm_course.scale.plan import smaller
from gdm_course.scale.run import Run, count_step, keep, naming, prepare, restore
from gdm_course.scale.state import load
from gdm_course.scale.steps import Steps
from gdm_course.scale.whole import STATE


def fit(
    recipe: Recipe,
    fabric: Fabric,
    runs: Path = RUNS,
    out: Path = checkpoints.FOLDER,
    resume: bool = True,
    say: Callable[[str], Any] = print,
    pace: Pace | None = None,
) -> dict[str, Any] | None:
    """Train a recipe, from where it was left, and write its checkpoint and card.

    Args:
        recipe, fabric: what to train, and on what; launched.
        runs, out: folders of the unfinished runs and of the finished checkpoints.
        resume: go on from the state in `runs`, if there is one.
        say, pace: print a line in the first process; when to pause, by default never.

    Returns:
        The card, or None when the run was paused.

    Raises:
        OtherRun: the unfinished run was started with other settings or other code.
        FloatingPointError: the loss is not finite any more.
        ValueError: the file in `runs` is no state of a run.
    """
    first, path = fabric.is_global_zero, runs / recipe.name / STATE
    say, pace = say if first else lambda line: None, pace or Pace()
    run, found = prepare(recipe, fabric), load(path) if resume and first else None
    if state := fabric.broadcast(found):
        restore(run, state, fabric)
        say(f"{recipe.name}: going on from step {run.step} of {run.plan.steps}")
    with naming(run):
        while not run.over and not learn(run, fabric, path, pace, say):
            pass  # with a smaller batch
    if not run.over:
        say(f"{recipe.name}: paused at step {run.step}; the same command goes on from it")
        return None
    card = fabric.broadcast(publish(run, fabric, out, say) if first else None)
    path.unlink(missing_ok=True)  # only now that the checkpoint is on disk
    return card


def learn(run: Run, fabric: Fabric, path: Path, pace: Pace, say: Callable) -> bool:
    """Take steps until the run is over or time is up, or memory is not enough.

    Returns:
        False if the batch is smaller now, and the run has to go on with that.
    """
    try:
        advance(run, fabric, path, pace, say)
        return True
    except torch.OutOfMemoryError:
        if fabric.world_size > 1 or run.plan.batch == 1:
            raise
    run.plan = smaller(run.plan)
    release(run.optimizer)
    say(f"{run.recipe.name}: out of memory, going on with batches of {run.plan.batch}")
    return False


def advance(run: Run, fabric: Fabric, path: Path, pace: Pace, say: Callable) -> None:
    """Take steps until the run is over or time is up; evaluate and save at intervals."""
    steps = Steps(run, fabric, pace.looks(fabric.device), say)
    pace.begin(run, steps)
    clock, busy = time.monotonic(), time.process_time()
    for loss in steps():
        count_step(run)
        run.losses += [] if loss is None else [loss]
        cut = pace.cut(run)
        due = run.step % run.plan.every == 0 or run.over
        if not (due or cut):
            continue
        run.losses += steps.unread()
        start = time.monotonic()
        if due:
            patient(lambda: evaluate(run, fabric, say), say)
        run.seconds += time.monotonic() - clock
        run.processor += time.process_time() - busy
        clock, busy = time.monotonic(), time.process_time()
        keep(run, fabric, path)
        pace.mark(run, time.monotonic() - start)
        if run.over or cut or fabric.broadcast(pace.past()):
            return


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
    of, unit = f"step {run.step}/{run.plan.steps}", metric.unit
    say(f"{run.recipe.name}: {of}  loss {loss:.4f}  validation {value:.4f} {unit}")
