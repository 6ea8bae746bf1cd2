"""A synthetic class: notebooks of one unit, or of several, with the marks they must get."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from gdm_course.authoring.course import load
from gdm_course.source import ROOT

UNIT = "foundations/densities"
# all whose solution and exercise are there, but the one whose answers train
UNITS = tuple(
    key
    for key, unit in load(ROOT).units.items()
    if unit.has("solutions") and unit.points and key != "challenges/capstone"
)
# what a student of UNIT gets wrong: a piece of the solution, and what stands there instead;
# in other units the wrong answer gives back what it is given
MISTAKES = {
    "kl_gaussian": ("spread - 0.5).sum(-1)", "spread - 0.5).mean(-1)"),
    "js_divergence": ("* dx / 2", "* dx"),
    "fit_by_descent": (".sum(1).mean()", ".sum()"),
    "importance_estimate": ("w**2 *", "w *"),
    "wasserstein_1d": ("** (1 / k)", ""),
    "mmd2_unbiased": ("(N * (N - 1))", "N**2"),
}
# of twenty in a row: how many of which kind
MIX = ["solved"] * 8 + ["partly"] * 5 + ["mistakes"] * 4 + ["unanswered"] * 2 + ["broken"]
LOOPS_EACH = 100  # one in so many never ends one of its answers
LOOP = "def {}(*args, **kwargs):\n    while True:\n        pass"
ECHO = "def {}(*args, **kwargs):\n    return (*args, 0.0)[0]"


@dataclass(frozen=True)
class Made:
    """A submission of the class.

    Attributes:
        unit: what it answers.
        kind: which sort of student.
        expected: points per question; empty for a file that is no notebook.
    """

    name: str
    unit: str
    kind: str
    data: bytes
    expected: dict[str, float]

    @property
    def marks(self) -> float:
        return sum(self.expected.values())


@cache
def points(unit: str) -> dict[str, float]:
    """The points of each question: what the course says."""
    return {name: float(p) for name, p in load(ROOT).units[unit].points.items()}


@cache
def _stored(folder: str, unit: str) -> str:
    return (ROOT / folder / f"{unit}.ipynb").read_text(encoding="utf-8")


@cache
def _answers(folder: str, unit: str) -> dict[str, str]:
    """The text of each answer cell: solved, or as the exercise leaves it."""
    cells = json.loads(_stored(folder, unit))["cells"]
    return {name: "".join(c["source"]) for c in cells if (name := _answered(c, unit))}


def made(
    n: int, loops_each: int = LOOPS_EACH, units: tuple[str, ...] = (UNIT,)
) -> Iterator[Made]:
    """A class of n. No two files are equal, and it is the same class every time."""
    for i in range(n):
        kind = MIX[7 * i % len(MIX)]
        if i % loops_each == loops_each // 2:
            kind = "loops"
        yield _made(i, kind, units[sum(divmod(i, len(MIX))) % len(units)])


def _made(i: int, kind: str, unit: str) -> Made:
    name = f"student-{i:03d}/{unit.partition('/')[2]}.ipynb"
    if kind == "broken":
        return Made(name, unit, kind, f'{{"cells": [{i},'.encode(), {})
    folder = "exercises" if kind == "unanswered" else "solutions"
    whole = json.loads(_stored(folder, unit))
    whole["cells"].append(
        {"cell_type": "code", "metadata": {}, "source": f"# {i}", "outputs": []}
    )
    names = [*points(unit)]
    chosen = {names[i % len(names)], names[(i // 6) % len(names)]}
    if kind == "loops":
        chosen = {names[i % len(names)]}
    if kind in CHANGES:
        for cell in whole["cells"]:
            if (answer := _answered(cell, unit)) in chosen:
                cell["source"] = CHANGES[kind](unit, answer)
    lost = chosen if kind in CHANGES else {*names} if kind == "unanswered" else set()
    expected = {n: 0.0 if n in lost else p for n, p in points(unit).items()}
    return Made(name, unit, kind, json.dumps(whole).encode(), expected)


def _answered(cell: dict, unit: str) -> str:
    """The question that a cell answers; "" for all other cells."""
    if not cell["metadata"].get("nbgrader", {}).get("solution"):
        return ""
    defined = re.findall(r"^(?:def|class) (\w+)", "".join(cell["source"]), re.MULTILINE)
    return next((name for name in defined if name in points(unit)), "")


def _mistaken(unit: str, name: str) -> str:
    if unit != UNIT:
        return ECHO.format(name)
    right, wrong = MISTAKES[name]
    source = _answers("solutions", unit)[name]
    assert right in source, f"the solution of {name} no longer has {right!r}"
    return source.replace(right, wrong)


CHANGES = {
    "partly": lambda unit, name: _answers("exercises", unit)[name],
    "mistakes": _mistaken,
    "loops": lambda unit, name: LOOP.format(name),
}


def write_class(
    folder: Path,
    n: int,
    loops_each: int = LOOPS_EACH,
    units: tuple[str, ...] = (UNIT,),
) -> dict[str, Made]:
    """Write a class as files; returns it by name."""
    found = {one.name: one for one in made(n, loops_each, units)}
    for name, one in found.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(one.data)
    return found
