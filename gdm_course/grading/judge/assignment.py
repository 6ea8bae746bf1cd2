"""The map of an assignment: questions, points, the exercise's own cells, what is withheld.

It comes from the course, never from a submission: whatever points, names or checks a
notebook claims to have, this decides.
"""

import importlib
import re
import time
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from gdm_course.authoring.course import Course
from gdm_course.checks.question import Ask, Make, Question, run
from gdm_course.grading.judge.decides import deciding, imports, is_module
from gdm_course.grading.judge.notebook import Cell, Notebook, read
from gdm_course.source import ROOT, unix

# Rooms of tools that students may use: never withheld, whatever a check file imports.
TOOLS = {"data", "nets", "training", "protocols", "checks", "source"}
TOOLS |= {"batching", "chance", "contract", "environment", "learning"}


@dataclass(frozen=True)
class Assignment:
    """One unit's exercise, as the judge knows it.

    Attributes:
        key: the unit, such as "foundations/densities".
        points: of each question, by its name.
        known: hashes of the exercise's own code cells.
        root: the checkout.
    """

    key: str
    points: dict[str, float]
    known: frozenset[str]
    root: Path = ROOT

    @property
    def text(self) -> str:
        """The source of its questions."""
        return (self.root / f"gdm_course/checks/{self.key}.py").read_text(encoding="utf-8")

    @cached_property
    def questions(self) -> dict[str, Question]:
        """The questions in the order of their points. Imports torch."""
        module = importlib.import_module(f"gdm_course.checks.{self.key.replace('/', '.')}")
        return {name: getattr(module, name) for name in self.points}

    made = cached_property(lambda self: _made(self.questions))
    withheld = cached_property(lambda self: _withheld(self.key, self.text, self.root))
    seconds = cached_property(lambda self: _seconds(self.questions))
    fingerprint = cached_property(lambda self: _fingerprint(self))

    def knows(self, cell: Cell) -> bool:
        """Whether a cell is the exercise's own, unchanged."""
        return digest(cell.source) in self.known


def _made(questions: dict[str, Question]) -> frozenset[str]:
    """The paths of all `Make` arguments of all questions."""
    asks = [ask for q in questions.values() for seed in (0, 1) for ask in q.asks(seed)]
    return frozenset(path for ask in asks for path in _paths(vars(ask)))


def _withheld(key: str, text: str, root: Path) -> frozenset[str]:
    """Modules that the questions are about: absent in the box.

    These are the course's modules that the check file imports or that the unit's lecture
    quotes, and the one of the unit's name; tools excepted.
    """
    lecture = root / "lectures" / f"{key.replace('/', '/src/')}.py"
    quoted = lecture.read_text(encoding="utf-8") if lecture.is_file() else ""
    found = {f"gdm_course.{m}" for m in re.findall(r"\bfrom:([\w.]+)\.\w+", quoted)}
    found |= imports(text) | {f"gdm_course.{key.replace('/', '.')}"}
    return frozenset(n for n in found if n.split(".")[1] not in TOOLS and is_module(n))


def _seconds(questions: dict[str, Question]) -> dict[str, float]:
    """How long each question's reference takes for its asks, on this machine."""
    found = {n: q.seconds for n, q in questions.items() if q.seconds is not None}
    for name, question in questions.items():
        if name in found:
            continue
        begun = time.perf_counter()
        for ask in question.asks(0):
            run(ask, question.reference)
        found[name] = time.perf_counter() - begun
    return found


def _fingerprint(assignment: Assignment) -> str:
    """A hash of all that decides a mark; another one means: grade again."""
    built = {path.rpartition(".")[0] for path in assignment.made}
    check = f"gdm_course.checks.{assignment.key.replace('/', '.')}"
    code = deciding({check, *built}, assignment.root)
    decides = f"{code}{assignment.points}{sorted(assignment.known)}"
    decides += f"{sorted(assignment.withheld)}"  # what a student could copy from
    return sha256(decides.encode()).hexdigest()[:16]


def digest(source: str) -> str:
    """A hash of a cell's text that line ends and trailing blanks do not change."""
    lines = [line.rstrip() for line in unix(source.strip()).split("\n")]
    return sha256("\n".join(lines).encode("utf-8", "replace")).hexdigest()[:24]


def assignments(course: Course) -> dict[str, Assignment]:
    """The map of every unit that has an exercise."""
    return {
        key: assignment(course, key)
        for key, unit in course.units.items()
        if (course.root / unit.notebook("exercises")).is_file() and unit.points
    }


def assignment(course: Course, key: str) -> Assignment:
    """The map of one unit."""
    unit = course.units[key]
    exercise = read((course.root / unit.notebook("exercises")).read_bytes())
    known = frozenset(digest(cell.source) for cell in exercise.cells)
    return Assignment(key, dict(unit.points), known, course.root)


def match(notebook: Notebook, maps: dict[str, Assignment]) -> Assignment | None:
    """Find the assignment of a notebook: as its metadata says, else by what is in it."""
    for key, candidate in maps.items():
        if notebook.claims == f"solutions/{key.replace('/', '/src/')}.py":
            return candidate

    def likeness(candidate: Assignment) -> int:
        named = {cell.grade_id for cell in notebook.cells} & {*candidate.points}
        text = "\n".join(cell.source for cell in notebook.cells)
        defined = [
            n for n in candidate.points if f"def {n}(" in text or f"class {n}(" in text
        ]
        return len(named) + len(defined) + sum(map(candidate.knows, notebook.cells))

    best = max(maps.values(), key=likeness, default=None)
    return best if best and likeness(best) else None


def _paths(value: object) -> set[str]:
    if isinstance(value, Make):
        return {value.path} | _paths(value.args)
    if isinstance(value, Ask):
        return _paths(vars(value))
    if isinstance(value, dict):
        return set().union(*map(_paths, value.values()))
    if isinstance(value, tuple | list):
        return set().union(*map(_paths, value))
    return set()
