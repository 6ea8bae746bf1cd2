"""The boxes of one submission: opened when needed, replaced after every death."""

import json
from collections.abc import Callable

import torch

from gdm_course.checks.ask import Arrays, Ask
from gdm_course.grading.box import clock
from gdm_course.grading.box.box import Box, Died, TooLate
from gdm_course.grading.guest.packing import pack_ask
from gdm_course.grading.guest.wire import Malformed
from gdm_course.grading.judge.assignment import Assignment
from gdm_course.grading.judge.budget import Budget
from gdm_course.grading.judge.notebook import Notebook
from gdm_course.grading.judge.told import Told, told
from gdm_course.grading.judge.verdict import Status

FAILURES = {
    TooLate: (Status.TIMEOUT, "no answer within the time allowed"),
    Malformed: (Status.MALFORMED, "what came back could not be read"),
}
BROKEN = (*FAILURES, Died)
OVER = (Status.TIMEOUT, "the time allowed for the whole submission was over")


class Failed(Exception):
    """This question cannot be judged: a status and a sentence."""

    def __init__(self, status: Status, message: str):
        super().__init__(message)
        self.status, self.message = status, message


class NoBox(Exception):
    """No box gets ready, and no line of the student's has run: the grader's own failure."""


class Session:
    """All boxes of one submission, and what is known of its cells.

    Attributes:
        loaded: which cells the box has run: "" for all, the name of a question for those
            that its answer alone needs, None for none.
        spoiled: the `Failed` of all cells together; then each answer is asked alone.
        failure: the `Failed` after which no question can be asked any more.
        told: what the box said of its cells.
        doubtful: answers that cells below them may have changed.
    """

    def __init__(
        self,
        notebook: Notebook,
        assignment: Assignment,
        make: Callable[[], Box],
        budget: Budget,
    ):
        self.names = [*assignment.points]
        self.cells = _as_array(notebook, assignment)
        self.make, self.budget = make, budget
        self.box = self.loaded = self.spoiled = self.failure = None
        self.told, self.doubtful = Told(), frozenset()
        self.boxes, self.peak, self.rung = 0, 0, ""
        self.begun, self.cpu = clock.now(), 0.0

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the box."""
        if self.box is not None:
            self.box.close()
            self.peak = max(self.peak, self.box.peak)
            self.cpu += self.box.cpu
        self.box = self.loaded = None


def seconds(session: Session, wanted: float) -> float:
    """What may be waited for, of what is left for the submission."""
    wall, cpu = clock.now() - session.begun, session.cpu + getattr(session.box, "cpu", 0.0)
    left = session.budget.total * session.budget.scale - clock.counted(wall, cpu)
    if left <= 0:
        raise Failed(*OVER)
    return min(wanted * session.budget.scale, left)


def failed(error: Exception, when: str = "") -> Failed:
    """What a box's end means for a mark. Of the judge's own sentences, all may be told."""
    ended = Status.CRASH, str(error) or "the process ended"
    status, message = FAILURES.get(type(error), ended)
    return Failed(status, message + when)


def opened(session: Session, name: str, alone: bool = False) -> None:
    """See to it that a box is ready and has run the cells.

    Args:
        session: the submission's.
        name: of the question that will be asked.
        alone: run only what this answer needs, as always once all cells broke their box.

    Raises:
        Failed: no other box starts, no time is left, or what the answer needs breaks it.
        NoBox: not even the first one starts.
    """
    if session.failure is not None:
        raise session.failure
    wanted = name if alone or session.spoiled is not None else ""
    if session.loaded == wanted:
        return
    session.close()
    try:
        _start(session)
        _load(session, wanted)
    except Failed as failure:
        session.close()
        session.failure = failure
        raise
    except BROKEN as error:
        broken = _while_cells_ran(session, error)
        if wanted or session.failure is not None:
            raise broken from None
        session.spoiled = broken
        opened(session, name)


def _while_cells_ran(session: Session, error: Exception) -> Failed:
    """What broke a box; if it was not even ready, no other one will be, either.

    Raises:
        NoBox: it was the first, so that no line of the student's can be the reason.
    """
    if session.boxes <= 2 and session.loaded is None:  # `_start` tried twice
        raise NoBox from error
    if session.loaded is None:
        session.failure = failed(error, " before any cell ran")
    session.close()
    return session.failure or failed(error, " while the cells ran")


def ask(session: Session, name: str, ask: Ask, reference: float) -> tuple[dict, Arrays]:
    """Make one call in the box. `reference`: the seconds that the reference takes.

    Raises:
        Failed: no answer; the box is closed, and the next question gets a new one.
    """
    spec, arrays = pack_ask(ask)
    message = {"do": "ask", "name": name, "ask": spec}
    try:
        allowed = seconds(session, session.budget.ask + 20 * reference)
        reply, answer = session.box.request(message, arrays, allowed)
    except BROKEN as error:
        session.close()
        raise failed(error) from None
    return reply, tuple(answer)


def _as_array(notebook: Notebook, assignment: Assignment) -> torch.Tensor:
    """The cells as bytes.

    The exercise's own cells that train are left out, unless trained weights are asked for.
    A cell of the student's with the same tag, copied or split from one, runs if it is
    needed.
    """
    trained = any(q.kind == "trained" for q in assignment.questions.values())
    cells = []
    for cell in notebook.cells:
        trains, known = "train" in cell.tags and not trained, assignment.knows(cell)
        source = "" if trains and known else cell.source
        cells.append({"source": source, "known": trains or known})
    data = bytearray(json.dumps(cells, ensure_ascii=False).encode())
    return torch.frombuffer(data, dtype=torch.uint8)


def _start(session: Session) -> None:
    """Start a box; once more if that fails, for none of the student's code has run."""
    for last in (False, True):
        session.box = session.make()
        session.boxes, session.rung = session.boxes + 1, session.box.rung
        try:
            return session.box.ready(seconds(session, session.budget.start))
        except BROKEN:
            if last:
                raise
            session.close()


def _load(session: Session, wanted: str) -> None:
    """Run the cells, and note what the box says of the names that will be asked."""
    allowed = seconds(session, session.budget.load)
    session.loaded = wanted
    message = {"do": "load", "names": session.names, "alone": wanted}
    reply, _ = session.box.request(message, [session.cells], allowed)
    session.told = told(reply, session.names)
    if not wanted:
        session.doubtful = session.told.disturbed & session.told.found
