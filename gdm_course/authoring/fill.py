"""Fill the cells that authors leave to `gdm sync`: quotes, the setup cell, the nav line."""

import ast
import posixpath
from dataclasses import replace
from pathlib import Path

from gdm_course.authoring import hour
from gdm_course.authoring.course import INDEX, Course, Unit
from gdm_course.authoring.percent import AuthoringError, Cell, Script, read
from gdm_course.source import definition

COLAB = "https://colab.research.google.com"
NO_ADDRESS = """import importlib.util

if importlib.util.find_spec("gdm_course") is None:
    raise ImportError(
        "the package gdm_course is not installed here: run 'make lab' in the course's "
        "folder, or 'pip install -e .[lab]', and choose that environment as the kernel"
    )"""
WITH_ADDRESS = """import importlib.util
import sys

from IPython import get_ipython

if importlib.util.find_spec("gdm_course") is None:
    page = "{page}"
    if "google.colab" not in sys.modules:
        raise ImportError(f"gdm_course is not installed here: {{page}} says how")
    package = f"gdm_course[notebook] @ git+{{page}}@{branch}"
    get_ipython().run_line_magic("pip", f'install -q "{{package}}"')"""


def fill(script: Script, unit: Unit, kind: str, course: Course) -> Script:
    """Return the script of a unit with every generated cell filled.

    Raises:
        AuthoringError: a quoted name does not exist.
    """
    navs = iter(range(len(script.cells)))
    cells = []
    for cell in quotes(script, course.root).cells:
        source = cell.source
        if "setup" in cell.tags:
            source = setup(course)
        elif "nav" in cell.tags:
            source = nav(unit, kind, course, first=next(navs) == 0)
        cells.append(cell.with_source(source))
    return replace(script, cells=tuple(_space(cells)))


def quotes(script: Script, root: Path) -> Script:
    """Return a script with every quoted cell filled from the package of a checkout.

    Raises:
        AuthoringError: a quoted name does not exist.
    """
    cells = [
        cell.with_source(_quote(cell.quoted, f"{script.name}:{cell.line}", root))
        if cell.quoted is not None
        else cell
        for cell in script.cells
    ]
    return replace(script, cells=tuple(cells))


def hour_of(unit: Unit) -> hour.Hour:
    """How much there is to read and to do in a unit's lecture, as it is on the disk."""
    script = read(unit.text("lectures"), unit.script("lectures"))
    return hour.hour(quotes(script, unit.root))


def setup(course: Course) -> str:
    """The code of a setup cell."""
    page = f"https://github.com/{course.repository}"
    branch = course.branch
    return (
        WITH_ADDRESS.format(page=page, branch=branch) if course.repository else NO_ADDRESS
    )


def nav(unit: Unit, kind: str, course: Course, first: bool) -> str:
    """The line under the title: badge, minutes, what to read before, where else to go."""
    here = posixpath.dirname(unit.notebook(kind))
    lines = [badge(unit.notebook(kind), course)] if course.repository and first else []
    before = [_link(course.units[need], "lectures", here) for need in unit.needs]
    facts = [str(hour_of(unit))] if first and kind == "lectures" else []
    facts += [f"before this: {', '.join(before)}"] if first and before else []
    others = [
        k for k in ("lectures", "exercises", "solutions") if k != kind and unit.has(k)
    ]
    if kind == "exercises":  # a student's tree may have no solutions
        others = ["lectures"]
    facts += [_link(unit, other, here, other.removesuffix("s")) for other in others]
    lines.append(" ·\n".join(facts))
    if kind == "lectures":
        lines.append(_neighbours(unit, course, here))
    return "\n\n".join(line for line in lines if line)


def badge(path: str, course: Course) -> str:
    """A button that opens a notebook on Colab, in one word, which may be a long line."""
    page = f"{COLAB}/github/{course.repository}/blob/{course.branch}/{path}"
    return f"[![Colab]({COLAB}/assets/colab-badge.svg)]({page})"


def _neighbours(unit: Unit, course: Course, here: str) -> str:
    order = course.written()
    at = order.index(unit)
    parts = [f"[all units]({posixpath.relpath(INDEX, here)})"]
    if at > 0:
        parts.insert(0, f"previous: {_link(order[at - 1], 'lectures', here)}")
    if at + 1 < len(order):
        parts.append(f"next: {_link(order[at + 1], 'lectures', here)}")
    return " ·\n".join(parts)


def _link(unit: Unit, kind: str, here: str, words: str | None = None) -> str:
    if not unit.has(kind):
        return words or unit.key
    return f"[{words or unit.heading[0]}]({posixpath.relpath(unit.notebook(kind), here)})"


def _quote(name: str, place: str, root: Path) -> str:
    try:
        return definition(name, root / "gdm_course").source
    except LookupError as error:
        raise AuthoringError(f"{place}: {error}") from None


def _space(cells: list[Cell]) -> list[Cell]:
    """Two empty lines around a quoted definition, as the formatter wants them."""
    spaced = list(cells)
    for i, cell in enumerate(cells):
        if cell.quoted is not None and _is_definition(cell.source):
            for at in range(max(0, i - 1), i + 1):
                spaced[at] = replace(spaced[at], gap=max(2, spaced[at].gap))
    return spaced


def _is_definition(source: str) -> bool:
    kinds = ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef
    return isinstance(ast.parse(source).body[0], kinds)
