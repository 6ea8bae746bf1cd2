"""`gdm check`: everything that must hold between scripts, package, notebooks and tables."""

import difflib
import json
from pathlib import Path

from gdm_course.authoring import anatomy, leaks, links, notebook, rules, tables
from gdm_course.authoring.course import INDEX
from gdm_course.authoring.derive import Problem, by_hand, plan
from gdm_course.source import lines as rows

DIFF_LINES = 14


def check(root: Path) -> list[Problem]:
    """Look at a whole checkout; an empty list means that it is in order.

    Raises:
        AuthoringError: course.toml cannot be read.
    """
    made = plan(root)
    problems = list(made.problems)
    for path, wanted in made.files.items():
        problems += _file(root / path, path, wanted)
    problems += _readme(root)
    problems += [*rules.problems(made), *anatomy.problems(made)]
    return [*problems, *leaks.problems(made), *links.problems(made)]


def diff(old: str, new: str, limit: int = DIFF_LINES) -> str:
    """A short diff of two texts; notebooks are compared by their cells."""
    if old.startswith("{") and new.startswith("{") and _plain(old) != _plain(new):
        old, new = _plain(old), _plain(new)
    lines = list(difflib.unified_diff(rows(old), rows(new), n=1, lineterm=""))
    more = [f"... and {len(lines) - limit} more lines"] if len(lines) > limit + 2 else []
    return "\n".join(f"    {line}" for line in lines[2 : limit + 2] + more)


def _file(path: Path, name: str, wanted: str) -> list[Problem]:
    if not path.is_file():
        return [Problem(f"{name} is missing", "gdm sync")]
    if (found := path.read_text(encoding="utf-8")) == wanted:
        return []
    shown = diff(found, wanted)
    if not name.endswith(".ipynb"):
        what = "generated parts are out of date (edit their source, not them)"
        return [Problem(f"{name}: {what}", "gdm sync", shown)]
    problems = []
    if _outputs(found):
        problems.append(Problem(f"{name} stores outputs", "gdm sync"))
    if by_hand(found):
        kind = "gdm sync --force" if _refused(name) else f"gdm adopt {name}"
        problems.append(Problem(f"{name} was edited by hand", kind, shown))
    elif not problems:
        problems.append(Problem(f"{name} is out of date", "gdm sync", shown))
    return problems


def _refused(name: str) -> bool:
    return name == INDEX or name.startswith("exercises/")


def _outputs(text: str) -> bool:
    try:
        cells = json.loads(text)["cells"]
    except (ValueError, KeyError, TypeError):
        return False
    return any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


def _plain(text: str) -> str:
    """A notebook as text: its cells one under the other, with their metadata."""
    try:
        cells = json.loads(text)["cells"]
        head = "# %% {} {}"
        parts = [
            head.format(c["cell_type"], json.dumps(c["metadata"], sort_keys=True))
            + f"\n{notebook.text(c)}\n"
            for c in cells
        ]
    except (ValueError, KeyError, TypeError):
        return text
    return "\n".join(parts)


def _readme(root: Path) -> list[Problem]:
    if not (root / "README.md").is_file():
        return [Problem("README.md is missing")]
    lacking = tables.lacking((root / "README.md").read_text(encoding="utf-8"))
    return [
        Problem(f"README.md has no block {pair}: write the two markers") for pair in lacking
    ]
