"""`gdm adopt`: bring an edit made in JupyterLab back into the script, on purpose."""

import difflib
import json
from dataclasses import replace
from pathlib import Path

from gdm_course.authoring import links, notebook
from gdm_course.authoring.course import Course, Unit, load
from gdm_course.authoring.derive import plan, replace_file
from gdm_course.authoring.fill import fill
from gdm_course.authoring.percent import AuthoringError, Cell, Script, read, write
from gdm_course.source import lines as rows


def adopt(root: Path, path: Path, dry_run: bool = False) -> str:
    """Write the edits of a lecture's or solution's notebook into its script.

    Changed, added, deleted and moved cells are taken over; outputs are dropped, and the
    notebook is derived anew.

    Args:
        root: the checkout.
        path: the notebook.
        dry_run: only say what would change.

    Returns:
        The diff of the script; empty if there is nothing to adopt.

    Raises:
        AuthoringError: the edit cannot be taken over; the sentence says what to do instead.
    """
    course = load(root)
    unit, kind = _place(course, path)
    stored = _load(root / unit.notebook(kind))
    old = fill(read(unit.text(kind), unit.script(kind)), unit, kind, course)
    base = json.loads(plan(root).files[unit.notebook(kind)])
    if not notebook.edited(stored):
        return ""
    _same_base(stored, base, unit.notebook(kind), old.name)
    cells = _merge(stored["cells"], base["cells"], old)
    new = fill(replace(old, cells=tuple(cells)), unit, kind, course)
    _refuse_generated(cells, new, old)
    _survives(new, cells)
    diff = _diff(write(old), write(new), old.name)
    if not dry_run:
        replace_file(root / old.name, write(new))
        name = unit.notebook(kind)
        replace_file(root / name, plan(root).files[name])
    return diff


def _place(course: Course, path: Path) -> tuple[Unit, str]:
    """Which unit's notebook a path is."""
    absolute = path if path.is_absolute() else Path.cwd() / path
    try:
        name = absolute.resolve().relative_to(course.root.resolve()).as_posix()
    except ValueError:
        raise AuthoringError(f"{path} is not in the course at {course.root}") from None
    for unit in course.units.values():
        if name == unit.notebook("exercises"):
            edit = unit.notebook("solutions")
            raise AuthoringError(f"{name} is made from a solution: edit {edit}")
        for kind in ("lectures", "solutions"):
            if name == unit.notebook(kind) and unit.has(kind):
                return unit, kind
    raise AuthoringError(f"{name} is no lecture or solution of a unit in course.toml")


def _load(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AuthoringError(f"{path} cannot be read as a notebook: {error}") from None


def _same_base(stored: dict, base: dict, name: str, script: str) -> None:
    """The notebook must have been made from the script as it is now."""
    prints = [
        nb.get("metadata", {}).get("gdm", {}).get("fingerprint") for nb in (stored, base)
    ]
    if prints[0] != prints[1]:
        raise AuthoringError(
            f"{script}, or what it quotes, changed after {name} was made: copy your "
            f"edit into the script by hand; 'gdm sync --force' makes it anew"
        )


def _merge(stored: list[dict], base: list[dict], old: Script) -> list[Cell]:
    """The cells of the edited notebook; those known by their id keep their script lines."""
    known = {made["id"]: (made, cell) for made, cell in zip(base, old.cells)}
    cells = []
    for found in stored:
        if found["cell_type"] not in ("code", "markdown"):
            raise AuthoringError(f"a {found['cell_type']} cell has no place in a script")
        source, tags = notebook.written(found)
        _refuse_picture(source)
        made, cell = known.pop(found.get("id"), (None, Cell(found["cell_type"], "")))
        if made and _view(found) != _view(made):
            raise AuthoringError(
                "slide types and nbgrader's metadata are derived: use the tags 'subslide', "
                f"'skip-slide', 'notes' instead, in the cell '{source[:40]}'"
            )
        raw = None if cell.kind != found["cell_type"] else cell.raw
        cell = replace(cell, kind=found["cell_type"], tags=tags, raw=raw)
        cells.append(cell.with_source(source))
    return cells


def _refuse_picture(source: str) -> None:
    """A pasted picture lies in the notebook, beside the text that links to it."""
    if any(target.startswith(links.PASTED) for target in links.targets(source)):
        raise AuthoringError(
            f"a picture is pasted into the cell '{source.partition(chr(10))[0][:40]}': "
            f"{links.NO_PICTURES}, then adopt again"
        )


def _view(cell: dict) -> list:
    return [cell["metadata"].get(key) for key in ("slideshow", "nbgrader")]


def _refuse_generated(cells: list[Cell], new: Script, old: Script) -> None:
    for cell, filled in zip(cells, new.cells):
        before = {c.source for c in old.cells if c.tags == cell.tags}
        if cell.generated and cell.source != filled.source and cell.source not in before:
            name = cell.quoted
            where = (
                f"gdm_course/{name.rpartition('.')[0].replace('.', '/')}.py" if name else ""
            )
            edit = f"edit {name} in {where}" if name else "it is made by 'gdm sync'"
            tag = f"from:{name}" if name else cell.tags[0]
            raise AuthoringError(
                f"the cell tagged '{tag}' is generated, not written: {edit}"
            )


def _survives(new: Script, cells: list[Cell]) -> None:
    """What is written must read back as the same cells."""
    again = [(c.kind, c.source, c.tags) for c in read(write(new), new.name).cells]
    if again != [(c.kind, c.source, c.tags) for c in new.cells]:
        raise AuthoringError(
            "a cell holds a line that a script cannot hold, such as '# %%' or a commented "
            f"magic: change it, then adopt again ({len(cells)} cells)"
        )


def _diff(old: str, new: str, name: str) -> str:
    lines = difflib.unified_diff(rows(old), rows(new), name, name, n=2, lineterm="")
    return "\n".join(lines)
