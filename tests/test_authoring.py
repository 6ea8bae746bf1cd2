"""`gdm sync`: what it derives, that it is deterministic, that it loses no work."""

import json
import os
import re
import subprocess
import sys

import jupytext
import mini_course as mini
import nbformat
import pytest
from mini_course import sources, synced_course  # noqa: F401

from gdm_course.authoring import derive, percent
from gdm_course.authoring.check import check
from gdm_course.source import ROOT

SYNC = """
import sys, pathlib
from gdm_course.authoring import derive
assert not derive.sync(pathlib.Path(sys.argv[1]))[1]
"""
LECTURE = "lectures/alpha/unit1.ipynb"
SCRIPT = "lectures/alpha/src/unit1.py"
SCRIPTS = [p for kind in ("lectures", "solutions") for p in ROOT.glob(f"{kind}/*/src/*.py")]


def quoted(notebook: dict, tag: str) -> str:
    found = [c for c in notebook["cells"] if tag in c["metadata"].get("tags", [])]
    return "".join(found[0]["source"])


def test_sync_is_green_and_writes_nothing_the_second_time(course):
    assert check(course) == []
    assert derive.sync(course) == ([], [])


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: "/".join(p.parts[-4:]))
def test_scripts_read_as_jupytext_reads_them(path):
    text = path.read_text(encoding="utf-8")
    theirs = jupytext.reads(text, "py:percent").cells
    ours = percent.read(text, path.name)
    assert percent.write(ours) == text
    assert [(c.kind, c.source) for c in ours.cells] == [
        (c.cell_type, c.source) for c in theirs
    ]
    assert [[*c.tags] for c in ours.cells] == [c.metadata.get("tags", []) for c in theirs]


def test_mini_scripts_read_as_jupytext_reads_them(course):
    for path in course.glob("*/*/src/*.py"):
        test_scripts_read_as_jupytext_reads_them(path)


def test_notebooks_are_nbformat_to_the_byte_and_carry_no_outputs(course):
    paths = [*course.rglob("*.ipynb")]
    assert len(paths) == 10
    for path in paths:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        assert nbformat.writes(notebook) + "\n" == path.read_text(encoding="utf-8")
        assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
        assert notebook.metadata.kernelspec.name == "python3"
        assert "jupytext" not in notebook.metadata
        code = [c for c in notebook.cells if c.cell_type == "code"]
        assert all(not c.outputs and c.execution_count is None for c in code)
        assert len({c.id for c in notebook.cells}) == len(notebook.cells)


def test_the_same_bytes_in_any_place_under_any_hash_seed(tmp_path):
    made = []
    for seed in ("1", "2"):
        root = mini.make(tmp_path / f"checkout{seed}", 4, "owner/name")
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", SYNC, root], check=True, env=environment)
        files = sorted(p for p in root.rglob("*") if p.is_file())
        made.append({str(p.relative_to(root)): p.read_bytes() for p in files})
    assert made[0] == made[1]


def test_a_new_cell_does_not_change_the_ids_of_the_others(course):
    before = [cell["id"] for cell in mini.notebook(course, LECTURE)["cells"]]
    mini.edit(course, SCRIPT, "# ### Detail", "# new\n\n# %%\n\n# %%\n1")
    derive.sync(course)
    after = [cell["id"] for cell in mini.notebook(course, LECTURE)["cells"]]
    kept = [identity for identity in after if identity in before]
    assert len(after) == len(before) + 2
    assert len(kept) == len(before) - 1
    assert kept == [identity for identity in before if identity in kept]


def test_equal_cells_have_ids_of_their_own(course):
    mini.edit(course, SCRIPT, "# Now the model.", "# Now.\n\n# %% [markdown]\n# Now.")
    derive.sync(course)
    cells = mini.notebook(course, LECTURE)["cells"]
    assert len([c for c in cells if c["source"] == ["Now."]]) == 2
    assert len({c["id"] for c in cells}) == len(cells)


def test_a_quoted_cell_is_the_package_source(course):
    half, model = mini.MODULE.rstrip("\n").split("\n\n\n")[2:4]
    notebook = mini.notebook(course, LECTURE)
    assert quoted(notebook, "from:alpha.unit1.half") == half
    assert quoted(notebook, "from:alpha.unit1.Model") == model
    assert half.startswith("@torch.no_grad()\ndef half")
    assert model.endswith("# (B, D)")


ODD = (
    "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"  # where str.splitlines cuts, and Python does not
)


@pytest.mark.parametrize("odd", ODD, ids=ascii)
def test_only_a_newline_ends_a_line_of_a_script(course, odd):
    line = f'odd = "a{odd}b"  # c{odd}d'
    mini.edit(course, SCRIPT, "assert Model()", f"{line}\nassert Model()")
    mini.edit(course, SCRIPT, "# Speak slowly.", f"# Speak{odd}slowly.")
    before = (course / SCRIPT).read_bytes()
    derive.sync(course)
    assert check(course) == []
    assert (course / SCRIPT).read_bytes() == before
    cells = ["".join(c["source"]) for c in mini.notebook(course, LECTURE)["cells"]]
    assert any(cell.startswith(f"{line}\nassert Model") for cell in cells)
    assert any(f"Speak{odd}slowly." in cell for cell in cells)


@pytest.mark.parametrize("odd", ODD, ids=ascii)
def test_only_a_newline_ends_a_line_of_the_package(course, odd):
    path = "gdm_course/alpha/unit1.py"
    mini.edit(course, path, '"""A module."""', f'"""A{odd}module."""')
    mini.edit(course, path, '"""Half of x."""', f'"""Half{odd}of x."""')
    mini.edit(course, path, "return 2 * x\n", "return 2 * x\n\x0c\n")
    derive.sync(course)
    assert check(course) == []
    notebook = mini.notebook(course, LECTURE)
    half = f'@torch.no_grad()\ndef half(x):\n    """Half{odd}of x."""\n    return x / 2'
    assert quoted(notebook, "from:alpha.unit1.half") == half
    assert quoted(notebook, "from:alpha.unit1.Model").endswith("# (B, D)")


@pytest.mark.parametrize("odd", ODD, ids=ascii)
def test_only_a_newline_ends_a_line_of_a_solution(course, odd):
    script = "solutions/beta/src/unit2.py"
    mini.edit(
        course, script, "squared_by_hand = y", f'"one{odd}two"\n    squared_by_hand = y'
    )
    mini.edit(course, script, "    y = x\n", f'    y = x  # "three{odd}four"\n')
    derive.sync(course)
    assert check(course) == []
    cells = sources(mini.notebook(course, "exercises/beta/unit2.ipynb"))
    (answer,) = [cell for cell in cells if "def square" in cell]
    assert f"three{odd}four" in answer
    assert "one" not in answer
    assert answer.count("YOUR CODE HERE") == 1


@pytest.mark.parametrize("end", ["\r\n", "\r"], ids=ascii)
def test_scripts_of_other_systems_derive_the_same(course, end):
    path = course / LECTURE
    before = path.read_bytes()
    for name in (SCRIPT, "gdm_course/alpha/unit1.py"):
        text = (course / name).read_text(encoding="utf-8").replace("\n", end)
        (course / name).write_bytes(text.encode())
    derive.sync(course)
    assert check(course) == []
    assert path.read_bytes() == before


def test_synced_scripts_are_as_the_formatter_wants_them(course):
    config = ["--config", str(ROOT / "pyproject.toml")]
    command = [sys.executable, "-m", "ruff", "format", "--check", *config]
    done = subprocess.run([*command, course / "lectures", course / "solutions"], text=True)
    assert done.returncode == 0


def test_the_exercise_is_the_solution_minus_its_blocks(course):
    block = r"( *)### BEGIN SOLUTION\n.*?### END SOLUTION"
    stub = r"\1# YOUR CODE HERE\n\1raise NotImplementedError"
    solution = mini.notebook(course, "solutions/beta/unit2.ipynb")
    exercise = mini.notebook(course, "exercises/beta/unit2.ipynb")
    expected = [re.sub(block, stub, text, flags=re.DOTALL) for text in sources(solution)]
    assert sources(exercise) == expected
    assert sum(text.count("raise NotImplementedError") for text in expected) == 3
    kept = {"The trick is to multiply it with itself."}
    markdown = [sources(notebook, "markdown") for notebook in (solution, exercise)]
    assert {*markdown[0][2:]} - {*markdown[1]} == kept
    with pytest.raises(NotImplementedError):
        exec("\n".join(sources(exercise)[2:3]) + "\nsquare(1)", {})


def test_answers_and_checks_carry_nbgraders_metadata(course):
    """The rules of nbgrader's schema 3, written out; `points` come from course.toml."""
    names = ["square", "check-square", "Net", "check-Net"]
    for kind in ("exercises", "solutions"):
        cells = mini.notebook(course, f"{kind}/beta/unit2.ipynb")["cells"]
        found = [c["metadata"]["nbgrader"] for c in cells if "nbgrader" in c["metadata"]]
        assert [meta["grade_id"] for meta in found] == names
        assert [meta.get("points") for meta in found] == [None, 2, None, 3]
        for meta in found:
            assert meta["schema_version"] == 3
            assert meta["task"] is False
            assert re.fullmatch(r"[a-zA-Z0-9_\-]+", meta["grade_id"])
            assert meta["solution"] is not meta["grade"] is meta["locked"]


def test_slides_follow_the_headings(course):
    cells = mini.notebook(course, LECTURE)["cells"]
    kinds = [c["metadata"].get("slideshow", {}).get("slide_type", "-") for c in cells]
    #        title    nav     setup   code  Build   half     Now       Model
    first = ["slide", "skip", "skip", "-", "slide", "-", "subslide", "subslide"]
    assert kinds == [*first, "-", "subslide", "notes", "skip"]


def test_the_lecturers_notes_are_folded(course):
    cells = mini.notebook(course, LECTURE)["cells"]
    (cell,) = [c for c in cells if "Speak slowly" in "".join(c["source"])]
    folded = "<details><summary>For the lecturer</summary>\n\nSpeak slowly.\n\n</details>"
    assert "".join(cell["source"]) == folded
    assert cell["metadata"] == {"tags": ["notes"], "slideshow": {"slide_type": "notes"}}


FOLD = '# %% tags=["fold"]\n# @title The mean\nassert Model()'


@pytest.mark.parametrize("kind", ["lectures", "solutions", "exercises"])
def test_a_folded_cell_hides_its_source_everywhere(course, kind):
    mini.edit(course, SCRIPT, "# %%\nassert Model()", FOLD)
    solution = "solutions/alpha/src/unit1.py"
    mini.edit(course, solution, 'print("done")', FOLD.replace("assert Model()", "1"))
    derive.sync(course)
    assert check(course) == []
    cells = mini.notebook(course, f"{kind}/alpha/unit1.ipynb")["cells"]
    (cell,) = [c for c in cells if "fold" in c["metadata"].get("tags", [])]
    assert cell["source"][0] == "# @title The mean\n"
    assert cell["metadata"]["jupyter"] == {"source_hidden": True}  # JupyterLab
    assert cell["metadata"]["cellView"] == "form"  # Colab
    assert cell["metadata"]["tags"] == ["fold", "hide-input"]  # myst-nb


def test_sync_leaves_a_notebook_alone_that_was_edited_by_hand(course):
    notebook = mini.notebook(course, LECTURE)
    notebook["cells"][3]["source"] = ["mine = 1"]
    mini.put(course, LECTURE, json.dumps(notebook))
    written, problems = derive.sync(course)
    assert written == []
    assert f"gdm adopt {LECTURE}" in str(problems[0])
    assert derive.sync(course, force=True) == ([LECTURE], [])
    assert check(course) == []


def test_one_units_mistake_does_not_hinder_the_others(course):
    mini.edit(
        course, "lectures/alpha/src/unit0.py", "from:alpha.unit0.half", "from:alpha.unit0.x"
    )
    mini.edit(course, "lectures/beta/src/unit2.py", "# Speak slowly", "# Speak slower")
    written, problems = derive.sync(course)
    assert "lectures/beta/unit2.ipynb" in written
    assert "gdm_course.alpha.unit0 defines no 'x'; it has double, half, Model" in str(
        problems[0]
    )


def test_a_script_saved_while_sync_runs_is_not_overwritten(course, monkeypatch):
    mini.edit(course, SCRIPT, "x / 2", "x / 3")  # a quote to repair
    plan = derive.plan

    def slow(root):
        made = plan(root)
        mini.edit(course, SCRIPT, "slowly", "slower")
        return made

    monkeypatch.setattr(derive, "plan", slow)
    _, problems = derive.sync(course)
    assert "was saved while sync ran" in str(problems[0])
    assert "slower" in (course / SCRIPT).read_text()
