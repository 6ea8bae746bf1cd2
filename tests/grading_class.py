"""A synthetic class: notebooks of foundations/densities with the marks they must get."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from gdm_course.source import ROOT

UNIT = "foundations/densities"
POINTS = {
    "kl_gaussian": 2,
    "js_divergence": 2,
    "fit_by_descent": 3,
    "importance_estimate": 3,
    "wasserstein_1d": 2,
    "mmd2_unbiased": 3,
}
# what a student gets wrong: a piece of the solution, and what stands there instead
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
LOOP = "    while True:\n        pass"


@dataclass(frozen=True)
class Made:
    """A submission of the class.

    Attributes:
        kind: which sort of student.
        expected: points per question; empty for a file that is no notebook.
    """

    name: str
    kind: str
    data: bytes
    expected: dict[str, float]

    @property
    def marks(self) -> float:
        return sum(self.expected.values())


@cache
def _stored(folder: str) -> str:
    return (ROOT / folder / f"{UNIT}.ipynb").read_text(encoding="utf-8")


def made(n: int, loops_each: int = LOOPS_EACH) -> Iterator[Made]:
    """A class of n. No two files are equal, and it is the same class every time."""
    for i in range(n):
        kind = MIX[7 * i % len(MIX)]
        if i % loops_each == loops_each // 2:
            kind = "loops"
        yield _made(i, kind)


def _made(i: int, kind: str) -> Made:
    name = f"student-{i:03d}/densities.ipynb"
    if kind == "broken":
        return Made(name, kind, f'{{"cells": [{i},'.encode(), {})
    whole = json.loads(_stored("exercises" if kind == "unanswered" else "solutions"))
    whole["cells"].append(
        {"cell_type": "code", "metadata": {}, "source": f"# {i}", "outputs": []}
    )
    names = [*POINTS]
    chosen = {names[i % 6], names[(i // 6) % 6]} if kind != "loops" else {names[i % 6]}
    if kind in CHANGES:
        for cell in whole["cells"]:
            if (answer := _identity(cell)) in chosen:
                source = "".join(cell["source"])
                cell["source"] = CHANGES[kind](answer, source)
    lost = chosen if kind in CHANGES else {*names} if kind == "unanswered" else set()
    expected = {n: 0.0 if n in lost else float(p) for n, p in POINTS.items()}
    return Made(name, kind, json.dumps(whole).encode(), expected)


def _identity(cell: dict) -> str:
    return cell["metadata"].get("nbgrader", {}).get("grade_id", "")


def _mistaken(name: str, source: str) -> str:
    right, wrong = MISTAKES[name]
    assert right in source, f"the solution of {name} no longer has {right!r}"
    return source.replace(right, wrong)


def _instead(line: str, source: str) -> str:
    return source[: source.index("    ### BEGIN SOLUTION")] + line


CHANGES = {
    "partly": lambda name, source: _instead("    raise NotImplementedError", source),
    "mistakes": _mistaken,
    "loops": lambda name, source: _instead(LOOP, source),
}


def write_class(folder: Path, n: int, loops_each: int = LOOPS_EACH) -> dict[str, Made]:
    """Write a class as files; returns it by name."""
    found = {one.name: one for one in made(n, loops_each)}
    for name, one in found.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(one.data)
    return found
