"""The course's package as the box sees it: a read-only copy without answers.

Left out: checks, solutions, points, checkpoints, tools of authors. A withheld module is
there by name only, so that an import cell still runs; so is `check`, which does nothing.
"""

import ast
import compileall
import re
import shutil
from pathlib import Path

from gdm_course.grading.box import held
from gdm_course.grading.box.held import Unwritable
from gdm_course.grading.judge.assignment import Assignment
from gdm_course.source import PACKAGE

ROOMS_LEFT_OUT = {
    *("authoring", "publishing", "grading", "checks", "checkpoints", "scale", "recipes"),
    *("cli", "gallery", "doctor", "machine", "jupyter_display", "__main__"),
}
GUEST = PACKAGE / "grading" / "guest"  # all of this room goes into the box
IGNORE = """from gdm_course.grading.guest.standin import Ignore


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return Ignore()
"""
ABSENT = """from gdm_course.grading.guest.standin import absent


def __getattr__(name):
    return absent(__name__, name)
"""


def build(assignment: Assignment) -> Path:
    """Make the folder that the box finds at /course; the caller drops it (see `held`).

    Raises:
        Unwritable: there is no room for it.
    """
    held.sweep(held.STAGE)
    root = held.make(held.STAGE)
    try:
        _fill(root, assignment)
    except BaseException as error:  # an interrupt too
        held.drop(root)
        if isinstance(error, OSError):
            raise Unwritable(error.errno, error.strerror, str(root)) from error
        raise
    return root


def _fill(root: Path, assignment: Assignment) -> None:
    package = root / "gdm_course"
    for path in sorted(PACKAGE.rglob("*.py")):
        inside = path.relative_to(PACKAGE)
        room = inside.parts[0].removesuffix(".py")
        if room in ROOMS_LEFT_OUT:
            continue
        dotted = ".".join(["gdm_course", *inside.with_suffix("").parts])
        gone = _within(dotted, assignment.withheld)
        _write(
            package / inside, _without_answers(path, assignment, ABSENT) if gone else path
        )
    _write(package / "data" / "registry.toml", PACKAGE / "data" / "registry.toml")
    for path in [PACKAGE / "grading" / "__init__.py", *GUEST.glob("*.py")]:
        _write(package / path.relative_to(PACKAGE), path)
    for path in sorted((PACKAGE / "checks").rglob("*.py")):
        _write(
            package / "checks" / path.relative_to(PACKAGE / "checks"),
            _check(path, assignment),
        )
    compileall.compile_dir(root, quiet=2)
    for path in [root, *root.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)


def _within(dotted: str, withheld: frozenset[str]) -> bool:
    name = dotted.removesuffix(".__init__")
    return any(name == gone or name.startswith(f"{gone}.") for gone in withheld)


def _write(place: Path, content: Path | str) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, Path):
        shutil.copyfile(content, place)
    else:
        place.write_text(content, encoding="utf-8")


def _check(path: Path, assignment: Assignment) -> Path | str:
    """A check module in the box: only what asks of this assignment are built with."""
    if path.parent == PACKAGE / "checks" and path.name in ("ask.py", "arrays.py"):
        return path
    return _without_answers(path, assignment, IGNORE)


def _without_answers(path: Path, assignment: Assignment, otherwise: str) -> str:
    """What asks are built with, and a stand-in for every other name of a module."""
    inside = path.relative_to(PACKAGE).with_suffix("").parts
    dotted = ".".join(["gdm_course", *inside]).removesuffix(".__init__")
    wanted = {p.rpartition(".")[2] for p in assignment.made if p.startswith(f"{dotted}.")}
    taken = slice_of(path.read_text(encoding="utf-8"), wanted) if wanted else ""
    if leaked := {*assignment.questions} & {*re.findall(r"\w+", taken)}:
        raise ValueError(
            f"{dotted}: what the asks build ({', '.join(sorted(wanted))}) uses "
            f"{', '.join(sorted(leaked))}, which the exercise asks for: build it without"
        )
    return f"{taken}\n\n\n{otherwise}" if taken else otherwise


def slice_of(text: str, wanted: set[str]) -> str:
    """The definitions of some names, and all that they need from the same file."""
    body = [node for node in ast.parse(text).body if not isinstance(node, ast.Expr)]
    keep: set[int] = set()
    todo, done = {*wanted}, set()
    while todo:
        name = todo.pop()
        done.add(name)
        for i, node in enumerate(body):
            if name in _binds(node) and i not in keep:
                keep.add(i)
                if not isinstance(node, ast.Import | ast.ImportFrom):
                    todo |= {n.id for n in ast.walk(node) if isinstance(n, ast.Name)} - done
    parts = [_only(node, done) for i, node in enumerate(body) if i in keep]
    return "\n\n\n".join(map(ast.unparse, parts))


def _only(node: ast.stmt, names: set[str]) -> ast.stmt:
    if isinstance(node, ast.Import | ast.ImportFrom):
        node.names = [a for a in node.names if (a.asname or a.name.split(".")[0]) in names]
    return node


def _binds(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name.split(".")[0] for alias in node.names}
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    return {
        n.id
        for n in ast.walk(node)
        if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    }
