"""The judge: asks a box, compares outside of it, and says what a submission earned.

Expected values, tolerances, points and references live in this process only, a stranger's
code in the box only. What crosses is frames.
"""

import secrets
import time
from collections.abc import Callable
from dataclasses import replace

from gdm_course.checks.arrays import UNFIT
from gdm_course.checks.ask import Arrays, Ask
from gdm_course.checks.draws import derived
from gdm_course.checks.question import Question, wrong_with
from gdm_course.grading.box.box import Box
from gdm_course.grading.judge.assignment import Assignment
from gdm_course.grading.judge.notebook import Notebook
from gdm_course.grading.judge.session import Budget, Failed, NoBox, Session, opened
from gdm_course.grading.judge.session import ask as ask_box
from gdm_course.grading.judge.told import absent, earlier, shown, unanswered
from gdm_course.grading.judge.verdict import JUDGED, RIGHT, Mark, Result, Status

FAILED = (Status.TIMEOUT, Status.CRASH, Status.MALFORMED)


def grade(
    notebook: Notebook,
    key: str,
    assignment: Assignment,
    make: Callable[[], Box],
    budget: Budget | None = None,
    seed: int | None = None,
) -> Result:
    """Grade one notebook.

    Args:
        notebook: as the strict reader returned it.
        key: the hash of its file.
        assignment: its map.
        make: starts a box.
        budget: of time.
        seed: of the asks; a secret one, unless an appeal is to be repeated.
    """
    seed = secrets.randbits(128) if seed is None else seed
    begun = time.monotonic()
    try:
        with Session(notebook, assignment, make, budget or Budget()) as session:
            marks = [_mark(session, assignment, n, seed) for n in assignment.questions]
            status, message = _whole(session, marks)
            marks = [_again(session, assignment, mark, seed) for mark in marks]
    except NoBox:
        return unjudged(key, assignment.key, "no box gets ready")
    return Result(
        *(key, assignment.key, assignment.fingerprint, status, message, tuple(marks)),
        rung=session.rung,
        seed=seed,
        boxes=session.boxes,
        seconds=round(time.monotonic() - begun, 3),
        memory_mib=session.peak >> 20,
    )


def rejected(key: str, sentence: str) -> Result:
    """The verdict on a file that is no notebook, or of no known assignment."""
    return Result(key, "", "", Status.MALFORMED, sentence)


def unjudged(key: str, unit: str, why: str) -> Result:
    """The verdict when the grader itself fails: no mark, and the next run tries again."""
    sentence = f"the grader failed ({why}): run it again; report it if that does not help"
    return Result(key, unit, "", Status.UNJUDGED, sentence)


def _whole(session: Session, marks: list[Mark]) -> tuple[Status, str]:
    """The status of a submission, and a sentence about it if something broke."""
    if session.failure is not None:
        return session.failure.status, session.failure.message
    if (spoiled := session.spoiled) is None:
        return _judged(session), ""
    if all(mark.status in FAILED for mark in marks):
        return spoiled.status, spoiled.message
    alone = "each answer was judged by itself, after the statements that it needs"
    return _judged(session), f"{spoiled.message}: {alone}"


def _judged(session: Session) -> Status:
    return Status.UNSANDBOXED if session.rung == "L0" else Status.GRADED


def _mark(
    session: Session, assignment: Assignment, name: str, seed: int, alone: bool = False
) -> Mark:
    """Ask one question and judge the answers."""
    begun, points = time.monotonic(), assignment.points[name]
    try:
        opened(session, name, alone)
        wrong = _wrong(session, assignment, name, seed)
        status = _judged(session)
    except Failed as failure:
        wrong, status = failure.message, failure.status
    return Mark(
        name=name,
        points=points,
        earned=points if wrong is None else 0.0,
        status=status,
        message=RIGHT if wrong is None else wrong,
        seconds=round(time.monotonic() - begun, 3),
        right=wrong is None,
    )


def asks_of(question: Question, seed: int) -> list[Ask]:
    """The asks of one question under a secret seed, which the box cannot work back to.

    No two questions share an input, and torch's seed in the box says nothing of any.
    """
    asks = question.asks(derived(seed, question.name))
    return [
        replace(ask, seed=derived(seed, question.name, i) % 2**63)
        for i, ask in enumerate(asks)
    ]


def _wrong(session: Session, assignment: Assignment, name: str, seed: int) -> str | None:
    """What is wrong with the answers that the box gives; None if they are right."""
    if name not in session.told.found:
        raise Failed(*absent(session.told, name, _judged(session)))
    question, seconds = assignment.questions[name], assignment.seconds[name]
    asks = asks_of(question, seed)
    answers = [_answer(session, question, ask, seconds) for ask in asks]
    return wrong_with(question, asks, answers)


def _again(session: Session, assignment: Assignment, mark: Mark, seed: int) -> Mark:
    """Ask once more, as it was in its cell, what other cells may have made wrong.

    That is what cells below it changed, and a box that ended during the ask: a thread or
    an alarm that some other cell left behind may have ended it.
    """
    changed = mark.name in session.doubtful and mark.status in JUDGED
    ended = mark.status == Status.CRASH and session.failure is None
    if mark.right or session.spoiled is not None or not (changed or ended):
        return mark
    second = _mark(session, assignment, mark.name, seed, alone=True)
    return second if second.right else mark


def _answer(session: Session, question: Question, ask: Ask, seconds: float) -> Arrays:
    reply, answer = ask_box(session, question.name, ask, seconds)
    if reply["ok"]:
        return answer
    name, why = reply.get("error"), reply.get("why")
    if name == "NotImplementedError":
        raise Failed(*unanswered(session.told, question.name, _judged(session)))
    if name == "Unfit" and isinstance(why, str) and why in UNFIT:
        raise Failed(_judged(session), UNFIT[why])
    if name == "wire":
        known = "what it returns is no array of ordinary numbers, or too large"
        raise Failed(_judged(session), known)
    sentence = f"it raises {shown(name)}{earlier(session.told, question.name)}"
    raise Failed(_judged(session), sentence)
