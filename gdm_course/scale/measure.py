"""What a run costs on the device it is on: seconds of a step, and of its evaluations."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import torch

from gdm_course.batching import Batch, columns
from gdm_course.chance import own_chance
from gdm_course.recipes import Metric, resolve
from gdm_course.scale.data import rows_of
from gdm_course.scale.fast import Undone, exactly
from gdm_course.scale.run import Run

Steps = Callable[[], Iterator[Any]]


def step_seconds(run: Run, steps: Steps, clock: Callable[[], float], most: float) -> float:
    """Return seconds per step, from steps that leave no trace and take `most` seconds."""
    with undone(run):
        loop, taken, start = steps(), 0, clock()
        for _ in range(3):  # memory is taken, kernels are chosen
            next(loop)
            if clock() - start > most:
                break
        wait()
        start = now = clock()
        while not taken or (now - start < most and taken < 200):
            next(loop)
            now, taken = clock(), taken + 1
        wait()
        loop.close()
        return max((clock() - start) / taken, 1e-9)  # a clock may be coarse


def wait() -> None:
    """Let a GPU do what it was sent."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@contextmanager
def undone(run: Run) -> Iterator[None]:
    """Let whatever steps are taken leave model, optimiser and chance as they were."""
    before = copy.deepcopy(run.optimizer.state_dict())
    with own_chance(), Undone(run.model):
        yield
    run.optimizer.zero_grad(set_to_none=True)
    run.optimizer.load_state_dict(before)


def evaluation_seconds(run: Run) -> tuple[float, float]:
    """Return what a validation costs, and what all figures at the end will cost."""
    model, test, valid = run.chosen(), run.splits.test, run.splits.valid
    with own_chance(run.recipe.seed), exactly():  # as at the end
        costs = [row_seconds(metric, model, valid) for metric in run.recipe.metrics]
    n_valid, n_test = len(columns(valid)[0]), len(columns(test)[0])
    return costs[0] * n_valid, 1.2 * sum(costs) * (n_valid + n_test)


def row_seconds(metric: Metric, model: torch.nn.Module, x: Batch) -> float:
    """Time a metric on more and more rows, until it takes a moment or all are done."""
    measure, N = resolve(metric.function), len(columns(x)[0])
    for rows in (2, *(2 * 8**k for k in range(9))):  # the first time is a warm-up
        rows = min(rows, N)
        start = perf_counter()
        measure(model, rows_of(x, torch.arange(rows)))
        took = perf_counter() - start
        if took > (2 if rows == 2 else 0.2) or rows == N > 2:
            break
    return took / rows
