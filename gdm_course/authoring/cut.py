"""Cut a solution into an exercise, and give the cells nbgrader's metadata."""

import re
from dataclasses import dataclass

from gdm_course.authoring.course import INDEX, Unit
from gdm_course.authoring.percent import AuthoringError, Cell, Script
from gdm_course.source import lines

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
ORIGINAL = "original"  # tag of the cell that only the tracked exercise has
STUB = ("# YOUR CODE HERE", "raise NotImplementedError")
_NAME = re.compile(r"^(?:async )?(?:def|class) +(\w+)", re.MULTILINE)
_CHECK = re.compile(r"^check\.(\w+)\(", re.MULTILINE)


@dataclass(frozen=True)
class Split:
    """A code cell in two: what the student sees, and the lines that were cut out."""

    public: str
    blocks: tuple[tuple[str, ...], ...]


def split(cell: Cell, place: str) -> Split:
    """Cut the solution blocks out of a cell and put the stub in their place.

    Raises:
        AuthoringError: a block is not closed, or closed before it was opened.
    """
    public, blocks, block = [], [], None
    for line in lines(cell.source):
        if line.strip() == BEGIN and block is None:
            block = []
            indent = line[: len(line) - len(line.lstrip())]
            public += [indent + stub for stub in STUB]
        elif line.strip() == END and block is not None:
            blocks.append(tuple(block))
            block = None
        elif line.strip() in (BEGIN, END):
            raise AuthoringError(f"{place}: '{line.strip()}' does not pair up in this cell")
        elif block is None:
            public.append(line)
        else:
            block.append(line)
    if block is not None:
        raise AuthoringError(f"{place}: '{BEGIN}' without '{END}' in this cell")
    return Split("\n".join(public), tuple(blocks))


def exercise(solution: Script, unit: Unit) -> list[tuple[Cell, dict]]:
    """The cells of the exercise: solution cells dropped, blocks replaced by the stub."""
    made = []
    for cell, extra in graded(solution, unit):
        if "solution" not in cell.tags:
            public = split(cell, f"{solution.name}:{cell.line}").public
            made.append((cell.with_source(public) if cell.kind == "code" else cell, extra))
    return made


def original(unit: Unit) -> Cell:
    """The first cell of the tracked exercise: this is not the place to work."""
    text = (
        "*This is the original, which updates replace. Begin with a copy of your own: "
        f"press the button in the [index](../../{INDEX}), or type `gdm start {unit.key}` "
        "in a terminal.*"
    )
    return Cell("markdown", text, tags=(ORIGINAL,))


def graded(solution: Script, unit: Unit) -> list[tuple[Cell, dict]]:
    """Each cell with nbgrader's metadata, where it is an answer or a check.

    Raises:
        AuthoringError: an answer cell defines nothing, or a name is used twice.
    """
    made, seen = [], set()
    for cell in solution.cells:
        place = f"{solution.name}:{cell.line}"
        extra = {} if cell.kind != "code" else _nbgrader(cell, place, unit)
        identity = extra.get("nbgrader", {}).get("grade_id")
        if identity in seen:
            raise AuthoringError(f"{place}: a second cell for '{identity}': one is enough")
        seen |= {identity} - {None}
        made.append((cell, extra))
    return made


def checked(cell: Cell) -> str | None:
    """The name of the question that a cell asks with `check.NAME(...)`, or None."""
    match = _CHECK.search(cell.source) if cell.kind == "code" else None
    return match[1] if match else None


def _nbgrader(cell: Cell, place: str, unit: Unit) -> dict:
    name = checked(cell)
    if split(cell, place).blocks:
        match = _NAME.search(cell.source)
        if match is None:
            raise AuthoringError(
                f"{place}: an answer cell must define a function or a class"
            )
        return _fields(grade_id=match[1], solution=True)
    if name is not None:
        points = unit.points.get(name, 1)
        return _fields(grade_id=f"check-{name}", grade=True, locked=True, points=points)
    return {}


def _fields(**given: object) -> dict:
    usual = {"schema_version": 3, "grade": False, "solution": False, "locked": False}
    return {"nbgrader": usual | {"task": False} | given}
