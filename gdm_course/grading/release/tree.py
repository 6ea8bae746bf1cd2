"""All files of a release, made in memory, looked through for answers, then written."""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from gdm_course.authoring.course import Course, Unit, load
from gdm_course.grading.box import held
from gdm_course.grading.judge.assignment import Assignment, assignments
from gdm_course.grading.release import marks, package, rubric, texts
from gdm_course.source import PACKAGE


class Refused(Exception):
    """This release cannot be made; the sentence says why and what to do."""


@dataclass
class Release:
    """A tree, and what the instructor should know of it.

    Attributes:
        files: by path, relative to the tree.
        gone: modules that are left out.
        notes: one sentence each.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    gone: frozenset[str] = frozenset()
    notes: list[str] = field(default_factory=list)


def student(root: Path, keys: list[str], lectures: bool = False) -> Release:
    """The tree for students.

    Args:
        root: the checkout.
        keys: of the units.
        lectures: put the units' lectures in, which quote what is withheld.

    Raises:
        Refused: no such unit, or a line of a solution that cannot be left out.
    """
    course, maps = _chosen(root, keys)
    made = Release(gone=_gone(course, maps.values()))
    units = [course.units[key] for key in maps]
    start = set()
    for unit in units:
        kinds = ["exercises", *(["lectures"] if lectures else [])]
        start |= _notebooks(made, course, unit, kinds)
    code = package.files(start, made.gone, [*maps.values()])
    made.files |= code
    made.files["assignment.json"] = texts.assignment_map(course, maps, made.gone)
    made.files["README.md"] = texts.for_students(course, units, made)
    made.files["pyproject.toml"] = texts.project(root, lectures)
    made.notes += _builds_on(course, maps, code, made.gone)
    if lectures:
        made.notes.append("the lectures quote what is left out of the package")
    _must_not_leak(made.files, course, units, lectures)
    return made


def instructor(root: Path, keys: list[str]) -> Release:
    """The tree for instructors: the whole package, solutions, lectures and a rubric."""
    course, maps = _chosen(root, keys)
    made = Release()
    for path in sorted(PACKAGE.rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            made.files[path.relative_to(root).as_posix()] = path.read_bytes()
    for key in maps:
        unit = course.units[key]
        pages = [unit.notebook(kind) for kind in ("exercises", "solutions", "lectures")]
        for page in [*pages, unit.script("solutions"), unit.script("lectures")]:
            if (root / page).is_file():
                made.files[page] = (root / page).read_bytes()
        text, data = rubric.of(unit, maps[key])
        made.files[f"rubrics/{key}.md"] = text.encode()
        made.files[f"rubrics/{key}.json"] = texts.as_json(data)
    gone = _gone(course, maps.values())
    made.files["assignment.json"] = texts.assignment_map(course, maps, gone)
    made.files["README.md"] = texts.for_instructors([course.units[key] for key in maps])
    made.files["pyproject.toml"] = (root / "pyproject.toml").read_bytes()
    made.notes.append("this tree holds every answer: not for students")
    return made


def write(release: Release, out: Path) -> None:
    """Write a tree whole or not at all.

    Raises:
        Refused: something is there already.
        OSError: it cannot be written there.
    """
    may_be_written(out)
    out = out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    held.sweep(held.RELEASE, where=out.parent)
    temporary = held.make(held.RELEASE, out.parent)
    try:
        for name, data in sorted(release.files.items()):
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            (temporary / name).write_bytes(data)
        for path in (temporary, *temporary.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        _put(temporary, out)
    finally:
        held.drop(temporary)


def _put(temporary: Path, out: Path) -> None:
    try:
        os.replace(temporary, out)  # over an empty folder, if there is one
    except OSError:
        may_be_written(out)  # somebody was quicker
        raise


def may_be_written(out: Path) -> None:
    """Refuse a place where something is.

    Raises:
        Refused: it is a file, or a folder with anything in it.
    """
    if out.is_dir() and not any(out.iterdir()):
        return
    if out.exists() or out.is_symlink():
        raise Refused(f"{out} is not empty: give --out a folder that is new or empty")


def _chosen(root: Path, keys: list[str]) -> tuple[Course, dict[str, Assignment]]:
    course = load(root)
    known = assignments(course)
    for key in keys:
        if key not in known:
            there = ", ".join(known)
            raise Refused(f"'{key}' is no unit with an exercise; these are: {there}")
    return course, {key: known[key] for key in known if key in keys}


def _gone(course: Course, maps: Iterable[Assignment]) -> frozenset[str]:
    return frozenset().union(*(package.withheld(course, one) for one in maps))


def _notebooks(made: Release, course: Course, unit: Unit, kinds: list[str]) -> set[str]:
    """Put a unit's notebooks into the tree; the modules that they import."""
    imported = set()
    for kind in kinds:
        page = unit.notebook(kind)
        if (course.root / page).is_file():
            notebook = json.loads((course.root / page).read_text(encoding="utf-8"))
            place = page.removesuffix(".ipynb")
            text, _ = marks.released(notebook, place, made.gone)
            made.files[page] = text.encode()
            imported |= marks.imports(notebook["cells"])
    return imported


def _builds_on(
    course: Course,
    maps: dict[str, Assignment],
    code: dict[str, bytes],
    gone: frozenset[str],
) -> list[str]:
    """What a released unit needs of one that is released too, or gives away of another."""
    own = {key: package.withheld(course, one) for key, one in assignments(course).items()}
    said = []
    for key, withheld in own.items():
        if key not in maps:
            shown = [m for m in withheld - gone if package.inside(m) in code]
            if shown:
                said.append(
                    f"the tree has {_listed(shown)}, which {key} withholds: release it "
                    f"after the hand-in of {key}, or release both at once"
                )
            continue
        for user in [user for user in maps if user != key]:
            if used := _used(course.units[user], own[user]) & (withheld - own[user]):
                said.append(
                    f"{user} builds on {_listed(used)}, which {key} withholds: cells of "
                    f"{user} that need it are marked, or release {user} after that hand-in"
                )
    return said


def _used(unit: Unit, own: frozenset[str]) -> set[str]:
    """The modules that an exercise needs, but for what it withholds itself."""
    page = unit.root / unit.notebook("exercises")
    cells = json.loads(page.read_text(encoding="utf-8"))["cells"]
    return package.closure(marks.imports(cells), own)


def _listed(modules: Iterable[str]) -> str:
    return " and ".join(sorted(modules))


def _must_not_leak(
    files: dict[str, bytes], course: Course, units: list[Unit], lectures: bool
) -> None:
    """Look for lines of the solutions, except those that another exercise shows anyway."""
    plain = {name: texts.plain(name, data) for name, data in files.items()}
    for unit in units:
        own, lines = unit.notebook("exercises"), package.secrets(unit)
        shown = [t for name, t in plain.items() if name.startswith("exercises/")]
        public = "\n".join(t for t in shown if t != plain[own])
        lines = [n for n in lines if n not in package.giving_away(public, lines)]
        for name, text in plain.items():
            told = package.giving_away(text, lines)
            if told and not (lectures and name.startswith("lectures/")):
                raise Refused(
                    f"{name} would show '{told[0]}', a line of the solution of "
                    f"{unit.key}: word one of the two differently"
                )
