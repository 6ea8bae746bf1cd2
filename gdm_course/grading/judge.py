"""The judge: asks a box, compares outside of it, and says what a submission earned.

Expected values, tolerances, points and references live in this process only, a stranger's
code in the box only. What crosses is frames.
"""

import builtins
import secrets
import time
from collections.abc import Callable
from dataclasses import replace

from gdm_course.checks.ask import Arrays, Ask
from gdm_course.checks.draws import derived
from gdm_course.checks.question import Question, hint
from gdm_course.grading.assignment import Assignment
from gdm_course.grading.box import Box
from gdm_course.grading.notebook import Notebook
from gdm_course.grading.session import Budget, Failed, Session, opened
from gdm_course.grading.session import ask as ask_box
from gdm_course.grading.verdict import Mark, Result, Status

RIGHT = "right"


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
    with Session(notebook, assignment, make, budget or Budget()) as session:
        questions = assignment.questions.values()
        marks = [_mark(session, assignment, question, seed) for question in questions]
    seconds = round(time.monotonic() - begun, 3)
    return _result(session, key, assignment, tuple(marks), seed, seconds)


def _result(
    session: Session,
    key: str,
    assignment: Assignment,
    marks: tuple[Mark, ...],
    seed: int,
    seconds: float,
) -> Result:
    failure = session.failure
    return Result(
        sha256=key,
        assignment=assignment.key,
        fingerprint=assignment.fingerprint,
        status=failure.status if failure else _whole(session.rung),
        message=failure.message if failure else "",
        marks=marks,
        rung=session.rung,
        seed=seed,
        boxes=session.boxes,
        seconds=seconds,
        memory_mib=session.peak >> 20,
    )


def rejected(key: str, sentence: str) -> Result:
    """The verdict on a file that is no notebook, or of no known assignment."""
    return Result(key, "", "", Status.MALFORMED, sentence)


def unjudged(key: str, unit: str, why: str) -> Result:
    """The verdict when the grader itself fails: no mark, and the next run tries again."""
    sentence = f"the grader failed ({why}): run it again; report it if that does not help"
    return Result(key, unit, "", Status.UNJUDGED, sentence)


def _whole(rung: str) -> Status:
    return Status.UNSANDBOXED if rung == "L0" else Status.GRADED


def _mark(session: Session, assignment: Assignment, question: Question, seed: int) -> Mark:
    """Ask one question and judge the answers."""
    begun, points = time.monotonic(), assignment.points[question.name]
    try:
        opened(session)
        if question.name not in session.found:
            raise Failed(Status.MISSING, f"no cell defines '{question.name}'")
        asks = asks_of(question, seed)
        seconds = assignment.seconds[question.name]
        answers = [_answer(session, question, ask, seconds) for ask in asks]
        wrong, status = judged(question, asks, answers), _whole(session.rung)
    except Failed as failure:
        wrong, status = failure.message, failure.status
    return Mark(
        name=question.name,
        points=points,
        earned=0.0 if wrong else points,
        status=status,
        message=wrong or RIGHT,
        seconds=round(time.monotonic() - begun, 3),
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


def _answer(session: Session, question: Question, ask: Ask, seconds: float) -> Arrays:
    reply, answer = ask_box(session, question.name, ask, seconds)
    if reply["ok"]:
        return answer
    name = reply.get("error")
    if name == "NotImplementedError":
        raise Failed(Status.MISSING, "not answered yet")
    if name == "wire":
        known = "what it returns is no array of ordinary numbers, or too large"
        raise Failed(_whole(session.rung), known)
    raise Failed(_whole(session.rung), f"it raises {_shown(name)}")


def _shown(name: object) -> str:
    """The name of an exception, if it is one of Python's own: the rest is a stranger's."""
    found = getattr(builtins, name, None) if isinstance(name, str) else None
    known = isinstance(found, type) and issubclass(found, BaseException)
    return str(name) if known else "an error"


def judged(question: Question, asks: list[Ask], answers: list[Arrays]) -> str | None:
    """What is wrong with the answers, with the author's hint; None if they are right.

    A question's own judgement may stumble over arrays that no honest answer has: that
    is a wrong answer, not an accident of the grader.
    """
    try:
        wrong = question.judge(asks, answers)
        return wrong and (hint(question.mistakes, asks, answers) or wrong)
    except Exception as error:
        return f"the answer has a form that cannot be judged ({type(error).__name__})"
