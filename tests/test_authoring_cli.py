"""What an author or a student sees in the terminal: sentences and exit codes."""

import json
import os
import sys
from pathlib import Path

import mini_course as mini
import pytest
from mini_course import synced_course  # noqa: F401
from typer.testing import CliRunner

from gdm_course import source
from gdm_course.cli import app

LECTURE = "lectures/alpha/unit1.ipynb"


@pytest.fixture
def gdm(course, monkeypatch):
    """Run `gdm ...` in the synthetic course; gives the exit code and what it prints."""
    monkeypatch.setattr(source, "ROOT", course)
    monkeypatch.chdir(course)

    def run(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, [*arguments])
        assert done.exception is None or isinstance(done.exception, SystemExit)
        return done.exit_code, done.output

    return run


def test_check_and_sync_report_by_exit_code(course, gdm):
    assert gdm("check")[0] == 0
    mini.edit(course, "gdm_course/alpha/unit1.py", "x / 2", "x / 3")
    code, output = gdm("check")
    assert code == 1
    assert "-> gdm sync" in output
    assert gdm("sync")[0] == 0
    assert gdm("check") == (0, "✔ scripts, package, notebooks and tables agree\n")


def test_a_broken_course_file_is_one_sentence(course, gdm):
    mini.edit(course, "gdm_course/course.toml", 'title = "Mini"', "title = Mini")
    code, output = gdm("check")
    assert code == 2
    assert "gdm_course/course.toml" in output
    assert "Traceback" not in output


def test_a_misspelt_key_of_a_unit_is_one_sentence(course, gdm):
    needs = 'needs = ["alpha/unit0"]'
    mini.edit(course, "gdm_course/course.toml", needs, needs.replace("needs", "need"))
    code, output = gdm("sync")
    assert code == 2
    assert "unit 'alpha/unit1' has anatomy, need, points" in output


def test_an_anatomy_is_sheet_or_nothing(course, gdm):
    mini.edit(course, "gdm_course/course.toml", '"sheet"', '"new"')
    code, output = gdm("check")
    assert code == 2
    assert 'anatomy = "sheet" or nothing' in output


def test_check_says_how_long_the_lectures_are(gdm):
    code, output = gdm("check", "--hours")
    assert code == 0
    rows = [line.split()[:3] for line in output.splitlines()[1:4]]
    assert rows == [
        [f"{f}/unit{i}", "core", "3"] for i, f in enumerate(("alpha",) * 2 + ("beta",))
    ]


def test_adopt_prints_the_diff(course, gdm):
    notebook = mini.notebook(course, LECTURE)
    notebook["cells"][3]["source"] = "x = 1"
    mini.put(course, LECTURE, json.dumps(notebook))
    assert f"gdm adopt {LECTURE}" in gdm("check")[1]
    assert "+x = 1" in gdm("adopt", LECTURE, "--dry-run")[1]
    assert "+x = 1" in gdm("adopt", LECTURE)[1]
    assert "no edits to adopt" in gdm("adopt", LECTURE)[1]
    assert gdm("check")[0] == 0


def test_start_says_what_it_did(course, gdm):
    assert gdm("start", "beta/unit2", "--no-open") == (0, "made work/beta/unit2.ipynb\n")
    assert "your work is untouched" in gdm("start", "beta/unit2", "--no-open")[1]
    code, output = gdm("start", "unit9", "--no-open")
    assert code == 2
    assert "did you mean" in output


@pytest.mark.skipif(os.name == "nt", reason="Windows has no exec")
def test_lab_syncs_and_becomes_jupyterlab(course, gdm, monkeypatch):
    ran = []
    monkeypatch.setattr(os, "execv", lambda path, command: ran.append(command))
    monkeypatch.setenv("PATH", os.environ["PATH"])
    (course / LECTURE).unlink()
    _, output = gdm("lab", "--port", "8123", "--no-browser", "--allow-root")
    assert f"wrote {LECTURE}" in output
    (command,) = ran
    assert command[1:3] == ["-m", "jupyterlab"]
    assert f"--ServerApp.root_dir={course}" in command
    assert "--LabApp.default_url=/lab/tree/lectures/index.ipynb" in command
    assert {"--ServerApp.port=8123", "--no-browser", "--allow-root"} <= {*command}
    assert os.environ["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)


def test_start_opens_the_copy(course, gdm, monkeypatch):
    ran = []
    monkeypatch.setattr(os, "execv", lambda path, command: ran.append(command))
    monkeypatch.setenv("PATH", os.environ["PATH"])
    gdm("start", "unit2")
    assert "--LabApp.default_url=/lab/tree/work/beta/unit2.ipynb" in ran[0]


def test_gdm_refuses_to_work_on_another_checkout(tmp_path, gdm, monkeypatch):
    other = mini.make(tmp_path / "other", 1)
    monkeypatch.chdir(other / "lectures")
    code, output = gdm("sync")
    assert code == 2
    assert "use that folder's own .venv/bin/gdm" in output
