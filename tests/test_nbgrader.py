"""The exercises in nbgrader's hands: its own validate, autograde and generate_feedback.

nbgrader is a program here, not a library: it brings extensions for JupyterLab that no
student should get with the course, so it lives in an environment of its own. Name that
environment's python in GDM_NBGRADER; .ci/run makes one.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from gdm_course.authoring.course import load
from gdm_course.source import ROOT

COURSE = load(ROOT)
UNITS = [unit for unit in COURSE.units.values() if unit.has("solutions")]
UNIT = COURSE.units["foundations/densities"]
CONFIG = """c = get_config()
c.CourseDirectory.course_id = "gdm"
c.CourseDirectory.root = "."
"""


@cache
def bin_folder() -> Path | None:
    """Where nbgrader's commands are."""
    folder = Path(os.environ.get("GDM_NBGRADER") or sys.executable).parent
    return folder if (folder / "nbgrader").is_file() else None


pytestmark = pytest.mark.skipif(
    bin_folder() is None, reason="no nbgrader: name a python that has it in GDM_NBGRADER"
)


def nbgrader(place: Path, *arguments: str) -> str:
    """Run one of nbgrader's commands in a course folder, with this Python as the kernel."""
    kernel = place / "kernels" / "kernels" / "python3"
    kernel.mkdir(parents=True, exist_ok=True)
    start = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": start, "display_name": "Python 3", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec))
    (place / "nbgrader_config.py").write_text(CONFIG)
    folder = bin_folder()
    env = os.environ | {
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "JUPYTER_PATH": str(place / "kernels"),
        "HOME": str(place),
        "GDM_SMOKE": "1",
    }
    todo = [str(folder / "nbgrader"), *arguments]
    done = subprocess.run(todo, cwd=place, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_validate_passes_the_solution_and_names_every_open_question(tmp_path):
    solved = nbgrader(tmp_path, "validate", str(ROOT / UNIT.notebook("solutions")))
    assert "Success! Your notebook passes all the tests" in solved
    page = str(ROOT / UNIT.notebook("exercises"))
    said = nbgrader(tmp_path, "validate", page)
    assert f"VALIDATION FAILED ON {len(UNIT.points)} CELL(S)" in said
    for name in UNIT.points:
        assert f"{name}: not answered yet" in said


@pytest.mark.parametrize("kind", ["exercises", "solutions"])
def test_metadata_is_of_nbgraders_own_schema(kind):
    """nbgrader's validator of schema 3 on every unit, and no grade_id twice."""
    code = """
import sys, nbformat
from nbgrader.nbgraderformat.v3 import MetadataValidatorV3
for path in sys.argv[1:]:
    notebook = nbformat.read(path, as_version=4)
    MetadataValidatorV3().validate_nb(notebook)
    found = [c.metadata.nbgrader for c in notebook.cells if "nbgrader" in c.metadata]
    names = [about["grade_id"] for about in found]
    assert len(names) == len(set(names)), names
    print(path, sum(about.get("points", 0) for about in found if about["grade"]))
"""
    pages = [str(ROOT / unit.notebook(kind)) for unit in UNITS]
    todo = [str(bin_folder() / "python"), "-c", code, *pages]
    done = subprocess.run(todo, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    totals = dict(line.rsplit(" ", 1) for line in done.stdout.splitlines())
    wanted = {page: sum(unit.points.values()) for page, unit in zip(pages, UNITS)}
    assert {page: float(total) for page, total in totals.items()} == wanted


def test_a_whole_course_of_nbgrader_ends_in_feedback(tmp_path):
    """From the solution: its release, two submissions, autograde, feedback, scores."""
    page = Path(UNIT.notebook("solutions")).name
    source = tmp_path / "source" / "ps1"
    source.mkdir(parents=True)
    shutil.copy(ROOT / UNIT.notebook("solutions"), source / page)
    nbgrader(tmp_path, "generate_assignment", "ps1")
    for student, given in {
        "solved": source / page,
        "open": ROOT / UNIT.notebook("exercises"),  # ours, not the one nbgrader cut
    }.items():
        folder = tmp_path / "submitted" / student / "ps1"
        folder.mkdir(parents=True)
        shutil.copy(given, folder / page)
    nbgrader(tmp_path, "autograde", "ps1")
    nbgrader(tmp_path, "generate_feedback", "ps1")
    total = sum(UNIT.points.values())
    for student, score in {"solved": total, "open": 0}.items():
        text = (tmp_path / "feedback" / student / "ps1" / f"{UNIT.slug}.html").read_text()
        scores = re.findall(r"Score: ([\d.]+) / ([\d.]+)\)", text)
        assert [*map(float, scores[0])] == [score, total]
        assert [float(of) for _, of in scores[1:]] == [*UNIT.points.values()]


def test_the_exercise_is_what_nbgrader_itself_would_cut(tmp_path):
    """Same cells, same text of every answer cell but for the stub's brackets."""
    source = tmp_path / "source" / "ps1"
    source.mkdir(parents=True)
    shutil.copy(ROOT / UNIT.notebook("solutions"), source / "page.ipynb")
    nbgrader(tmp_path, "generate_assignment", "ps1")
    theirs = answers(tmp_path / "release" / "ps1" / "page.ipynb")
    ours = answers(ROOT / UNIT.notebook("exercises"))
    assert {**theirs}.keys() == {*ours} == {*UNIT.points}
    for name, text in theirs.items():
        assert text.replace("NotImplementedError()", "NotImplementedError") == ours[name]


def answers(path: Path) -> dict[str, str]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    found = [(c["metadata"].get("nbgrader", {}), "".join(c["source"])) for c in cells]
    return {about["grade_id"]: text for about, text in found if about.get("solution")}
