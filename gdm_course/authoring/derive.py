"""Everything that is derived from scripts, package and course.toml; `sync` writes it."""

import json
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from gdm_course.authoring import cut, house, notebook, tables
from gdm_course.authoring.course import INDEX, Course, Unit, load
from gdm_course.authoring.fill import fill
from gdm_course.authoring.percent import AuthoringError, Script, read, write
from gdm_course.source import PACKAGE

OWN = "copy the course to a folder of your own"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, and the command that repairs it, if one does."""

    what: str
    repair: str = ""
    diff: str = ""

    def __str__(self) -> str:
        """One line, the diff under it."""
        repair = f" -> {self.repair}" if self.repair else ""
        return f"{self.what}{repair}" + (f"\n{self.diff}" if self.diff else "")


@dataclass
class Plan:
    """The derived files by path relative to the checkout, and what stood in the way."""

    course: Course
    files: dict[str, str] = field(default_factory=dict)
    scripts: dict[str, Script] = field(default_factory=dict)
    before: dict[str, str] = field(default_factory=dict)  # the scripts as they were read
    problems: list[Problem] = field(default_factory=list)

    def lectures(self) -> list[tuple[str, Script]]:
        """The units whose lecture could be derived, with its script."""
        paths = [(key, u.script("lectures")) for key, u in self.course.units.items()]
        return [(key, self.scripts[p]) for key, p in paths if p in self.scripts]


def plan(root: Path) -> Plan:
    """Derive every file in memory. One unit's mistake does not hinder the others."""
    made = Plan(load(root))
    for unit in made.course.units.values():
        for kind in ("lectures", "solutions"):
            if unit.has(kind):
                _attempt(made, _derive, unit, kind)
    _attempt(made, _tables)
    return made


def sync(root: Path, force: bool = False) -> tuple[list[str], list[Problem]]:
    """Write what is not up to date.

    Args:
        root: the checkout.
        force: overwrite notebooks that were edited by hand.

    Returns:
        The paths written, and what could not be derived or was not overwritten.
    """
    made, written = plan(root), []
    for path, text in made.files.items():
        if (old := _read(root / path)) == text:
            continue
        if (problem := _theirs(made, path, old, force)) is not None:
            made.problems.append(problem)
            continue
        try:
            replace_file(root / path, text)
        except OSError as error:  # the others would not fare better
            made.problems.append(Problem(_unwritable(path, error)))
            break
        written.append(path)
    return written, made.problems


def by_hand(text: str) -> bool:
    """Whether a notebook's cells differ from what sync once wrote there."""
    try:
        return notebook.edited(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError):
        return True


def replace_file(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)
    Path(name).chmod(0o644)
    os.replace(name, path)


def _unwritable(path: str, error: OSError) -> str:
    return f"{path} cannot be written ({error.strerror}): {OWN}"


def _theirs(made: Plan, path: str, old: str | None, force: bool) -> Problem | None:
    """Why a file must not be overwritten: it holds work that is nowhere else."""
    if old != made.before.get(path, old):
        return Problem(f"{path} was saved while sync ran and is left alone", "gdm sync")
    if path.endswith(".ipynb") and old is not None and not force and by_hand(old):
        return Problem(f"{path} was edited by hand and is left alone", f"gdm adopt {path}")
    return None


def _attempt(made: Plan, step, *args) -> None:
    try:
        step(made, *args)
    except AuthoringError as error:
        problem = Problem(str(error))
        made.problems += [problem] if problem not in made.problems else []


def _derive(made: Plan, unit: Unit, kind: str) -> None:
    path, text = unit.script(kind), unit.text(kind)
    script = fill(read(text, path), unit, kind, made.course)
    made.before[path] = text
    plain = [(cell, {}) for cell in script.cells]
    cells = plain if kind == "lectures" else cut.graded(script, unit)
    made.scripts[path] = script
    made.files[path] = write(script)
    made.files[unit.notebook(kind)] = notebook.build(cells, f"{kind}/{unit.key}", path)
    if kind == "solutions":
        public = cut.exercise(fill(script, unit, "exercises", made.course), unit)
        cells = [(cut.original(unit), {}), *public]
        text = notebook.build(cells, f"exercises/{unit.key}", path)
        made.files[unit.notebook("exercises")] = text


def _tables(made: Plan) -> None:
    made.files[INDEX] = tables.index(made.course)
    if (old := _read(made.course.root / "README.md")) is not None:
        made.files["README.md"] = tables.readme(old, made.course)
    if made.course.root.resolve() == PACKAGE.parent.resolve():  # it is this house
        made.files["docs/house.svg"] = house.svg()


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None
