"""Notebooks as a whole: exercises as handed out, and the machinery that runs them.

Lectures and solutions run cell by cell under nbval, within `make test`: `pytest --nbval-lax
lectures solutions`; see conftest.py at the root for how.
"""

import re
import subprocess
import sys
import tomllib
from types import SimpleNamespace

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from gdm_course.publishing import execute, full
from tests.turns import by_turns

EXERCISES = {f"{p.parent.name}/{p.stem}": p for p in execute.notebooks("exercises")}
WIDGET = "application/vnd.jupyter.widget-view+json"
STUB = "# YOUR CODE HERE"


@pytest.fixture(scope="module", params=by_turns(EXERCISES, one_of=3))
def handed_out(request):
    """An exercise, run from top to bottom by a student who has written nothing yet."""
    run = execute.execute(request.param, execute.environment(smoke=True), go_on=True)
    return run.notebook


def test_every_unit_has_its_three_notebooks(root):
    """Otherwise a missing notebook would pass for a tested one."""
    course = tomllib.loads(
        (root / "gdm_course" / "course.toml").read_text(encoding="utf-8")
    )
    found = execute.notebooks("lectures", "solutions", "exercises")
    assert len(found) == 3 * len(course["units"])


def test_an_unanswered_exercise_raises_not_implemented_and_nothing_else(handed_out):
    others = [e for e in execute.errors(handed_out) if e[1] != "NotImplementedError"]
    assert not others


def test_every_question_says_not_answered_yet(handed_out):
    asked = [c for c in handed_out.cells if re.search(r"^check\.\w+\(", c.source, re.M)]
    assert asked, "the exercise asks nothing"
    for cell in asked:
        assert "not answered yet" in execute.printed(cell), cell.source


def test_every_question_has_a_stub(handed_out):
    stubs = sum(c.source.count(STUB) for c in handed_out.cells)
    asked = sum(len(re.findall(r"^check\.\w+\(", c.source, re.M)) for c in handed_out.cells)
    assert stubs >= asked > 0


def test_an_exercise_is_quiet(handed_out):
    said = [execute.printed(c, "stderr") for c in handed_out.cells if c.cell_type == "code"]
    assert not any(said)


def write(path, *sources):
    """Write a notebook of code cells."""
    cells = [new_code_cell(source, id=f"c{i}") for i, source in enumerate(sources)]
    nbformat.write(new_notebook(cells=cells), path)
    return path


def test_execute_measures_cells_and_memory(tmp_path, monkeypatch):
    source = "x = bytearray(300_000_000)"
    clock = iter([10.0, 13.0, 20.0, 20.5])  # before and after each cell
    monkeypatch.setattr(execute, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    run = execute.execute(write(tmp_path / "a.ipynb", source, "1"), execute.environment())
    assert run.error is None
    assert run.cells == {0: 3.0, 1: 0.5}
    assert run.seconds == 3.5
    if sys.platform == "linux":
        assert run.peak_gb > 0.3


def test_execute_stops_at_an_error_or_goes_on(tmp_path):
    path = write(tmp_path / "a.ipynb", "1 / 0", "print('after')")
    run = execute.execute(path, execute.environment())
    assert "ZeroDivisionError" in run.error
    assert "outputs" not in run.notebook.cells[1] or not run.notebook.cells[1].outputs
    run = execute.execute(path, execute.environment(), go_on=True)
    assert execute.errors(run.notebook) == [(0, "ZeroDivisionError", "division by zero")]
    assert execute.printed(run.notebook.cells[1]) == "after\n"


def test_a_dead_kernel_and_a_slow_cell_are_errors_of_the_notebook(tmp_path):
    path = write(tmp_path / "a.ipynb", "import os; os._exit(1)", "1")
    assert "died" in execute.execute(path, execute.environment()).error
    path = write(tmp_path / "b.ipynb", "import time; time.sleep(60)")
    assert "timed out" in execute.execute(path, execute.environment(), cell_timeout=1).error


def test_what_an_output_widget_holds_lands_in_the_cell(tmp_path):
    source = (
        "import ipywidgets; out = ipywidgets.Output(); display(out)\nwith out: print(1)"
    )
    run = execute.execute(write(tmp_path / "a.ipynb", source), execute.environment())
    assert run.error is None
    assert "widgets" not in run.notebook.metadata
    assert execute.printed(run.notebook.cells[0]) == "1\n"
    assert not execute.without_widgets(run.notebook).cells[0].outputs[0].data.get(WIDGET)


def test_execute_sets_the_switches(tmp_path, monkeypatch):
    monkeypatch.setenv("GDM_CHECK", "1")  # must not leak into the kernel
    source = "import os; print(os.environ.get('GDM_SMOKE'), os.environ.get('GDM_CHECK'))"
    path = write(tmp_path / "a.ipynb", source)
    run = execute.execute(path, execute.environment(smoke=True))
    assert execute.printed(run.notebook.cells[0]) == "1 None\n"


def test_over_budget_names_each_excess(tmp_path):
    run = execute.Run(tmp_path, new_notebook(), {0: 5.0, 3: 30.0}, peak_gb=2.0)
    limit = {"seconds": 90, "gigabytes": 1.5, "cell_seconds": 20}
    assert full.over_budget(run, limit) == ["2.00 GB of 1.5 GB", "cell 3: 30 s of 20 s"]
    assert full.over_budget(run, {"seconds": 30, "gigabytes": 3, "cell_seconds": 40}) == [
        "35 s of 30 s"
    ]


def nbval(root, folder):
    """Run the notebooks of a folder as `make test` does, with the root's conftest.py."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--nbval-lax",
        "-p",
        "no:cacheprovider",
    ]
    (folder / "conftest.py").write_text((root / "conftest.py").read_text())
    (folder / "pytest.ini").write_text("[pytest]\n")
    return subprocess.run(
        [*command, str(folder)], cwd=folder, capture_output=True, text=True
    )


def test_nbval_runs_smoke_and_strict(root, tmp_path):
    source = "import os; assert os.environ['GDM_SMOKE'] == os.environ['GDM_CHECK'] == '1'"
    write(
        tmp_path / "a.ipynb", source, "import matplotlib; print(matplotlib.get_backend())"
    )
    done = nbval(root, tmp_path)
    assert "2 passed" in done.stdout, done.stdout


def test_nbval_fails_a_cell_that_warns(root, tmp_path):
    write(tmp_path / "a.ipynb", "import warnings; warnings.warn('look')", "print('fine')")
    done = nbval(root, tmp_path)
    assert "1 failed, 1 passed" in done.stdout, done.stdout
    assert "writes to stderr" in done.stdout
