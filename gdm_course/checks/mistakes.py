"""Plausible wrong answers, and what a student is told who gave one of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gdm_course.checks.ask import Arrays, Ask, run


@dataclass(frozen=True)
class Mistake:
    """A plausible wrong answer and the hint for whoever made it.

    Attributes:
        answer: the wrong function or class.
        hint: what to say to a student whose answers are the same.
        exact: the same to the last bit; otherwise the same up to rounding.
    """

    answer: Any
    hint: str
    exact: bool = False


def remark(about: Sequence[str], i: int) -> str:
    """Say what was special in ask number i, as the end of a sentence; "" if nothing."""
    special = about[i % len(about)]
    return f" (asked: {special})" if special else ""


def hint(mistakes: Sequence[Mistake], asks: list[Ask], answers: list[Arrays]) -> str | None:
    """Return the hint of the mistake that gives these very answers, if there is one."""
    for mistake in mistakes:
        try:
            made = [run(ask, mistake.answer) for ask in asks]
        except Exception:  # this mistake does not run on these inputs: not the one made
            continue
        if all(_alike(a, m, mistake.exact) for a, m in zip(answers, made)):
            return mistake.hint
    return None


def _alike(answer: Arrays, made: Arrays, exact: bool) -> bool:
    """Whether an answer is the one of a mistake, which may well be NaN."""
    if [a.shape for a in answer] != [m.shape for m in made]:
        return False
    pairs = [(a.double(), m.double()) for a, m in zip(answer, made)]
    if exact:
        return all(torch.equal(a, m) for a, m in pairs)
    return all(torch.allclose(a, m, 1e-4, 1e-5, equal_nan=True) for a, m in pairs)
