"""How a run keeps to its time: by a pause, or by fitting its steps to its share."""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from gdm_course.scale.fast import LOOK, patient
from gdm_course.scale.measure import Steps, evaluation_seconds, step_seconds
from gdm_course.scale.plan import EVALUATIONS, fitted
from gdm_course.scale.run import Run

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


class Timed(Pace):
    """A pace with an end: it knows the time that is left for training.

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
        self.valid = self.final = self.speed = 0.0  # seconds: see `evaluation_seconds`

    def stop(self) -> None:
        """Save and stop after this step."""
        self.stopped = True

    def left(self) -> float:
        """Return the seconds of training that are left: time is kept for the figures."""
        kept = min(self.valid + self.final, self.share / 2)
        return self.end - kept - self.clock()


class Fitted(Timed):
    """As many steps as fit into a share of a window, with a schedule that ends with them.

    Speed is measured in the first seconds, by steps that are undone, and again all along.
    """

    def begin(self, run: Run, steps: Steps) -> None:
        """Measure what evaluations and steps cost here, and fit the plan to it."""
        measured = patient(lambda: evaluation_seconds(run, 0.1 * self.share), self.say)
        self.valid, self.final = measured
        self.speed = step_seconds(run, steps, self.clock, min(2, 0.03 * self.share))
        self.since, self.at = self.clock(), run.step
        fit(self, run, least=0.0)
        self.say(
            f"{run.recipe.name}: {1000 * self.speed:.3g} ms a step, {self.final:.1f} s for "
            f"the figures; {run.plan.steps} of {run.recipe.steps} steps"
        )

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
            fit(self, run)
        return False

    def mark(self, run: Run, seconds: float) -> None:
        """Leave the evaluation out of the measurement of speed."""
        self.since, self.valid = self.since + seconds, seconds
        run.beside = sorted({*run.beside, *self.neighbours()})


def fit(pace: Timed, run: Run, least: float = 0.02) -> None:
    """Fit the plan to the time that is left.

    Where less than a quarter of the recipe's steps fit, it is made for a quarter: the run
    will be cut and go on in the next window.

    Args:
        least: part of the steps that are left by which the plan has to change.
    """
    left = pace.left()
    often = max(1, min(EVALUATIONS, int(0.1 * left / max(pace.valid, 1e-9))))
    more = max(0, int(0.97 * (left - often * min(pace.valid, pace.share / 4)) / pace.speed))
    some, all_ = math.ceil(run.recipe.steps / LEAST), run.recipe.steps
    wanted = max(min(all_, max(run.step + more, some)), run.step + 1)
    if abs(wanted - run.plan.steps) >= least * (wanted - run.step):
        run.plan = fitted(run.plan, run.step, wanted, often)
