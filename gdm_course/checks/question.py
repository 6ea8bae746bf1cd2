"""A question is data: what to ask of a student's object, and how to judge the answers.

The notebook runs the asks in its own process; the grader sends the very same asks, made
from a secret seed, to a sealed box and judges outside of it. So a `judge` sees only arrays,
never the student's object.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gdm_course.chance import own_chance
from gdm_course.checks.ask import Arrays, Ask, Make, Unfit, fitted, run, to_arrays
from gdm_course.checks.compare import describe, same
from gdm_course.checks.draws import generator
from gdm_course.checks.mistakes import Mistake, hint, remark
from gdm_course.checks.progress import noted
from gdm_course.console import say
from gdm_course.environment import on

__all__ = [
    "Arrays",
    "Ask",
    "Inputs",
    "Make",
    "Mistake",
    "Question",
    "Verdict",
    "close",
    "describe",
    "remark",
    "run",
    "same",
    "to_arrays",
]

Inputs = Callable[[torch.Generator], tuple]


@dataclass(frozen=True)
class Verdict:
    """What the judge says of one question."""

    right: bool
    message: str


@dataclass(frozen=True)
class Question:
    """One question: `asks(seed)` is what to do, `judge(asks, answers)` finds what is wrong.

    Attributes:
        name, reference: what the exercise asks for, and the package's own answer to it.
        asks: from a seed to the asks, with fresh inputs.
        judge: from asks and answers to None (right) or a sentence with the wrong property.
        mistakes: plausible wrong answers; a test shows that each one fails.
        kind: close, exact, statistical, property or trained: for the report only.
        about: what is special in each ask, in their order, over and over; "" is nothing.
        seconds: of an honest answer to all asks; None: as the reference takes.
    """

    name: str
    reference: Any
    asks: Callable[[int], list[Ask]]
    judge: Callable[[list[Ask], list[Arrays]], str | None]
    mistakes: Sequence[Mistake] = ()
    kind: str = "close"
    about: Sequence[str] = ("",)
    seconds: float | None = None

    @own_chance()  # the student's generators stay where they are
    def grade(self, student: Any, seed: int = 0) -> Verdict:
        """Ask and judge in this process: for notebooks and tests, never for marks."""
        asks, answers = self.asks(seed), []
        for i, ask in enumerate(asks):
            try:
                answers.append(run(ask, student))
            except NotImplementedError:
                return Verdict(False, "not answered yet")
            except Exception as error:  # any error of the student's is an answer
                return Verdict(False, _named(error) + remark(self.about, i))
        wrong = wrong_with(self, asks, answers)
        return Verdict(not wrong, wrong or f"right ({len(asks)} asked)")

    def __call__(self, student: Any) -> None:
        """Check a student's object in a notebook: print one green or red line."""
        _announce(self.name, noted(self, self.grade(student)))


def _named(error: Exception) -> str:
    """What a call came to that gave no arrays."""
    if isinstance(error, Unfit):
        return str(error)
    return f"it raises {type(error).__name__}: {error}"


def wrong_with(question: Question, asks: list[Ask], answers: list[Arrays]) -> str | None:
    """What is wrong with the answers, with the author's hint; None if they are right.

    The notebook and the grader both judge by this. Answers that are packed otherwise than
    the reference's, a list of numbers for a vector, are judged as the reference packs them.
    """
    found, given = _judged(question, asks, answers), answers
    packed = _packed(question, asks, answers) if found else answers
    if any(p is not a for p, a in zip(packed, answers)):
        found, answers = _judged(question, asks, packed), packed
    if not found:
        return None
    known = (hint(question.mistakes, asks, those) for those in (given, answers))
    return next(filter(None, known), found)


def _judged(question: Question, asks: list[Ask], answers: list[Arrays]) -> str | None:
    """What the question's own judgement says; over odd arrays it may stumble."""
    try:
        return question.judge(asks, answers)
    except Exception as error:
        return f"the answer has a form that cannot be judged ({type(error).__name__})"


def _packed(question: Question, asks: list[Ask], answers: list[Arrays]) -> list[Arrays]:
    """The answers in the form of the reference's, where only the packing differs."""
    if not callable(question.reference):
        return answers
    forms = [[tuple(w.shape) for w in run(ask, question.reference)] for ask in asks]
    return [fitted(answer, form) for answer, form in zip(answers, forms)]


def _announce(name: str, verdict: Verdict) -> None:
    """Print a verdict; a wrong one also raises under GDM_CHECK=1 and inside nbgrader."""
    colour, mark = ("32", "✔") if verdict.right else ("31", "✘")
    say(f"\x1b[{colour}m{mark} {name}: {verdict.message}\x1b[0m")
    if not verdict.right and on("GDM_CHECK", "NBGRADER_EXECUTION"):
        raise AssertionError(f"{name}: {verdict.message}")


def close(
    name: str,
    reference: Callable,
    inputs: Inputs | Mapping[str, Inputs],
    mistakes: Sequence[Mistake] = (),
    n: int = 3,
    rtol: float = 1e-4,
    atol: float = 1e-5,
    also: Sequence[Callable] = (),
    slopes: Sequence[int] = (),
) -> Question:
    """Make a question whose answer is a function, compared with a reference in float64.

    Args:
        name: of the function.
        reference: the package's function.
        inputs: draws the arguments of one call from a generator. Or several such, each
            under the words that say what is special: whatever the seed, all are asked.
        mistakes: plausible wrong functions with their hints.
        n: how many calls at least, each with fresh inputs.
        rtol, atol: tolerances of the comparison.
        also: other answers that the text allows.
        slopes: places of arguments in which the derivative is asked for, too.
    """
    kinds = inputs if isinstance(inputs, Mapping) else {"": inputs}
    about = [words for kind in kinds for words in _words(kind, reference, slopes)]

    def judge(asks: list[Ask], answers: list[Arrays]) -> str | None:
        for i, (ask, answer) in enumerate(zip(asks, answers)):
            wanted = (run(_double(ask), f) for f in (reference, *also))
            wrong = [describe(answer, w, rtol, atol) for w in wanted]
            if all(wrong):
                return f"{wrong[0]}{remark(about, i)}"
        return None

    asks = partial(_asks, [*kinds.values()], n, slopes)
    return Question(name, reference, asks, judge, mistakes, about=about)


def _asks(kinds: list[Inputs], n: int, slopes: Sequence[int], seed: int) -> list[Ask]:
    """At least n calls, one of each kind before the first one comes again."""
    g, found = generator(seed), []
    for i in range(max(n, len(kinds))):
        call = Ask(args=kinds[i % len(kinds)](g), seed=seed)
        found += [call, *(replace(call, jacobian=True, argument=at) for at in slopes)]
    return found


def _words(kind: str, reference: Callable, slopes: Sequence[int]) -> list[str]:
    """What is special in one call and in the derivatives that go with it."""
    names = [*inspect.signature(reference).parameters] if slopes else []
    of = f", {kind}" if kind else ""
    return [kind, *(f"the derivative in {names[at]}{of}" for at in slopes)]


def _double(ask: Ask) -> Ask:
    """The same ask with floating-point inputs in float64."""
    args = tuple(
        a.double() if isinstance(a, Tensor) and a.is_floating_point() else a
        for a in ask.args
    )
    return replace(ask, args=args)
