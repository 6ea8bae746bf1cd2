"""What decides a mark: the code behind an assignment's fingerprint, read and never run.

That is the assignment's check file, the references and tools that it imports, the judge,
and the guest that runs a student's cells. Of each file counts what it computes: comments,
layout, docstrings and type hints do not.
"""

import ast
from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from gdm_course.checkpoints.fingerprint import canonical
from gdm_course.source import ROOT

# The judge's side, and all that is put into a box to run cells and answer asks.
ALWAYS = ("grading.judge.judge", "grading.judge.stage")
ALWAYS += ("grading.guest.guest", "grading.guest.standin")
ALWAYS += ("checks.ask", "checks.question")


def deciding(modules: Iterable[str], root: Path = ROOT) -> str:
    """A hash of these modules and of all modules of the course that they import."""
    start = [*modules, *(f"gdm_course.{name}" for name in ALWAYS)]
    parts = [
        f"{name} {_digest(_file(name, root))}" for name in sorted(reached(start, root))
    ]
    return sha256("\n".join(parts).encode()).hexdigest()


def reached(start: Iterable[str], root: Path = ROOT) -> set[str]:
    """Modules, and the modules that they import, anywhere in them, and so on."""
    found, todo = set(), {*start}
    while todo:
        name = todo.pop()
        if name in found or (path := _file(name, root)) is None:
            continue
        found.add(name)
        todo |= imports(path.read_text(encoding="utf-8"), root)
    return found


@lru_cache(maxsize=512)  # by the text: an edited file counts anew
def imports(text: str, root: Path = ROOT) -> frozenset[str]:
    """The modules of the course that a file imports, as dotted names."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
            "gdm_course"
        ):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if is_module(inner, root) else node.module)
        elif isinstance(node, ast.Import):
            found |= {a.name for a in node.names if a.name.startswith("gdm_course.")}
    return frozenset(name for name in found if "." in name)


def is_module(dotted: str, root: Path = ROOT) -> bool:
    """Whether there is such a module or package."""
    base = root.joinpath(*dotted.split("."))
    return base.is_dir() or base.with_suffix(".py").is_file()


def _file(dotted: str, root: Path) -> Path | None:
    base = root.joinpath(*dotted.split("."))
    path = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    return path if path.is_file() else None


def _digest(path: Path) -> str:
    return _hash(path.read_text(encoding="utf-8"))


@lru_cache(maxsize=512)
def _hash(text: str) -> str:
    return sha256(canonical(ast.parse(text)).encode()).hexdigest()
