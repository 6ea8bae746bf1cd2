"""Where a judge gets its boxes from: one stage, and a nursery if the rung can have one."""

from multiprocessing import util

from gdm_course.grading.box import held
from gdm_course.grading.box.box import Box
from gdm_course.grading.box.rungs import Rung
from gdm_course.grading.box.start import Cold, Nursery
from gdm_course.grading.judge import stage
from gdm_course.grading.judge.assignment import Assignment

WARM = {"L3", "L3u"}


class Boxes:
    """Makes the boxes of one assignment on one rung.

    Args:
        rung: of the ladder.
        assignment: decides what is withheld.
        warm: fork boxes from a process that has torch; None: if this machine can.
    """

    def __init__(self, rung: Rung, assignment: Assignment, warm: bool | None = None):
        self.rung = rung
        self.stage = stage.build(assignment)
        self.warm = rung.name in WARM if warm is None else warm
        self.nursery: Nursery | None = None
        # runs when this object goes, and at the end of a process, a pool's worker included
        self.close = util.Finalize(self, _clean, (self.__dict__,), exitpriority=10)

    def make(self) -> Box:
        """Start a box; a nursery that has died is replaced once."""
        for _ in range(2):
            if (nursery := self._nursery()) is None:
                break
            try:
                return Box(nursery.spawn(), self.rung.name)
            except OSError:
                nursery.close()
        return Box(Cold(self.rung, self.stage), self.rung.name)

    def _nursery(self) -> Nursery | None:
        """The nursery, started if need be; None where boxes start cold."""
        if self.warm and (self.nursery is None or self.nursery.process.poll() is not None):
            try:
                self.nursery = Nursery(self.rung, self.stage)
            except OSError:  # no nested namespaces here
                self.warm, self.nursery = False, None
        return self.nursery


def _clean(state: dict) -> None:
    if state["nursery"] is not None:
        state["nursery"].close()
    held.drop(state["stage"])
