"""Rules of the house that can be read off the sources: places, sizes, names, quotes."""

import ast
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from gdm_course.authoring.course import KINDS, Unit
from gdm_course.authoring.cut import checked
from gdm_course.authoring.derive import Plan, Problem
from gdm_course.authoring.names import parse
from gdm_course.authoring.percent import Cell, Script
from gdm_course.source import definitions

LONGEST = 40  # lines of a definition: one cell under one paragraph
TAGS = {"setup", "nav", "notes", "fold", "solution", "train", "skip-slide", "subslide"}
TAGS |= {"raises-exception", "nbval-skip", "nbval-ignore-output"}  # others' tools


def problems(made: Plan) -> list[Problem]:
    """Everything that breaks a rule."""
    found = [*_places(made), *_orphans(made), *_long(made)]
    for path, script in made.scripts.items():
        found += _tags(script)
        if path.startswith("lectures/"):
            found += [
                p for cell in script.cells for p in _model(cell, f"{path}:{cell.line}")
            ]
    for unit in made.course.units.values():
        found += _questions(unit, made)
    return found


def _places(made: Plan) -> Iterator[Problem]:
    for unit in made.course.units.values():
        for path in (unit.script("lectures"), unit.script("solutions"), unit.checks):
            if not (made.course.root / path).is_file():
                yield Problem(f"{path} is missing: course.toml has the unit '{unit.key}'")


def _orphans(made: Plan) -> Iterator[Problem]:
    root, units = made.course.root, made.course.units.values()
    known = {u.script(kind) for u in units for kind in KINDS} | {u.checks for u in units}
    known |= {u.notebook(kind) for u in units for kind in KINDS if u.has(kind)}
    places = [root / kind for kind in KINDS] + [root / "gdm_course" / "checks"]
    for path in sorted(p for place in places for p in place.rglob("*") if p.is_file()):
        name = path.relative_to(root).as_posix()
        script = path.suffix == ".py" and (
            path.parent.name == "src" or name.count("/") == 3
        )
        if not (script or path.suffix == ".ipynb") or path.name == "__init__.py":
            continue
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        if not hidden and name not in known and name not in made.files:
            yield Problem(
                f"{name} belongs to no unit of course.toml: add its line or delete it"
            )


def _long(made: Plan) -> Iterator[Problem]:
    package = made.course.root / "gdm_course"
    for family in made.course.families:
        for path in sorted((package / family).rglob("*.py")):
            for name, found in definitions(path, package).items():
                size = (
                    0
                    if isinstance(found.node, ast.Assign | ast.AnnAssign)
                    else found.length
                )
                if size > LONGEST:
                    where = f"{path.relative_to(package.parent)}:{found.line}"
                    yield Problem(
                        f"{where}: {name} has {size} lines, at most {LONGEST} fit under "
                        "one paragraph: give its equations or parts names of their own"
                    )


def _tags(script: Script) -> Iterator[Problem]:
    """Cells that every script has, and tags that nobody understands."""
    for name in ("setup", "nav"):
        if not any(name in cell.tags for cell in script.cells):
            yield Problem(f"{script.name} has no cell tagged '{name}': add an empty one")
    for cell in script.cells:
        for tag in cell.tags:
            if tag not in TAGS and not tag.startswith("from:"):
                known = ", ".join(sorted(TAGS))
                where = f"{script.name}:{cell.line}"
                yield Problem(f"{where}: unknown tag '{tag}', known are from:..., {known}")


def _model(cell: Cell, place: str) -> Iterator[Problem]:
    """A model that a lecture defines instead of quoting it."""
    if cell.kind != "code" or cell.quoted is not None or "Module" not in cell.source:
        return
    for node in ast.walk(parse(cell.source, place)):
        if isinstance(node, ast.ClassDef):
            bases = {ast.unparse(base).rsplit(".", 1)[-1] for base in node.bases}
            if "Module" in bases:
                yield Problem(
                    f"{place}: the model {node.name} is defined in the lecture: move it to "
                    f'the package and quote it with tags=["from:family.module.{node.name}"]'
                )


def _questions(unit: Unit, made: Plan) -> Iterator[Problem]:
    """Names must agree: in the check file, in course.toml, in the solution."""
    path, script = (
        made.course.root / unit.checks,
        made.scripts.get(unit.script("solutions")),
    )
    if not path.is_file() or script is None:
        return
    defined, asked = questions(path), {n for c in script.cells if (n := checked(c))}
    points = {*unit.points}
    pairs = [
        (defined - points, "is a question but has no points in course.toml"),
        (
            points - defined,
            f"has points in course.toml but is no question of {unit.checks}",
        ),
        (
            defined - asked,
            f"is a question that {script.name} never asks with check.NAME(NAME)",
        ),
        (asked - defined, f"is asked by {script.name} but is no question of {unit.checks}"),
    ]
    for names, what in pairs:
        yield from (Problem(f"{unit.key}: '{name}' {what}") for name in sorted(names))


def questions(path: Path) -> set[str]:
    """The questions of a check file: names assigned from what makes a `Question`."""
    base, text = path.parents[1] / "question.py", path.read_text(encoding="utf-8")
    makers = {"Question"} | _makers(text)
    makers |= _makers(base.read_text(encoding="utf-8")) if base.is_file() else set()
    found = set()
    for node in ast.parse(text).body:
        call = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
        if (
            isinstance(call, ast.Call)
            and ast.unparse(call.func).rsplit(".", 1)[-1] in makers
        ):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


@lru_cache(maxsize=64)
def _makers(text: str) -> frozenset[str]:
    """Functions of a file that are annotated to return a `Question`."""
    functions = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
    returns = {f.name: ast.unparse(f.returns).strip("'\"") for f in functions if f.returns}
    return frozenset(name for name, kind in returns.items() if kind.endswith("Question"))
