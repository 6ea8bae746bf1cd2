"""The texts of a release: README, assignment map, pyproject."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

from gdm_course.authoring.course import Course, Unit
from gdm_course.authoring.notebook import text as cell_text
from gdm_course.data.registry import datasets
from gdm_course.grading.judge.assignment import Assignment

STUDENTS = """# {title}: exercises

{units}

## Set up, once

    python3 -m venv .venv
    .venv/bin/pip install -e .[lab]
    .venv/bin/jupyter lab {first}

Python 3.11 to 3.13; on Windows, `.venv\\Scripts` stands for `.venv/bin`. In Colab: upload
this folder, `%cd` into it, `%pip install -q -e .`, and restart the kernel.

## Work

Every answer has a cell with `# YOUR CODE HERE`. Keep the first line of the function or
class that is there; add cells as you like. The `check.NAME(NAME)` line under it tries your
answer on one input: it says whether it runs and whether the shapes are right, not whether
the numbers are. Test those yourself: on a case that you can do by hand, against autograd,
against another formula.

{left_out}

Data: {data}

## Hand in

Hand in the notebook itself ({pages}), saved, under any name. Before you do, choose *Kernel,
Restart Kernel and Run All Cells*: it must run to the end.

What counts: only the functions and classes named in the table, run in a sealed box without
network and without files of yours, on inputs that nobody has seen. Each question counts by
itself: an error or an endless loop costs the question where it is, an error in a cell costs
what that cell defines. Outputs, prints and figures do not count. Cells that you did not
change are run only where an answer needs them, so do not rely on what they print.
"""
INSTRUCTORS = """# Instructor's copy: solutions and rubrics

**This folder holds every answer. It is not for students.**

{units}

- `solutions/`: the exercises with their answers, and what was only for you;
- `exercises/`, `lectures/`: as in the course;
- `rubrics/`: per question its points, what is tested, and the mistakes it knows by name,
  each with the hint that a student gets; as Markdown to read, as JSON for other tools;
- `assignment.json`: units, questions, points, and the fingerprint that verdicts carry;
- `gdm_course/`: the whole package, grader included.

From release to marks, in this folder:

    pip install -e .[notebook,grading]
    gdm grade submissions/ --out results/
"""
PROJECT = """[build-system]
requires = ["setuptools>=68"]
build-backend = "setuptools.build_meta"

[project]
name = {name}
version = {version}
requires-python = {requires}
dependencies = {dependencies}

[project.optional-dependencies]
lab = {lab}

[project.scripts]
gdm = "gdm_course.cli:app"

[tool.setuptools.packages.find]
include = ["gdm_course*"]

[tool.setuptools.package-data]
gdm_course = {data}
"""


def as_json(data: Any) -> bytes:
    """JSON, the same bytes for the same data."""
    return (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode()


def assignment_map(
    course: Course, maps: dict[str, Assignment], gone: frozenset[str]
) -> bytes:
    """What is asked and what it is worth: `assignment.json`."""
    units = {
        key: {
            "title": course.units[key].heading[0],
            "notebook": course.units[key].notebook("exercises"),
            "questions": found.points,
            "points": sum(found.points.values()),
            "fingerprint": found.fingerprint,
        }
        for key, found in maps.items()
    }
    return as_json({"course": course.title, "units": units, "left_out": sorted(gone)})


def for_students(course: Course, units: list[Unit], release: Any) -> bytes:
    """The README of a student's tree."""
    pages = [unit.notebook("exercises") for unit in units]
    notebooks = [json.loads(release.files[page]) for page in pages]
    names = ", ".join(f"`{name}`" for name in sorted(release.gone))
    left_out = (
        f"Left out of the package until the hand-in: {names}. Cells that draw with "
        "them are marked; they stop there, and the notebook goes on."
        if names
        else "Nothing that the exercises import is left out of the package."
    )
    return STUDENTS.format(
        title=course.title,
        units=_table(units),
        first=pages[0],
        left_out=left_out,
        data=_data(notebooks),
        pages=", ".join(f"`{page}`" for page in pages),
    ).encode()


def for_instructors(units: list[Unit]) -> bytes:
    """The README of an instructor's tree."""
    return INSTRUCTORS.format(units=_table(units)).encode()


def project(root: Path, lectures: bool) -> bytes:
    """A pyproject.toml with the requirements of the course's own."""
    own = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = own["optional-dependencies"]
    data = ["data/registry.toml", "checks/**/*.asks"]
    data += ["checkpoints/**/*.safetensors", "checkpoints/**/*.json"] if lectures else []
    values = {
        "name": own["name"],
        "version": own["version"],
        "requires": own["requires-python"],
        "dependencies": [*own["dependencies"], *extras["notebook"]],
        "lab": [_named(extras["lab"], "jupyterlab"), _named(extras["lab"], "nbclient")],
        "data": data,
    }
    return PROJECT.format(**{k: json.dumps(value) for k, value in values.items()}).encode()


def plain(name: str, data: bytes) -> str:
    """The text of a file, with a notebook's cells as lines."""
    text = data.decode("utf-8", "replace")
    if not name.endswith(".ipynb"):
        return text
    return "\n".join(cell_text(cell) for cell in json.loads(text)["cells"])


def _named(requirements: list[str], name: str) -> str:
    return next(line for line in requirements if line.startswith(name))


def _table(units: list[Unit]) -> str:
    rows = ["| unit | notebook | questions (points) | points |", "|---|---|---|---|"]
    for unit in units:
        asked = ", ".join(f"`{n}` ({p:g})" for n, p in unit.points.items())
        page, total = unit.notebook("exercises"), sum(unit.points.values())
        rows.append(f"| {unit.heading[0]} | [{page}]({page}) | {asked} | {total:g} |")
    return "\n".join(rows)


def _data(notebooks: list[dict]) -> str:
    """Which data sets the notebooks name that are not in the package."""
    code = [cell_text(c) for nb in notebooks for c in nb["cells"]]
    words = {word for text in code for word in re.findall(r"""["'](\w+)["']""", text)}
    if named := [name for name in datasets() if name in words]:
        return f"download once with `gdm data get {' '.join(named)}`; the rest is here."
    return "all that these notebooks use comes with the packages; nothing to download."
