"""How a run keeps to its time: by a pause, or by fitting its steps to its share."""

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from gdm_course.batching import Batch, columns
from gdm_course.chance import own_chance
from gdm_course.recipes import Metric, resolve
from gdm_course.scale.data import rows_of
from gdm_course.scale.fast import LOOK, Undone, exactly
from gdm_course.scale.plan import EVALUATIONS
from gdm_course.scale.run import Run

Steps = Callable[[], Iterator[Any]]

LEAST = 4  # a run gets at least this part of its recipe's steps, if in several windows
ENOUGH = 0.9  # of the fall of the rate: what is missing after that would change little


class Pace:
    """All the steps of the recipe; a pause at the first evaluation after some minutes.

    Args:
        minutes: until the pause.
        look: steps between two readings of the loss; by default 50 on a GPU, else 1.
    """

    def __init__(self, minutes: float = math.inf, look: int | None = None):
        self.deadline, self.look = time.monotonic() + 60 * minutes, look

    def looks(self, device: torch.device) -> int:
        """Return after how many steps the loss is read."""
        return self.look or (LOOK if device.type == "cuda" else 1)

    def begin(self, run: Run, steps: Steps) -> None:
        """Get ready before the first step; `steps` are those that the run will take."""

    def cut(self, run: Run) -> bool:
        """Say after a step whether to save and stop at once."""
        return False

    def mark(self, run: Run, seconds: float) -> None:
        """Note that an evaluation took so long."""

    def past(self) -> bool:
        """Say after an evaluation whether to stop."""
        return time.monotonic() > self.deadline


class Fitted(Pace):
    """As many steps as fit into a share of a window, with a schedule that ends with them.

    Speed is measured in the first seconds, by steps that are undone, and again all along:
    when it changes, the rest of the schedule is stretched or squeezed. Where less than a
    quarter of the recipe's steps fit, the run is cut and goes on in the next window.

    Args:
        end: of the share, in seconds as `clock` counts them.
        say: prints a line.
        neighbours: names those who run beside.
        clock: the time, which all processes of a window share.
        look: as in `Pace`.
    """

    def __init__(
        self,
        end: float,
        say: Callable[[str], Any] = print,
        neighbours: Callable[[], list[str]] = list,
        clock: Callable[[], float] = time.time,
        look: int | None = None,
    ):
        super().__init__(look=look)
        self.end, self.say, self.neighbours, self.clock = end, say, neighbours, clock
        self.share, self.stopped = end - clock(), False
        self.valid = self.final = self.speed = 0.0

    def stop(self) -> None:
        """Save and stop after this step."""
        self.stopped = True

    def left(self) -> float:
        """Return the seconds of training that are left: time is kept for the figures."""
        kept = min(self.valid + self.final, self.share / 2)
        return self.end - kept - self.clock()

    def begin(self, run: Run, steps: Steps) -> None:
        """Measure what evaluations and steps cost here, and fit the plan to it."""
        self.valid, self.final = self.evaluations(run)
        self.speed = self.trial(run, steps)
        self.since, self.at = self.clock(), run.step
        self.fit(run, least=0.0)
        self.say(
            f"{run.recipe.name}: {1000 * self.speed:.3g} ms a step, {self.final:.1f} s for "
            f"the figures; {run.plan.steps} of {run.recipe.steps} steps"
        )

    def trial(self, run: Run, steps: Steps) -> float:
        """Return seconds per step, from steps that leave no trace."""
        with undone(run):
            loop, taken = steps(), 0
            for _ in range(3):  # memory is taken, kernels are chosen
                next(loop)
            start = now = self.clock()
            while taken < 3 or (now - start < min(2, 0.03 * self.share) and taken < 200):
                next(loop)
                now, taken = self.clock(), taken + 1
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            loop.close()
            return (self.clock() - start) / taken

    def evaluations(self, run: Run) -> tuple[float, float]:
        """Return what a validation costs, and all figures at the end, in seconds."""
        model, data = run.chosen(), (run.splits.test, run.splits.valid)
        with own_chance(run.recipe.seed), exactly():  # as at the end
            costs = [seconds_per_row(m, model, data[1]) for m in run.recipe.metrics]
        rows = [len(columns(x)[0]) for x in data]
        return costs[0] * rows[1], 1.2 * sum(costs) * sum(rows)

    def fit(self, run: Run, least: float = 0.02) -> None:
        """Fit the plan to the time that is left, if that changes it by some steps.

        Args:
            least: part of the steps that are left by which it has to change.
        """
        left = self.left()
        often = max(1, min(EVALUATIONS, int(0.1 * left / max(self.valid, 1e-9))))
        more = max(0, int(0.97 * (left - often * self.valid) / self.speed))
        some, all_ = math.ceil(run.recipe.steps / LEAST), run.recipe.steps
        wanted = max(min(all_, max(run.step + more, some)), run.step + 1)
        if abs(wanted - run.plan.steps) >= least * (wanted - run.step):
            run.plan = run.plan.fitted(run.step, wanted, often)

    def cut(self, run: Run) -> bool:
        """Fit the plan anew now and then; end the run when its time is up."""
        now = self.clock()
        if self.stopped:
            return True
        if self.left() <= 0:
            if run.plan.progress(run.step) < ENOUGH:
                return True
            run.plan = replace(run.plan, steps=run.step)
        elif now - self.since > max(0.5, 0.04 * self.share):
            self.speed = (now - self.since) / (run.step - self.at)
            self.since, self.at = now, run.step
            self.fit(run)
        return False

    def mark(self, run: Run, seconds: float) -> None:
        """Leave the evaluation out of the measurement of speed."""
        self.since, self.valid = self.since + seconds, seconds
        run.beside = sorted({*run.beside, *self.neighbours()})


def seconds_per_row(metric: Metric, model: torch.nn.Module, x: Batch) -> float:
    """Time a metric on more and more rows, until it takes a moment or all are done."""
    measure, N = resolve(metric.function), len(columns(x)[0])
    rows = min(N, 100)
    measure(model, rows_of(x, torch.arange(min(N, 10))))  # warm up
    while True:
        start = time.perf_counter()
        measure(model, rows_of(x, torch.arange(rows)))
        took = time.perf_counter() - start
        if took > 0.2 or rows == N:
            return took / rows
        rows = min(N, 8 * rows)


@contextmanager
def undone(run: Run) -> Iterator[None]:
    """Let whatever steps are taken leave model, optimiser and chance as they were."""
    before = copy.deepcopy(run.optimizer.state_dict())
    with own_chance(), Undone(run.model):
        yield
    run.optimizer.zero_grad(set_to_none=True)
    run.optimizer.load_state_dict(before)
