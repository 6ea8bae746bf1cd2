"""One page of the website: a notebook with what a reader needs around it, and less code."""

import ast
import html
import re

import nbformat
from nbformat.v4 import new_markdown_cell

from gdm_course.authoring.anatomy import TITLE
from gdm_course.authoring.course import Course, Unit
from gdm_course.authoring.cut import ORIGINAL
from gdm_course.authoring.fill import COLAB
from gdm_course.authoring.notebook import HIDDEN, digest
from gdm_course.publishing import frames
from gdm_course.publishing.execute import Run, because, without_widgets
from gdm_course.source import lines

PLAIN = "_static/notebooks"  # where downloads lie
SHOWN = 8  # lines of a cell that stopped, at most
NO_KERNEL = (
    "*This cell is in the notebook itself: `make lab` in the course's folder opens it.*"
)
MAGIC = re.compile(r"^[%!].*", re.MULTILINE)
BADGE = re.compile(r"\[!\[Colab\]\([^)]*\)\]\([^)]*\)\s*")
SOLUTION = re.compile(r"\s*·\s*\[solution\]\([^)]*\bsolutions/[^)]*\)")
TO_SOLUTION = re.compile(r"\[([^\]]*)\]\([^)]*\bsolutions/[^)]*\)")


def page(run: Run, name: str, course: Course, solutions: bool) -> nbformat.NotebookNode:
    """Make the page of one notebook.

    Args:
        run: the notebook, executed or (an exercise) not.
        name: its path in the course, such as "lectures/flows/realnvp.ipynb".
        course: whose address makes the link to Colab.
        solutions: whether the site has them; else links to them go.
    """
    book = without_widgets(frames.moving(run.notebook))
    book.cells = [c for c in book.cells if ORIGINAL not in c.metadata.get("tags", [])]
    for cell in book.cells:
        if cell.cell_type == "code":
            fold(cell)
        else:
            cell.source = text(cell.source, solutions)
    if run.error is not None:
        _say_what_stopped(book, run)
    book.cells[1:1] = [_markdown(bar(name, course))]
    tree, key = name.removesuffix(".ipynb").split("/", 1)
    if tree == "lectures":
        book.cells.append(_markdown(beside(course.units[key], solutions)))
    return book


def front(book: nbformat.NotebookNode, solutions: bool) -> nbformat.NotebookNode:
    """Make the page of the lectures' index: its code needs a kernel, and a line says so."""
    cells = [
        cell if cell.cell_type == "markdown" else _markdown(NO_KERNEL)
        for cell in book.cells
    ]
    for cell in cells:
        cell.source = text(cell.source, solutions)
    cells[0].source = re.sub(
        r"\A# .*", "# All units", cells[0].source
    )  # not the site's own
    return nbformat.from_dict({**book, "cells": cells})


def text(source: str, solutions: bool) -> str:
    """Return markdown without the badge, a picture from elsewhere, and dead links."""
    source = BADGE.sub("", source)
    return source if solutions else TO_SOLUTION.sub(r"\1", SOLUTION.sub("", source))


def fold(cell: nbformat.NotebookNode) -> None:
    """Fold the source of a setup cell, of imports and of what is tagged so."""
    tags, title = cell.metadata.get("tags", []), TITLE.match(cell.source)
    if "setup" in tags:
        words = "Setup"
    elif HIDDEN in tags:
        words = f"Code: {title[1].strip()}" if title else "Code"
    elif imports(cell.source):
        words = "Imports"
    else:
        return
    cell.metadata["tags"] = [*{*tags, HIDDEN}]
    cell.metadata["mystnb"] = {"code_prompt_show": words, "code_prompt_hide": words}


def imports(source: str) -> bool:
    """Whether a cell begins with imports and they are more than half of it."""
    kinds = ast.Import | ast.ImportFrom
    try:
        found = [isinstance(s, kinds) for s in ast.parse(MAGIC.sub("", source)).body]
    except SyntaxError:
        return False
    return found[:1] == [True] and 2 * sum(found) > len(found)


def bar(name: str, course: Course) -> str:
    """The line under the title: the plain notebook, and where to run it."""
    up = "../" * name.count("/")
    links = [(f"{up}{PLAIN}/{name}", "Download the notebook", " download")]
    if course.repository:
        place = f"{COLAB}/github/{course.repository}/blob/{course.branch}/{name}"
        links.append((place, "Open in Colab", ""))
    made = (f'<a href="{html.escape(to)}"{how}>{words}</a>' for to, words, how in links)
    return f'<p class="gdm-bar">{" ".join(made)}</p>'


def beside(unit: Unit, solutions: bool) -> str:
    """The pages under a lecture in the tree of the site."""
    kinds = [kind for kind in ("exercises", "solutions")[: 1 + solutions] if unit.has(kind)]
    named = [
        f"{kind.removesuffix('s').capitalize()} </{kind}/{unit.key}>" for kind in kinds
    ]
    return toctree(named, ":hidden:")


def toctree(entries: list[str], *options: str) -> str:
    """Sphinx's list of pages in markdown; nothing where there are none."""
    return "\n".join(["```{toctree}", *options, "", *entries, "```"]) if entries else ""


def _say_what_stopped(book: nbformat.NotebookNode, run: Run) -> None:
    """Put a box under the title with the cell and its error, and a mark at the cell."""
    codes = [i for i, cell in enumerate(book.cells) if cell.cell_type == "code"]
    said = "This page is not whole: its notebook stopped while the site was built"
    shown = [str(because(run))]
    if run.stopped is not None:
        number = f"code cell {codes.index(run.stopped) + 1} of {len(codes)}"
        said += f', in <a href="#gdm-stopped">{number}</a>'
        shown += ["", *_excerpt(book.cells[run.stopped].source, run.error)]
        mark = f'<p id="gdm-stopped" class="gdm-stopped">Stopped here, in {number}.</p>'
        book.cells.insert(run.stopped, _markdown(mark))
    fence = "`" * (3 + max(map(len, re.findall("`+", "\n".join(shown))), default=0))
    box = [f"{fence}`{{error}}", f"{said}.", "", f"{fence}text", *shown, fence]
    box.append(f"{fence}`")
    book.cells.insert(1, _markdown("\n".join(box)))


def _excerpt(source: str, error: str) -> list[str]:
    """A cell, or of a long one the line that the traceback points at."""
    whole, arrow = lines(source), re.search(r"^-+> *\d+ (.*)$", error, re.MULTILINE)
    if len(whole) <= SHOWN:
        return whole
    return ["...", arrow[1], "..."] if arrow else [*whole[:SHOWN], "..."]


def _markdown(source: str) -> nbformat.NotebookNode:
    return new_markdown_cell(source, id=digest(source))
