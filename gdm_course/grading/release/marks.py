"""The exercise as a student gets it: cells that need what is left out are marked.

No cell's source is changed, so that the judge still knows the exercise's own cells.
"""

import ast
import copy
from collections.abc import Iterable

from gdm_course.authoring.cut import ORIGINAL
from gdm_course.authoring.notebook import digest, dumps, fingerprint, text
from gdm_course.grading.guest.names import needs, steps, together
from gdm_course.grading.release.package import closure, within

# JupyterLab and nbclient go on after a cell with this tag, whatever it raises.
MAY_STOP = "raises-exception"
GRADED = """**This exercise is graded.** Write each answer in its cell, keep the first line
of the function or class, and hand in this notebook. The `check` lines try whether an answer
runs and has the right shape; what it is worth is found after you hand in, on inputs that
nobody has seen. Some cells call the course's own answer, which this copy does not have: a
line above such a cell says so. Such a cell stops there, and *Run All* goes on."""
STOPS = (
    "*The next cell may need the course's own answer, which this copy does not have "
    "({names}): then it stops there.*"
)


def imports(cells: Iterable[dict]) -> set[str]:
    """The modules of the course that code cells import."""
    from gdm_course.grading.judge.decides import imports

    found = set()
    for cell in cells:
        if cell["cell_type"] == "code" and (tree := _parsed(text(cell))) is not None:
            found |= imports(ast.unparse(tree))
    return found


def released(notebook: dict, place: str, gone: frozenset[str]) -> tuple[str, int]:
    """The text of a notebook for students, and how many cells are marked in it.

    Args:
        notebook: an exercise or a lecture, as `gdm sync` wrote it.
        place: names it ("exercises/flows/maf").
        gone: the modules that are left out.
    """
    notebook = copy.deepcopy(notebook)
    here = {"nav", ORIGINAL}  # what is true in the course's own tree only
    cells = [c for c in notebook["cells"] if not here & {*c["metadata"].get("tags", [])}]
    made, stopped, count = [], {}, 0
    for cell in cells:
        needed = _stops(cell, stopped, gone)
        if needed:
            count += 1
            cell["metadata"]["tags"] = [*cell["metadata"].get("tags", []), MAY_STOP]
            names = ", ".join(f"`{name}`" for name in sorted(needed))
            made.append(_markdown(STOPS.format(names=names), f"{place} {count}"))
        made.append(cell)
    if place.startswith("exercises/"):
        made.insert(1, _markdown(GRADED, f"{place} graded"))
    notebook["cells"] = made
    notebook["metadata"]["gdm"]["fingerprint"] = fingerprint(made)
    return dumps(notebook), count


def _stops(cell: dict, stopped: dict[str, set[str]], gone: frozenset[str]) -> set[str]:
    """The modules without which a cell cannot run; `stopped` learns what it defines.

    Args:
        cell: of a notebook; cells are given in order.
        stopped: global names, each with the modules without which it is not there.
        gone: the modules that are left out.
    """
    tree = _parsed(text(cell)) if cell["cell_type"] == "code" else None
    if tree is None:
        return set()
    bound = _bound(tree, gone)
    rest = [s for s in steps(text(cell)) or () if s.kind != "import"]
    known, answers = {**stopped, **bound}, cell["metadata"].get("nbgrader", {})
    reads = set() if answers.get("solution") else needs("", rest)
    needed = set().union(*(known[name] for name in reads & {*known}))
    needed |= {f"check.{name}" for name in _references(tree)}
    for name in together(step.sets for step in rest):
        stopped.pop(name, None)
        if needed:
            stopped[name] = needed
    stopped |= bound
    return needed


def _bound(tree: ast.Module, gone: frozenset[str]) -> dict[str, set[str]]:
    """Names that imports bind, of what is left out or needs what is left out."""
    from gdm_course.grading.judge.decides import imports

    found = {}
    for node in ast.walk(tree):
        for alias in node.names if isinstance(node, ast.Import | ast.ImportFrom) else ():
            one = copy.copy(node)
            one.names = [alias]
            needed = {
                m for m in closure(imports(ast.unparse(one)), gone) if within(m, gone)
            }
            if needed:
                found[alias.asname or alias.name.split(".")[0]] = needed
    return found


def _references(tree: ast.Module) -> set[str]:
    """Questions whose reference a cell calls: `check.NAME.reference(...)`."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "reference":
            inner = node.value
            if isinstance(inner, ast.Attribute) and isinstance(inner.value, ast.Name):
                found |= {inner.attr} if inner.value.id == "check" else set()
    return found


def _parsed(source: str) -> ast.Module | None:
    from IPython.core.inputtransformer2 import TransformerManager

    try:
        return ast.parse(TransformerManager().transform_cell(source))
    except SyntaxError:
        return None


def _markdown(source: str, key: str) -> dict:
    lines = source.splitlines(keepends=True)
    return {"cell_type": "markdown", "id": digest(key), "metadata": {}, "source": lines}
