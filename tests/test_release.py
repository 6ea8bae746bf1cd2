"""Releases: nothing in a student's tree gives an answer away, and its notebooks run."""

import ast
import errno
import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gdm_course.authoring.course import load
from gdm_course.cli import app
from gdm_course.grading.box.ladder import LADDER
from gdm_course.grading.judge.assignment import assignments, match
from gdm_course.grading.judge.boxes import Boxes
from gdm_course.grading.judge.judge import grade
from gdm_course.grading.judge.notebook import read
from gdm_course.grading.judge.verdict import Status
from gdm_course.grading.release import later, marks, package, tree
from gdm_course.source import ROOT

COURSE = load(ROOT)
MAPS = assignments(COURSE)
BEST = next((r for r in LADDER if r.name in ("L3", "L3u") and r.missing() is None), None)
SOLVED = "foundations/densities"


@cache
def released(*keys: str) -> tree.Release:
    return tree.student(ROOT, [*keys])


def blocks(key: str) -> list[str]:
    """The lines between the marks of a solution, read here with a reader of our own."""
    text = COURSE.units[key].text("solutions")
    found = re.findall(r"### BEGIN SOLUTION\n(.*?)### END SOLUTION", text, re.DOTALL)
    return ["".join(line.split()) for block in found for line in block.splitlines()]


def shown(key: str) -> str:
    """Every line of the exercise, blanks removed."""
    page = json.loads((ROOT / COURSE.units[key].notebook("exercises")).read_text())
    sources = ["".join(cell["source"]) for cell in page["cells"]]
    return "\n".join("".join(x.split()) for s in sources for x in s.splitlines())


def lines(release: tree.Release) -> set[str]:
    """Every line of every file of a tree, and of every cell, blanks removed."""
    texts = []
    for name, data in release.files.items():
        text = data.decode("utf-8", "replace")
        if name.endswith(".ipynb"):
            text = "\n".join("".join(c["source"]) for c in json.loads(text)["cells"])
        texts.append(text)
    return {"".join(line.split()) for text in texts for line in text.splitlines()}


@pytest.mark.parametrize("key", MAPS)
def test_no_line_of_the_solution_is_in_the_tree(key):
    public = shown(key)
    secret = [line for line in blocks(key) if len(line) >= 20 and line not in public]
    assert len(secret) >= 5
    assert not {*secret} & lines(released(key))


@pytest.mark.parametrize("key", MAPS)
def test_withheld_modules_are_there_by_name_only(key):
    release = released(key)
    assert all(package.within(name, release.gone) for name in MAPS[key].withheld)
    for module in release.gone:
        if (inside := package.inside(module)) in release.files:
            kept = ast.parse(release.files[inside]).body
            defined = {n.name for n in kept if hasattr(n, "name")}
            built = {path.rpartition(".")[2] for path in MAPS[key].made}
            assert defined <= {"__getattr__"} | built
            assert len(kept) == 3 or defined & built
    named = {
        name for name in release.files if re.search("solution|course.toml|judge", name)
    }
    assert not named
    hints = [m.hint for q in MAPS[key].questions.values() for m in q.mistakes]
    everything = "\n".join(d.decode("utf-8", "replace") for d in release.files.values())
    assert not [hint for hint in hints if hint in everything]


def test_the_release_refuses_a_line_that_it_cannot_leave_out(monkeypatch):
    """A line of a tool that is, by chance, the solution's: nothing is written."""
    tool = next(
        text.strip()
        for text in (ROOT / "gdm_course/training.py").read_text().splitlines()
        if len(text.strip()) > 30 and text.startswith("    ")
    )
    monkeypatch.setattr(package, "secrets", lambda unit: [" ".join(tool.split())])
    with pytest.raises(tree.Refused, match=r"training\.py would show"):
        tree.student(ROOT, [SOLVED])


def test_the_tree_is_the_same_twice_and_holds_the_map(tmp_path):
    one, two = tree.student(ROOT, ["flows/maf"]), tree.student(ROOT, ["flows/maf"])
    assert one.files == two.files
    tree.write(one, tmp_path / "out")
    stored = json.loads((tmp_path / "out" / "assignment.json").read_text())
    about = stored["units"]["flows/maf"]
    assert about["questions"] == COURSE.units["flows/maf"].points
    assert about["fingerprint"] == MAPS["flows/maf"].fingerprint
    on_disk = {
        p.relative_to(tmp_path / "out").as_posix(): p for p in files(tmp_path / "out")
    }
    assert {name: path.read_bytes() for name, path in on_disk.items()} == one.files


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def command(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["release", *arguments])
    return done.exit_code, done.output


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("work")
    code, said = command("flows/maf", "--out", str(tmp_path))
    assert code == 2
    assert said.count("\n") == 1
    assert "is not empty: give --out a folder that is new or empty" in said
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
    (tmp_path / "empty").mkdir()
    assert command("flows/maf", "--out", str(tmp_path / "empty"))[0] == 0
    assert (tmp_path / "empty" / "README.md").is_file()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_tree_that_cannot_be_written_is_one_sentence(tmp_path, monkeypatch, number):
    written, real = [], Path.write_bytes

    def refused(self, data):
        if len(written) == 5:
            raise OSError(number, os.strerror(number), str(self))
        written.append(self)
        return real(self, data)

    monkeypatch.setattr(Path, "write_bytes", refused)
    code, said = command(SOLVED, "--out", str(tmp_path / "out"))
    assert (code, said.count("\n")) == (2, 1)
    assert os.strerror(number) in said
    assert said.endswith("then run this again; nothing was written\n")
    assert [*tmp_path.iterdir()] == []


def test_a_tree_below_a_file_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("mine")
    code, said = command(SOLVED, "--out", str(tmp_path / "file" / "out"))
    assert (code, said.count("\n")) == (2, 1)
    assert "move the file of that name away" in said
    assert (tmp_path / "file").read_text() == "mine"


def test_a_tree_through_a_link_or_over_what_comes_meanwhile(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    assert command(SOLVED, "--out", str(tmp_path / "link"))[0] == 0
    assert (tmp_path / "empty" / "README.md").is_file()
    out, real = tmp_path / "out", os.replace

    def late(source, target):
        (out / "theirs").mkdir(parents=True)
        return real(source, target)

    monkeypatch.setattr(tree.os, "replace", late)
    code, said = command(SOLVED, "--out", str(out))
    assert (code, said.count("\n")) == (2, 1)
    assert f"{out} is not empty: give --out" in said
    assert [path.name for path in out.iterdir()] == ["theirs"]
    assert {path.name for path in tmp_path.iterdir()} == {"empty", "link", "out"}


ENDS = """
import os, signal, sys
from gdm_course.grading.release import tree
name = sys.argv.pop(1)
def end(*_):
    os.kill(os.getpid(), signal.Signals[name])
tree.os.replace = end
from gdm_course.cli import app
app()
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_a_release_that_is_ended_leaves_nothing(tmp_path, name):
    todo = ["-c", ENDS, name, "release", SOLVED, "--out", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, *todo], capture_output=True, text=True, cwd=ROOT)
    if name == "SIGKILL":
        assert done.returncode == -9
        assert len([*tmp_path.iterdir()]) == 1
        (tmp_path / ".mine").mkdir()
        assert command(SOLVED, "--out", str(tmp_path / "out"))[0] == 0
        assert {path.name for path in tmp_path.iterdir()} == {".mine", "out"}
    else:
        said = "interrupted: nothing was written; to go on, run the same command again\n"
        assert (done.returncode, done.stderr) == (130, said)
        assert [*tmp_path.iterdir()] == []


def test_an_unknown_unit_is_named_with_those_there_are(tmp_path):
    code, said = command("flows/nothing", "--out", str(tmp_path / "out"))
    assert code == 2
    assert "'flows/nothing' is no unit with an exercise" in said
    assert "flows/maf" in said
    assert not (tmp_path / "out").exists()


def test_units_that_build_on_each_other_are_named():
    """vae/vqvae fits a GPT, whose decoding is what autoregressive/gpt asks for."""
    both = released("autoregressive/gpt", "vae/vqvae")
    assert any(
        "vae/vqvae builds on" in note and "gpt withholds" in note for note in both.notes
    )
    alone = released("vae/vqvae")
    assert any("which autoregressive/gpt withholds" in note for note in alone.notes)
    assert "gdm_course.autoregressive.decoding" not in alone.gone
    assert not released(SOLVED).notes


def test_lectures_come_only_when_asked_for():
    assert not [name for name in released("flows/maf").files if "lectures" in name]
    with_them = tree.student(ROOT, ["flows/maf"], lectures=True)
    assert "lectures/flows/maf.ipynb" in with_them.files
    assert any("quote what is left out" in note for note in with_them.notes)


# Marks of cells ---------------------------------------------------------------------------


def cells(*sources: str) -> dict:
    made = [
        {"cell_type": "code", "id": str(i), "metadata": {}, "source": source, "outputs": []}
        for i, source in enumerate(sources)
    ]
    return {"cells": made, "metadata": {"gdm": {}}, "nbformat": 4, "nbformat_minor": 5}


def test_marks_follow_what_a_cell_needs():
    notebook = cells(
        "from gdm_course.flows import maf\nfrom gdm_course.data import toy",
        "model = maf.MAF(2)",  # uses what is left out
        "x = toy.get('ring').sample(3)",
        "print(model, x)",  # uses what the second cell would have made
        "model = 3",
        "print(model)",
        "check.knots.reference(x)",
        "check.knots(x)",
        "%matplotlib inline\ndef f():\n    return maf.MAF(2)",
    )
    text, count = marks.released(notebook, "x", frozenset({"gdm_course.flows.maf"}))
    found = [c for c in json.loads(text)["cells"] if c["cell_type"] == "code"]
    marked = [c["id"] for c in found if marks.MAY_STOP in c["metadata"].get("tags", [])]
    assert marked == ["1", "3", "6", "8"]
    assert count == 4
    assert [c["source"] for c in found] == [c["source"] for c in notebook["cells"]]


def test_what_builds_on_the_withheld_is_marked_too():
    """flows.maf imports autoregressive.made: without made, a cell that uses maf stops."""
    notebook = cells("from gdm_course.flows.maf import MAF", "MAF(2)")
    gone = frozenset({"gdm_course.autoregressive.made"})
    assert marks.released(notebook, "x", gone)[1] == 1
    assert marks.released(notebook, "x", frozenset({"gdm_course.vae"}))[1] == 0


# What a student has -----------------------------------------------------------------------


def alone(place: Path) -> dict[str, str]:
    """An environment in which only the tree is the course."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("GDM_", "PYTHON"))}
    quick = {"GDM_SMOKE": "1", "GDM_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return env | quick | {"PYTHONPATH": str(place), "HOME": str(place.parent)}


RUN = """
import json, sys, nbformat, gdm_course
from nbclient import NotebookClient
assert gdm_course.__file__.startswith(sys.argv[1]), gdm_course.__file__
notebook = nbformat.read(sys.argv[2], 4)
NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
out = [o.get("text", "") + o.get("ename", "") for c in notebook.cells
       if c.cell_type == "code" for o in c.outputs]
print(json.dumps("".join(out)))
"""


def run_notebook(place: Path, page: str) -> str:
    """Run a notebook inside a tree, in a process that has nothing else of the course."""
    todo = [sys.executable, "-c", RUN, str(place), str(place / page)]
    done = subprocess.run(todo, cwd=place, env=alone(place), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("keys", [(SOLVED,), ("autoregressive/gpt", "vae/vqvae")], ids=str)
def test_released_notebooks_run_from_top_to_bottom(keys, tmp_path):
    place = tmp_path / "tree"
    tree.write(released(*keys), place)
    for key in keys:
        said = run_notebook(place, COURSE.units[key].notebook("exercises"))
        for name in COURSE.units[key].points:
            assert f"{name}: not answered yet" in said
        assert "Withheld" in said
        assert "ImportError" not in said


def test_a_check_line_tries_the_answer_and_knows_no_value(tmp_path):
    tree.write(released(SOLVED), tmp_path / "tree")
    code = """
import torch
from gdm_course.checks.foundations import densities as check
def right(a, b, c, d): return torch.zeros(len(a))
def shape(a, b, c, d): return torch.zeros(())
def error(a, b, c, d): return a.nothing
state = torch.get_rng_state()
for f in (right, shape, error): check.kl_gaussian(f)
assert torch.equal(torch.get_rng_state(), state)
try: check.kl_gaussian.reference(1)
except RuntimeError as e: print(type(e).__name__, e)
"""
    todo = [sys.executable, "-c", code]
    env = alone(tmp_path / "tree")
    done = subprocess.run(
        todo, cwd=tmp_path / "tree", env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    right, shape, error, reference = done.stdout.splitlines()
    assert "it runs, shapes are right; graded after you hand in" in right
    assert "shapes [()], expected [(6,)]" in shape
    assert "it raises AttributeError" in error
    assert "Withheld the course's own kl_gaussian comes after" in reference


def test_every_module_of_a_tree_imports(tmp_path):
    """With the stand-ins in place: a class may inherit from one, and nothing is missing."""
    place = tmp_path / "tree"
    tree.write(released(*MAPS), place)
    names = [p.relative_to(place).with_suffix("").as_posix() for p in place.rglob("*.py")]
    dotted = [n.removesuffix("/__init__").replace("/", ".") for n in names]
    code = "\n".join(f"import {name}" for name in sorted(dotted))
    code += "\nfrom gdm_course.checks.vae import vae\nprint(gdm_course.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=place,
        env=alone(place),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(place))


def test_every_check_line_builds_its_call_without_what_is_left_out(tmp_path):
    """A call may be built with a part of the course: that part is in the tree."""
    place = tmp_path / "tree"
    tree.write(released(*MAPS), place)
    code = "import importlib\ndef stub(*args, **kwargs): raise NotImplementedError\n"
    for key, assignment in MAPS.items():
        module = f"gdm_course.checks.{key.replace('/', '.')}"
        for name in assignment.points:
            code += f"importlib.import_module('{module}').{name}(stub)\n"
    todo, env = [sys.executable, "-c", code], alone(place)
    done = subprocess.run(todo, cwd=place, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert len(said) == sum(len(one.points) for one in MAPS.values())
    assert [line for line in said if "not answered yet" not in line] == []


def test_the_students_command_knows_the_data(tmp_path):
    tree.write(released(SOLVED), tmp_path / "tree")
    code = "from gdm_course.cli import app; app(['data', 'list'])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path / "tree",
        env=alone(tmp_path / "tree"),
        capture_output=True,
        text=True,
    )
    assert "mnist" in done.stdout, done.stderr


# From release to marks --------------------------------------------------------------------


def answered(key: str) -> bytes:
    """The released notebook with the solution's cells in place of the stubs."""
    page = json.loads(released(key).files[COURSE.units[key].notebook("exercises")])
    solved = json.loads((ROOT / COURSE.units[key].notebook("solutions")).read_text())
    answers = {identity(c): c["source"] for c in solved["cells"] if identity(c)}
    for cell in page["cells"]:
        cell["source"] = answers.get(identity(cell), cell["source"])
    return json.dumps(page).encode()


def identity(cell: dict) -> str:
    return cell["metadata"].get("nbgrader", {}).get("grade_id", "")


@pytest.mark.skipif(BEST is None, reason="no bubblewrap on this machine")
@pytest.mark.parametrize("data", ["answered", "as released"])
def test_a_released_notebook_grades(data):
    whole = answered(SOLVED) if data == "answered" else None
    page = COURSE.units[SOLVED].notebook("exercises")
    found = read(whole or released(SOLVED).files[page])
    chosen = match(found, MAPS)
    assert chosen.key == SOLVED
    boxes = Boxes(BEST, chosen)
    try:
        result = grade(found, "0" * 64, chosen, boxes.make)
    finally:
        boxes.close()
    assert result.earned == (result.points if whole else 0)
    assert {mark.status for mark in result.marks} == {"graded" if whole else "missing"}


def test_the_judge_still_knows_the_cells_of_a_released_notebook():
    for key, assignment in MAPS.items():
        page = COURSE.units[key].notebook("exercises")
        assert all(map(assignment.knows, read(released(key).files[page]).cells))


# For instructors --------------------------------------------------------------------------


def test_the_instructors_tree_has_solutions_and_a_rubric(tmp_path):
    made = tree.instructor(ROOT, ["flows/maf", SOLVED])
    rubric = json.loads(made.files["rubrics/flows/maf.json"])
    assert {q["name"]: q["points"] for q in rubric["questions"]} == MAPS["flows/maf"].points
    questions = MAPS["flows/maf"].questions
    for question in rubric["questions"]:
        known = [mistake.hint for mistake in questions[question["name"]].mistakes]
        assert question["mistakes"] == known
        text = made.files["rubrics/flows/maf.md"].decode()
        assert all(hint in text for hint in known)
    page = "solutions/flows/maf.ipynb"
    assert made.files[page] == (ROOT / page).read_bytes()
    assert "gdm_course/checks/flows/maf.py" in made.files
    assert not [name for name in made.files if "__pycache__" in name]
    assert "not for students" in made.notes[0]


@pytest.mark.parametrize("key", MAPS)
def test_every_rubric_names_what_a_question_can_say(key):
    data = json.loads(json.dumps(rubric_of(key)))
    assert data["points"] == sum(COURSE.units[key].points.values())
    for question in data["questions"]:
        assert question["calls"] >= 1
        assert len(question["asked"]) >= 1
        assert question["kind"] == "close" or question["tested"]


def rubric_of(key: str) -> dict:
    from gdm_course.grading.release import rubric

    return rubric.of(COURSE.units[key], MAPS[key])[1]


def test_the_stand_in_says_one_line_where_ipython_would_print_a_traceback():
    empty = later.left_out("gdm_course.flows.maf", "MAF")
    with pytest.raises(later.Withheld, match="left out of this copy") as caught:
        empty(2)
    assert len(caught.value._render_traceback_()) == 1


def test_the_page_for_instructors_names_commands_and_options_that_exist():
    """docs/grading.md: each `gdm COMMAND --option` is known to the command line."""
    text = (ROOT / "docs" / "grading.md").read_text(encoding="utf-8")
    called = re.findall(r"gdm (release|grade|doctor)([^\n`]*)", text)
    assert {name for name, _ in called} == {"release", "grade", "doctor"}
    for name, rest in called:
        helped = CliRunner().invoke(app, [name, "--help"], terminal_width=200).output
        for option in re.findall(r"--[a-z-]+", rest):
            assert option in helped, f"gdm {name} has no {option}"
    listed = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    assert sorted(listed) == sorted(Status)
