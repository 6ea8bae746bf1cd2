"""A question is data: what to ask of a student's object, and how to judge the answers.

The notebook runs the asks in its own process; the grader sends the very same asks, made
from a secret seed, to a sealed box and judges outside of it. So a `judge` sees only arrays,
never the student's object.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gdm_course.chance import own_chance
from gdm_course.checks.ask import Arrays, Ask, Make, run, to_arrays
from gdm_course.checks.compare import describe, same
from gdm_course.checks.draws import generator
from gdm_course.console import say
from gdm_course.environment import on

__all__ = [
    "Arrays",
    "Ask",
    "Make",
    "Mistake",
    "Question",
    "Verdict",
    "close",
    "describe",
    "run",
    "same",
    "to_arrays",
]


@dataclass(frozen=True)
class Mistake:
    """A plausible wrong answer and the hint for whoever made it."""

    answer: Any
    hint: str


@dataclass(frozen=True)
class Verdict:
    """What the judge says of one question."""

    right: bool
    message: str


@dataclass(frozen=True)
class Question:
    """One question: `asks(seed)` is what to do, `judge(asks, answers)` finds what is wrong.

    Attributes:
        name: of the function or class that the exercise asks for.
        reference: the package's own answer; controls and hints are made with it.
        asks: from a seed to the asks, with fresh inputs.
        judge: from asks and answers to None (right) or a sentence with the wrong property.
        mistakes: plausible wrong answers; a test shows that each one fails.
        kind: close, exact, statistical, property or trained: for the report only.
    """

    name: str
    reference: Any
    asks: Callable[[int], list[Ask]]
    judge: Callable[[list[Ask], list[Arrays]], str | None]
    mistakes: Sequence[Mistake] = ()
    kind: str = "close"

    @own_chance()  # the student's generators stay where they are
    def grade(self, student: Any, seed: int = 0) -> Verdict:
        """Ask and judge in this process: for notebooks and tests, never for marks."""
        asks, answers = self.asks(seed), []
        for ask in asks:
            try:
                answers.append(run(ask, student))
            except NotImplementedError:
                return Verdict(False, "not answered yet")
            except Exception as error:  # any error of the student's is an answer
                return Verdict(False, f"it raises {type(error).__name__}: {error}")
        if wrong := self.judge(asks, answers):
            return Verdict(False, hint(self.mistakes, asks, answers) or wrong)
        return Verdict(True, f"right ({len(asks)} asked)")

    def __call__(self, student: Any) -> None:
        """Check a student's object in a notebook: print one green or red line."""
        _announce(self.name, self.grade(student))


def hint(mistakes: Sequence[Mistake], asks: list[Ask], answers: list[Arrays]) -> str | None:
    """Return the hint of the mistake that gives these very answers, if there is one."""
    for mistake in mistakes:
        try:
            made = [run(ask, mistake.answer) for ask in asks]
        except Exception:  # this mistake does not run on these inputs: not the one made
            continue
        if all(same(a, m) for a, m in zip(answers, made)):
            return mistake.hint
    return None


def _announce(name: str, verdict: Verdict) -> None:
    """Print a verdict; a wrong one also raises under GDM_CHECK=1 and inside nbgrader."""
    colour, mark = ("32", "✔") if verdict.right else ("31", "✘")
    say(f"\x1b[{colour}m{mark} {name}: {verdict.message}\x1b[0m")
    if not verdict.right and on("GDM_CHECK", "NBGRADER_EXECUTION"):
        raise AssertionError(f"{name}: {verdict.message}")


def close(
    name: str,
    reference: Callable,
    inputs: Callable[[torch.Generator], tuple],
    mistakes: Sequence[Mistake] = (),
    n: int = 3,
    rtol: float = 1e-4,
    atol: float = 1e-5,
) -> Question:
    """Make a question whose answer is a function, compared with a reference in float64.

    Args:
        name: of the function.
        reference: the package's function.
        inputs: draws the arguments of one call from a generator.
        mistakes: plausible wrong functions with their hints.
        n: how many calls, each with fresh inputs.
        rtol, atol: tolerances of the comparison.
    """

    def asks(seed: int) -> list[Ask]:
        g = generator(seed)
        return [Ask(args=inputs(g), seed=seed + i) for i in range(n)]

    def judge(asks: list[Ask], answers: list[Arrays]) -> str | None:
        for ask, answer in zip(asks, answers):
            if wrong := describe(answer, run(_double(ask), reference), rtol, atol):
                return wrong
        return None

    return Question(name, reference, asks, judge, mistakes)


def _double(ask: Ask) -> Ask:
    """The same ask with floating-point inputs in float64."""
    args = tuple(
        a.double() if isinstance(a, Tensor) and a.is_floating_point() else a
        for a in ask.args
    )
    return Ask(args, ask.kwargs, ask.seed, ask.init, ask.state, ask.method, ask.jacobian)
