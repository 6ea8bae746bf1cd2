"""The package as a student gets it: what the exercises import, without the answers."""

import ast
import contextlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from gdm_course.authoring.course import Course, Unit
from gdm_course.authoring.leaks import separate
from gdm_course.authoring.percent import read
from gdm_course.grading.guest.packing import pack_ask
from gdm_course.grading.guest.wire import Malformed, encode
from gdm_course.grading.judge.assignment import TOOLS, Assignment
from gdm_course.grading.judge.decides import imports
from gdm_course.grading.judge.stage import slice_of
from gdm_course.grading.release import desk, later
from gdm_course.source import PACKAGE

LONG_ENOUGH = 20  # characters that are no blanks; a shorter line is nobody's answer
# Rooms that are no model and no measure: an answer in them cannot be left out.
NEVER_LEFT_OUT = TOOLS | {
    "plotting",
    "figure_style",
    "widgets",
    "jupyter_display",
    "__init__",
}
LEFT_OUT = """\"\"\"Left out of this copy until the exercise is handed in.\"\"\"

from gdm_course.checks.later import left_out
{slice}

def __getattr__(name):
    return left_out(__name__, name)
"""
CHECKS = """\"\"\"The check lines of {unit}: they try an answer; marks come later.\"\"\"

from gdm_course.checks.later import question
{slice}

def __getattr__(name):
    return question("{unit}", name)
"""
ROOM = """\"\"\"Part of a student's copy of the course.\"\"\"
"""
BARE = ("gdm_course.grading", "gdm_course.grading.guest", "gdm_course.checks")
FOR_CHECKS = (
    "checks.ask",
    "checks.arrays",
    "chance",
    "console",
    "grading.guest.standin",
    "grading.guest.packing",
    "grading.guest.wire",
)


def within(name: str, modules: Iterable[str]) -> bool:
    """Whether a dotted name is one of some modules, or inside of one."""
    return any(name == module or name.startswith(f"{module}.") for module in modules)


@cache
def place(module: str) -> Path | None:
    """The file of a module of the course, None if it is only a folder."""
    base = PACKAGE.joinpath(*module.split(".")[1:])
    path = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    return path if path.is_file() else None


def inside(module: str) -> str:
    """Where a module's file is, relative to the checkout; "" if it has none."""
    path = place(module)
    return path.relative_to(PACKAGE.parent).as_posix() if path else ""


@cache
def imported(module: str) -> frozenset[str]:
    """The modules of the course that a module imports, anywhere in it."""
    path = place(module)
    text = path.read_text(encoding="utf-8") if path else ""
    if path and path.stem == "__init__":  # what its functions import is the gallery's
        kept = [
            n for n in ast.parse(text).body if isinstance(n, ast.Import | ast.ImportFrom)
        ]
        text = "\n".join(map(ast.unparse, kept))
    return frozenset(imports(text))


def closure(start: Iterable[str], stop: Iterable[str] = ()) -> set[str]:
    """All modules that some modules need; what `stop` names is in it, its needs are not."""
    found, todo = set(), {*start}
    while todo:
        name = todo.pop()
        found.add(name)
        if not within(name, stop) and not name.startswith("gdm_course.checks."):
            todo |= imported(name)
        parents = name.split(".")[:-1]
        todo |= {".".join(parents[: i + 1]) for i in range(1, len(parents))}
        todo -= found
    return found


def secrets(unit: Unit) -> list[str]:
    """The lines of a unit's solution that its exercise does not show."""
    name = unit.script("solutions")
    parts = separate(read(unit.text("solutions"), name))
    known = f"{parts.code}\n{parts.markdown}"
    lines = [line for block in parts.secret for line in block]
    return [n for n in lines if len(n.replace(" ", "")) >= LONG_ENOUGH and n not in known]


def giving_away(text: str, lines: Iterable[str]) -> list[str]:
    """Which lines stand in a text, however they are indented."""
    there = {" ".join(line.split()) for line in text.split("\n")}
    return [line for line in lines if line in there]


def withheld(course: Course, assignment: Assignment) -> frozenset[str]:
    """What a release of one unit leaves out.

    These are the modules that its questions are about, as in the grader's box, and any
    model of the course that has a line of its solution.
    """
    lines, found = secrets(course.units[assignment.key]), set(assignment.withheld)
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        family = parts[0] in course.families
        if family and giving_away(path.read_text(encoding="utf-8"), lines):
            found.add(".".join(["gdm_course", *parts]).removesuffix(".__init__"))
    return frozenset(n for n in found if not within(n, found - {n}))


def files(start: set[str], gone: set[str], maps: list[Assignment]) -> dict[str, bytes]:
    """The files of gdm_course/ in a student's tree, by path.

    Args:
        start: modules that the notebooks import.
        gone: modules to leave out.
        maps: of the units that are released.
    """
    built = frozenset().union(*(one.made for one in maps))
    data = {f"gdm_course.data.{p.stem}" for p in (PACKAGE / "data").glob("*.py")}
    start = start | data | {f"gdm_course.{name}" for name in FOR_CHECKS}
    needed = closure(start | {path.rpartition(".")[0] for path in built}, gone)
    made = {"gdm_course/__init__.py": (PACKAGE / "__init__.py").read_bytes()}
    for name in needed:
        path = place(name)
        if path is not None and not name.startswith("gdm_course.checks."):
            text = path.read_bytes()
            if within(name, gone):
                text = LEFT_OUT.format(slice=_slice(name, built)).encode()
            made[inside(name)] = ROOM.encode() if name in BARE else text
    for extra in _data(needed):
        made[extra.relative_to(PACKAGE.parent).as_posix()] = extra.read_bytes()
    for name in ("ask.py", "arrays.py"):
        made[f"gdm_course/checks/{name}"] = (PACKAGE / "checks" / name).read_bytes()
    made["gdm_course/checks/later.py"] = Path(later.__file__).read_bytes()
    made["gdm_course/cli.py"] = Path(desk.__file__).read_bytes()
    for assignment in maps:
        made |= _checks(assignment)
    return made


def _slice(module: str, built: Iterable[str]) -> str:
    """What calls are built with, of a module that is otherwise left out."""
    wanted = {p.rpartition(".")[2] for p in built if p.rpartition(".")[0] == module}
    text = place(module).read_text(encoding="utf-8") if wanted else ""
    return f"\n{slice_of(text, wanted)}\n" if wanted else ""


def _data(needed: set[str]) -> list[Path]:
    """Files that are no code, of the rooms that are in the tree."""
    found = [PACKAGE / "data" / "registry.toml"]
    if "gdm_course.checkpoints" in needed:
        found += (p for p in (PACKAGE / "checkpoints").rglob("*.*s*") if p.suffix != ".py")
    return sorted(path for path in found if path.is_file())


def _checks(assignment: Assignment) -> dict[str, bytes]:
    """The stand-in of a unit's check file, and the calls that it tries."""
    dotted = f"gdm_course.checks.{assignment.key.replace('/', '.')}"
    module = CHECKS.format(unit=assignment.key, slice=_slice(dotted, assignment.made))
    stem = f"gdm_course/checks/{assignment.key}"
    return {f"{stem}.py": module.encode(), f"{stem}.asks": asks(assignment)}


def asks(assignment: Assignment) -> bytes:
    """One call of every question under a public seed, with the shapes of its answer.

    The judge asks under other, secret seeds; no value of an answer is here.
    """
    from gdm_course.checks.ask import run

    frames = []
    for name, question in assignment.questions.items():
        ask = question.asks(0)[0]
        spec, arrays = pack_ask(ask)
        shapes = [[*part.shape] for part in run(ask, question.reference)]
        message = {"name": name, "ask": spec, "shapes": shapes}
        with contextlib.suppress(Malformed):  # too large for a frame: it is not tried
            frames.append(encode(message, arrays))
    return b"".join(frames)
