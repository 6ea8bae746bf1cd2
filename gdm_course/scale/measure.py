"""What a run costs on the device it is on: seconds of a step, and of its evaluations."""

import copy
import math
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import current_thread, main_thread
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


def evaluation_seconds(run: Run, most: float) -> tuple[float, float]:
    """Return what a validation costs, and what all figures at the end will cost.

    Args:
        most: seconds to find that out for a metric; what takes longer costs infinity.
    """
    model, test, valid = run.chosen(), run.splits.test, run.splits.valid
    with own_chance(run.recipe.seed), exactly():  # as at the end
        costs = [seconds_of(m, model, valid, most) for m in run.recipe.metrics]
    n_valid, n_test = len(columns(valid)[0]), len(columns(test)[0])
    once, row = costs[0]
    final = sum(2 * once + row * (n_valid + n_test) for once, row in costs)
    return once + row * n_valid, 1.2 * final


def seconds_of(
    metric: Metric, model: torch.nn.Module, x: Batch, most: float
) -> tuple[float, float]:
    """Return what a metric costs at once, and per row, from few rows and then more.

    It ends when more rows clearly cost more, or all are done.
    """
    measure, N = resolve(metric.function), len(columns(x)[0])
    once = row = math.inf
    with suppress(TimeoutError), within(most):
        few = before = fewest(measure, model, x)  # a warm-up, too
        took = seconds(measure, model, x, few)
        once, row = took, 0.0
        for rows in (min(few * 8**k, N) for k in range(1, 9)):
            now = seconds(measure, model, x, rows)
            more = now > 1.3 * took
            row = (now - took) / max(rows - before, 1) if more else 0.0
            once, took, before = max(now - row * rows, 0.0), now, rows
            if rows == N or (more and now > 0.2):
                break
    return once, row


def fewest(measure: Callable, model: torch.nn.Module, x: Batch) -> int:
    """Return how few rows a metric takes: some need more rows than features, or refuse."""
    for rows in (2, 16, 128, 1024):
        with suppress(ValueError):
            seconds(measure, model, x, rows)
            return rows
    return len(columns(x)[0])


def seconds(measure: Callable, model: torch.nn.Module, x: Batch, rows: int) -> float:
    """Time a metric on the first rows."""
    start = perf_counter()
    measure(model, rows_of(x, torch.arange(min(rows, len(columns(x)[0])))))
    return perf_counter() - start


@contextmanager
def within(most: float) -> Iterator[None]:
    """Raise TimeoutError in a block that takes longer, where a system can do that."""
    if not hasattr(signal, "setitimer") or current_thread() is not main_thread():
        yield
        return

    def ring(*_: object) -> None:
        raise TimeoutError(f"not done within {most} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, most)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
