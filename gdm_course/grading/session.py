"""The boxes of one submission: opened when needed, replaced after every death."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from gdm_course.checks.ask import Arrays, Ask
from gdm_course.grading.assignment import Assignment
from gdm_course.grading.box import Box, Died, TooLate
from gdm_course.grading.notebook import Notebook
from gdm_course.grading.packing import pack_ask
from gdm_course.grading.verdict import Status
from gdm_course.grading.wire import Malformed

FAILURES = {
    TooLate: (Status.TIMEOUT, "no answer within the time allowed"),
    Malformed: (Status.MALFORMED, "what came back could not be read"),
    Died: (Status.CRASH, "the process ended or passed a limit"),
}
BROKEN = tuple(FAILURES)
OVER = (Status.TIMEOUT, "the time allowed for the whole submission was over")


@dataclass(frozen=True)
class Budget:
    """Seconds of wall clock allowed, on a machine of ordinary speed.

    Attributes:
        start: until the box is ready, before any line of the student's.
        load: all cells.
        ask: one call, beside twenty times what the reference takes.
        total: one submission.
        scale: how much slower this machine is; see `slowness`.
    """

    start: float = 60.0
    load: float = 40.0
    ask: float = 8.0
    total: float = 300.0
    scale: float = 1.0


def slowness() -> float:
    """How much slower than a quiet machine of 2023 this one is now: 1 to 5."""
    start, x = time.perf_counter(), torch.ones(64, 64)
    for _ in range(1_000):
        x = (x @ x).clamp(0, 1)
    return min(5.0, max(1.0, (time.perf_counter() - start) / 0.03))


class Failed(Exception):
    """This question cannot be judged: a status and a sentence."""

    def __init__(self, status: Status, message: str):
        super().__init__(message)
        self.status, self.message = status, message


class Session:
    """All boxes of one submission. Use as a context manager.

    Attributes:
        found: names that the cells defined.
        failure: why the cells could not be run; then no question can be asked.
    """

    def __init__(
        self,
        notebook: Notebook,
        assignment: Assignment,
        make: Callable[[], Box],
        budget: Budget,
    ):
        self.names = [*assignment.points]
        self.make, self.budget = make, budget
        self.box: Box | None = None
        self.found: frozenset[str] = frozenset()
        self.failure: Failed | None = None
        self.boxes, self.peak, self.rung = 0, 0, ""
        self.end = time.monotonic() + budget.total * budget.scale
        trained = any(q.kind == "trained" for q in assignment.questions.values())
        cells = [
            {"source": cell.source, "known": assignment.knows(cell)}
            for cell in notebook.cells
            if trained or "train" not in cell.tags
        ]
        self.cells = torch.frombuffer(
            bytearray(json.dumps(cells, ensure_ascii=False).encode()), dtype=torch.uint8
        )

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def open(self) -> None:
        """Start a box and run the cells in it, unless one is ready.

        Raises:
            Failed: the cells break the box; they would break the next one, too.
        """
        if self.failure is None and self.box is None:
            try:
                self._start()
                self._load()
            except BROKEN as error:
                status, message = FAILURES[type(error)]
                self.failure = Failed(status, f"{message} while the cells ran")
            except Failed as failure:
                self.failure = failure
        if self.failure is not None:
            self.close()
            raise self.failure

    def _start(self) -> None:
        """Start a box; once more if that fails, for none of the student's code has run."""
        for last in (False, True):
            self.box = self.make()
            self.boxes, self.rung = self.boxes + 1, self.box.rung
            try:
                return self.box.ready(self._seconds(self.budget.start))
            except BROKEN:
                if last:
                    raise
                self.close()

    def _load(self) -> None:
        seconds = self._seconds(self.budget.load)
        message = {"do": "load", "names": self.names}
        reply, _ = self.box.request(message, [self.cells], seconds)
        found = reply.get("found")
        found = [n for n in found if isinstance(n, str)] if isinstance(found, list) else []
        self.found = frozenset(found) & frozenset(self.names)

    def ask(self, name: str, ask: Ask, reference: float) -> tuple[dict, Arrays]:
        """Make one call in the box. `reference`: the seconds that the reference takes.

        Raises:
            Failed: no answer; the box is closed, and the next question gets a new one.
        """
        spec, arrays = pack_ask(ask)
        message = {"do": "ask", "name": name, "ask": spec}
        try:
            seconds = self._seconds(self.budget.ask + 20 * reference)
            reply, answer = self.box.request(message, arrays, seconds)
        except BROKEN as error:
            self.close()
            raise Failed(*FAILURES[type(error)]) from None
        return reply, tuple(answer)

    def _seconds(self, wanted: float) -> float:
        left = self.end - time.monotonic()
        if left <= 0:
            raise Failed(*OVER)
        return min(wanted * self.budget.scale, left)

    def close(self) -> None:
        """End the box."""
        if self.box is not None:
            self.peak = max(self.peak, self.box.peak)
            self.box.close()
        self.box = None
