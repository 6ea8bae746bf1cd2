"""Cells into the bytes of an `.ipynb`: the same cells give the same bytes, always."""

import hashlib
import json
from collections import Counter
from typing import Any

from gdm_course.authoring.percent import Cell
from gdm_course.source import unix

NOTES = "<details><summary>For the lecturer</summary>\n\n", "\n\n</details>"
FOLDED = {"jupyter": {"source_hidden": True}, "cellView": "form"}  # JupyterLab, Colab
HIDDEN = "hide-input"  # myst-nb's tag, on the site
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


def build(cells: list[tuple[Cell, dict]], place: str, source: str) -> str:
    """The text of a notebook, as nbformat 4.5 writes it.

    Args:
        cells: each cell with metadata of its own, such as nbgrader's.
        place: names the notebook ("lectures/flows/realnvp"); goes into the cells' ids.
        source: the script to edit instead of the notebook.
    """
    seen: Counter[str] = Counter()
    made = []
    before = None
    for cell, extra in cells:
        key = f"{cell.kind}\n{cell.source}"
        identity = digest(f"{place}\n{seen[key]}\n{key}")
        seen[key] += 1
        made.append(_cell(cell, identity, {**_metadata(cell, before), **extra}))
        before = cell
    gdm = {"source": source, "fingerprint": fingerprint(made)}
    metadata = {"gdm": gdm, "kernelspec": KERNEL, "language_info": {"name": "python"}}
    return dumps({"cells": made, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5})


def dumps(notebook: dict) -> str:
    """JSON in nbformat's own layout."""
    return json.dumps(notebook, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def digest(text: str) -> str:
    """Twelve hexadecimal digits that stand for a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def fingerprint(cells: list[dict]) -> str:
    """A hash of what an author can edit in a notebook; outputs do not count."""
    kept = [[c["cell_type"], text(c), _edited(c["metadata"])] for c in cells]
    return digest(json.dumps(kept, ensure_ascii=False, sort_keys=True))


def edited(notebook: dict) -> bool:
    """Whether somebody changed the cells since sync wrote them."""
    stored = notebook.get("metadata", {}).get("gdm", {}).get("fingerprint")
    return stored != fingerprint(notebook.get("cells", []))


def text(cell: dict) -> str:
    """The source of a notebook's cell, stored as a string or as lines of any system."""
    source = cell["source"]
    return unix(source if isinstance(source, str) else "".join(source))


def shown(cell: Cell) -> str:
    """What the notebook shows of a cell: the lecturer's notes are folded."""
    notes = cell.kind == "markdown" and "notes" in cell.tags
    return cell.source.join(NOTES) if notes else cell.source


def written(cell: dict) -> tuple[str, tuple[str, ...]]:
    """What a script holds of a notebook's cell: its text and tags without what is derived.

    A fold that an editor has left half is taken off, too.
    """
    source, (begin, end) = text(cell).strip("\n"), (part.strip() for part in NOTES)
    if cell["cell_type"] == "markdown" and source.startswith(begin):
        source = source.removeprefix(begin).removesuffix(end).strip("\n")
    tags = cell["metadata"].get("tags", [])
    return source, tuple(tag for tag in tags if tag != HIDDEN)


def _cell(cell: Cell, identity: str, metadata: dict) -> dict[str, Any]:
    made = {"cell_type": cell.kind, "id": identity, "metadata": metadata}
    made["source"] = shown(cell).splitlines(keepends=True)  # laid out as nbformat does
    if cell.kind == "code":
        made |= {"execution_count": None, "outputs": []}
    return made


def _edited(metadata: dict) -> dict:
    return {
        k: v for k, v in metadata.items() if k in ("tags", "slideshow", "nbgrader") and v
    }


def _metadata(cell: Cell, before: Cell | None) -> dict[str, Any]:
    tags = {"tags": [*cell.tags]} if cell.tags else {}
    if "fold" in cell.tags:
        tags = {"tags": [*cell.tags, HIDDEN], **FOLDED}
    kind = _slide(cell, before)
    return tags | ({"slideshow": {"slide_type": kind}} if kind else {})


def _slide(cell: Cell, before: Cell | None) -> str | None:
    """The slide type: headings start slides, a paragraph after code starts a subslide."""
    if {"setup", "nav", "skip-slide"} & {*cell.tags}:
        return "skip"
    if "notes" in cell.tags:
        return "notes"
    if cell.kind == "markdown" and cell.source.startswith(("# ", "## ")):
        return "slide"
    after_code = before is not None and before.kind == "code" and before.tags != ("setup",)
    if "subslide" in cell.tags or (cell.kind == "markdown" and after_code):
        return "subslide"
    return (
        "subslide" if cell.source.startswith("### ") and cell.kind == "markdown" else None
    )
