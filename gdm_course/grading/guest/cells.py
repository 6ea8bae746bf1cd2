"""Which cells of a notebook have to run before its answers can be asked. Runs in the box.

At first everything that the student wrote runs, whatever it is. Of the exercise's own
cells, unchanged, only what that needs: all imports, and cells that define a global which
something that runs reads. The figures and trainings around an answer would cost minutes and
decide nothing.

Where this does not end well, an answer is asked alone: after those statements only that it
needs, and not those below its own cell that give another meaning to what it uses.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from gdm_course.grading.guest.names import Step, needs, steps, together

Source = tuple[int, str]  # the number of a code cell, counted from 1, and what runs of it
DEFINES = r"^\s*(?:async\s+)?(?:def|class)\s+{0}\b|^{0}\s*(?::[^=]*)?="


@dataclass(frozen=True)
class Cell:
    """A code cell: its statements, None if it is no Python.

    Attributes:
        known: it is the exercise's own, unchanged, or trains: it runs if it is needed.
    """

    number: int
    source: str
    known: bool
    steps: list[Step] | None

    @property
    def sets(self) -> set[str]:
        """The globals that it defines."""
        return together(step.sets for step in self.steps or ())

    def means(self, name: str) -> bool:
        """Whether it defines a name, or would if it were Python."""
        if self.steps is not None:
            return name in self.sets
        return bool(re.search(DEFINES.format(re.escape(name)), self.source, re.MULTILINE))


def looked_into(cells: list[dict]) -> list[Cell]:
    """Cells as they come from the judge, each with `source` and `known`."""
    return [
        Cell(i, cell["source"], cell["known"], steps(cell["source"]))
        for i, cell in enumerate(cells, 1)
    ]


# All together -----------------------------------------------------------------------------


def plan(cells: list[Cell], names: list[str]) -> list[Source]:
    """What to run, in order, before the objects of these names are asked."""
    mine = {c.number: needs(c.source, c.steps) for c in cells if not c.known}
    needed, kept = {*names}.union(*mine.values()), []
    for cell in reversed(cells):
        if cell.known and cell.steps is not None:
            parts = _parts(cell, needed - _answered(cells, mine))
            needed |= needs(cell.source, steps("\n".join(parts)))
            kept += [(cell.number, part) for part in reversed(parts)]
        else:
            kept.append((cell.number, cell.source))
    return [(number, source) for number, source in reversed(kept) if source.strip()]


def _answered(cells: list[Cell], mine: dict[int, set[str]]) -> set[str]:
    """Names that a cell of the student's defines anew: no stub of them is needed."""
    found = set()
    for cell in (c for c in cells if not c.known):
        defined = together(s.sets for s in cell.steps or () if s.kind == "define")
        found |= defined - mine[cell.number]
    return found


def _parts(cell: Cell, needed: set[str]) -> list[str]:
    """All imports, one by one; the rest if it defines a needed name, or nothing at all."""
    imports = [step.source for step in cell.steps if step.kind == "import"]
    rest = [step for step in cell.steps if step.kind != "import"]
    sets = together(step.sets for step in rest)
    if sets & needed:
        return [*imports, "\n".join(step.source for step in rest)]
    return [*imports, *(step.source for step in rest if imports and not sets)]


# One alone --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Placed:
    """A statement in its cell, and the names that it gives or changes."""

    cell: Cell
    step: Step
    gives: frozenset[str]

    def serves(self, needed: set[str]) -> bool:
        """Whether it gives, or changes, something that is needed."""
        step = self.step
        if step.kind == "import":
            always = step.source.endswith("import *") or "__future__" in step.source
            return self.cell.known or always or bool(step.sets & needed)
        return step.kind == "file" or bool(self.gives & needed)


def alone(cells: list[Cell], name: str) -> list[Source]:
    """The statements that one answer needs, in order.

    A name has the meaning that it had where the answer was written: definitions further
    down count only if there are none above.
    """
    every = _placed(cells, name)
    end = _end(every, name)
    needed = _needed(every, end, name)
    below = needed - _given(every, end)
    return [
        (placed.cell.number, placed.step.source)
        for first, placed in _in_halves(every, end)
        if placed.serves(needed if first else below)
    ]


def _needed(every: list[Placed], end: int, name: str) -> set[str]:
    """The names that an answer needs, and what gives them needs, and so on."""
    given, needed, before = _given(every, end), {name}, set()
    while needed != before:
        before = {*needed}
        below = needed - given
        for first, placed in _in_halves(every, end):
            if placed.serves(needed if first else below):
                needed |= placed.step.now | placed.step.later
    return needed


def disturbed(cells: list[Cell], name: str) -> bool:
    """Whether statements of the student's below an answer may change what it gives.

    Imports and definitions of other names do not, nor does what only the exercise runs.
    """
    every = _placed(cells, name)
    end = _end(every, name)
    used = _needed(every, end, name)
    return any(
        placed.step.kind not in ("import", "define") or bool(placed.step.sets & used)
        for placed in every[end:]
        if not placed.cell.known
    )


def _placed(cells: list[Cell], name: str) -> list[Placed]:
    """All statements, less the exercise's stub of an answer that is given elsewhere."""
    own = any(not cell.known and name in cell.sets for cell in cells)
    found = [
        (cell, step)
        for cell in cells
        for step in cell.steps or ()
        if not (own and cell.known and name in cell.sets)
    ]
    declared = {n: s.declares for _, s in found if s.declares for n in s.sets}
    return [Placed(cell, step, _gives(step, declared)) for cell, step in found]


def _gives(step: Step, declared: dict[str, frozenset[str]]) -> frozenset[str]:
    """What a statement sets or changes, itself or by the function that it calls."""
    called = together(declared.get(name, frozenset()) for name in step.calls)
    return step.sets | step.changes | step.declares | called


def _end(every: list[Placed], name: str) -> int:
    """How many statements there are up to the last one that defines or changes a name."""
    found = [i for i, p in enumerate(every, 1) if name in p.step.sets | p.step.changes]
    return max(found, default=0)


def _given(every: list[Placed], end: int) -> set[str]:
    return together(placed.step.sets for placed in every[:end])


def _in_halves(every: list[Placed], end: int) -> Iterator[tuple[bool, Placed]]:
    return ((i < end, placed) for i, placed in enumerate(every))
