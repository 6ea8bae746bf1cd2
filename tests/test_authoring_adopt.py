"""`gdm adopt` and `gdm start`: an author's edits come back, a student's work stays."""

import copy
import json
from pathlib import Path

import mini_course as mini
import pytest
from mini_course import sources, synced_course  # noqa: F401

from gdm_course.authoring import derive
from gdm_course.authoring.adopt import adopt
from gdm_course.authoring.check import check
from gdm_course.authoring.percent import AuthoringError
from gdm_course.authoring.start import start

ODD = (
    "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"  # where str.splitlines cuts, and Python does not
)
LECTURE = "lectures/alpha/unit1.ipynb"
SCRIPT = "lectures/alpha/src/unit1.py"
SOLUTION = "solutions/alpha/unit1.ipynb"


def code(source: str, **more) -> dict:
    cell = {"cell_type": "code", "id": "0a1b2c3d", "metadata": {}, "source": source}
    return {**cell, "execution_count": 3, "outputs": [], **more}


def save(root: Path, path: str, notebook: dict) -> None:
    """Store as JupyterLab does: executed, with the kernel's version."""
    notebook["metadata"]["language_info"] = {"name": "python", "version": "3.11.2"}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["execution_count"] = 1
            cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "hello"}]
    mini.put(root, path, json.dumps(notebook, indent=1))


def at(notebook: dict, text: str) -> int:
    found = [
        i for i, cell in enumerate(notebook["cells"]) if text in "".join(cell["source"])
    ]
    assert len(found) == 1
    return found[0]


def test_changed_added_deleted_and_moved_cells_come_back(course):
    notebook = mini.notebook(course, LECTURE)
    cells = notebook["cells"]
    cells[at(notebook, "assert Model")]["source"] = "%time Model()\n\nx = 1"
    cells.insert(4, code("def mine():\n    return 1", metadata={"tags": ["train"]}))
    del cells[at(notebook, "### Detail")]
    cells.append(cells.pop(at(notebook, "Speak slowly")))
    cells[at(notebook, "# The unit1")]["source"] = "# A new title\n\n\nTwo\n\nparagraphs"
    wanted = [(c["cell_type"], "".join(c["source"])) for c in cells]
    save(course, LECTURE, notebook)
    diff = adopt(course, Path(course / LECTURE))
    assert "+# %time Model()" in diff
    assert "-# ### Detail" in diff
    derive.sync(course)  # the title changed, so did the neighbours' lines
    assert check(course) == []
    after = mini.notebook(course, LECTURE)["cells"]
    assert [(c["cell_type"], "".join(c["source"])) for c in after] == wanted
    assert after[4]["metadata"]["tags"] == ["train"]
    assert "hello" not in (course / SCRIPT).read_text() + (course / LECTURE).read_text()


def test_what_was_not_edited_keeps_its_lines_in_the_script(course):
    before = (course / SCRIPT).read_text()
    notebook = mini.notebook(course, LECTURE)
    notebook["cells"][at(notebook, "Now the model")]["source"] = "Now this model."
    save(course, LECTURE, notebook)
    adopt(course, course / LECTURE)
    after = before.replace("Now the model", "Now this model")
    assert (course / SCRIPT).read_text() == after


FOLDED = '# %% tags=["fold"]\n# @title The mean\nassert Model()'
NOTE = "<details><summary>For the lecturer</summary>"


def test_folded_cells_come_back_without_what_is_derived(course):
    mini.edit(course, SCRIPT, "# %%\nassert Model()", FOLDED)
    derive.sync(course)
    before = (course / SCRIPT).read_text()
    notebook = mini.notebook(course, LECTURE)
    cell = notebook["cells"][at(notebook, "assert Model")]
    cell["source"] = "".join(cell["source"]).replace("title The mean", "title Its mean")
    del cell["metadata"]["jupyter"]  # opened with a click, and saved so
    note = notebook["cells"][at(notebook, "Speak slowly")]
    note["source"] = "".join(note["source"]).replace("slowly.", "slowly.\n\nAnd smile.")
    save(course, LECTURE, notebook)
    adopt(course, course / LECTURE)
    assert check(course) == []
    after = before.replace("title The mean", "title Its mean")
    after = after.replace("# Speak slowly.", "# Speak slowly.\n#\n# And smile.")
    assert (course / SCRIPT).read_text() == after


def test_opening_a_folded_cell_is_no_edit(course):
    mini.edit(course, SCRIPT, "# %%\nassert Model()", FOLDED)
    derive.sync(course)
    notebook = mini.notebook(course, LECTURE)
    notebook["cells"][at(notebook, "assert Model")]["metadata"]["jupyter"] = {}
    save(course, LECTURE, notebook)
    assert adopt(course, course / LECTURE) == ""
    assert derive.sync(course) == ([LECTURE], [])


@pytest.mark.parametrize(
    "half", [f"{NOTE}\n\nLouder.", f"{NOTE}Louder.</details>", "Louder."]
)
def test_a_note_is_folded_once_however_it_was_edited(course, half):
    notebook = mini.notebook(course, LECTURE)
    notebook["cells"][at(notebook, "Speak slowly")]["source"] = half
    save(course, LECTURE, notebook)
    adopt(course, course / LECTURE)
    assert '# %% [markdown] tags=["notes"]\n# Louder.\n' in (course / SCRIPT).read_text()
    source = "".join(mini.notebook(course, LECTURE)["cells"][-2]["source"])
    assert source == f"{NOTE}\n\nLouder.\n\n</details>"


def test_tags_given_in_jupyterlab_fold_a_cell(course):
    notebook = mini.notebook(course, LECTURE)
    cell = notebook["cells"][at(notebook, "assert Model")]
    cell["metadata"]["tags"] = ["fold"]
    cell["source"] = ["# @title The mean\n", *cell["source"]]
    save(course, LECTURE, notebook)
    adopt(course, course / LECTURE)
    assert FOLDED in (course / SCRIPT).read_text()
    cells = mini.notebook(course, LECTURE)["cells"]
    assert cells[-4]["metadata"]["cellView"] == "form"


def test_a_solution_is_adopted_and_its_exercise_follows(course):
    notebook = mini.notebook(course, SOLUTION)
    cell = notebook["cells"][at(notebook, "squared_by_hand = y * y")]
    cell["source"] = (
        "".join(cell["source"]).replace("y = x", "y = 1 * x").replace("y * y", "y**2")
    )
    done = notebook["cells"][at(notebook, 'print("done")')]
    done["metadata"]["tags"] = ["fold"]
    done["source"] = ["# @title The verdict\n", *done["source"]]
    save(course, SOLUTION, notebook)
    adopt(course, course / SOLUTION)
    derive.sync(course)
    assert check(course) == []
    exercise = (course / "exercises/alpha/unit1.ipynb").read_text()
    assert "y = 1 * x" in exercise
    assert exercise.count('"cellView": "form"') == 1
    assert "y**2" not in exercise


def test_a_dry_run_writes_nothing(course):
    notebook = mini.notebook(course, LECTURE)
    notebook["cells"][3]["source"] = "x = 1"
    save(course, LECTURE, notebook)
    before = {p: p.read_bytes() for p in course.rglob("*") if p.is_file()}
    assert "+x = 1" in adopt(course, course / LECTURE, dry_run=True)
    assert before == {p: p.read_bytes() for p in course.rglob("*") if p.is_file()}


def test_running_a_lecture_is_no_edit(course):
    save(course, LECTURE, mini.notebook(course, LECTURE))
    assert adopt(course, course / LECTURE) == ""
    assert derive.sync(course) == ([LECTURE], [])


def set_source(text: str, new: str):
    def change(notebook):
        notebook["cells"][at(notebook, text)]["source"] = new

    return change


def slide(notebook):
    notebook["cells"][0]["metadata"]["slideshow"] = {"slide_type": "fragment"}


def raw(notebook):
    notebook["cells"].append({"cell_type": "raw", "id": "r", "metadata": {}, "source": "x"})


def paste(link: str, kind: str = "Now the model"):
    """Paste a picture as JupyterLab does: its bytes beside the text, a link in the text."""

    def change(notebook):
        cell = notebook["cells"][at(notebook, kind)]
        cell["source"] = f"Now the model.\n\n{link}"
        cell["attachments"] = {"image.png": {"image/png": "iVBORw0KGgo="}}

    return change


REFUSED = {
    "picture": (
        paste("![image.png](attachment:image.png)"),
        "Now the model.*docs/NAME.png",
    ),
    "picture, sized": (paste('<img src="attachment:image.png" width=9>'), "docs/NAME.png"),
    "picture, named": (paste("![x][1]\n\n[1]: attachment:image.png"), "docs/NAME.png"),
    "quoted": (set_source("class Model", "class Model: ..."), "gdm_course/alpha/unit1.py"),
    "setup": (set_source("importlib", "pass"), "tagged 'setup' is generated"),
    "nav": (set_source("before this", "me\n\nmore"), "tagged 'nav' is generated"),
    "mark": (set_source("assert Model", "x = 1\n# %%\ny = 2"), "cannot hold"),
    "magic": (set_source("assert Model", "# %pip list"), "cannot hold"),
    "slide": (slide, "slide types"),
    "raw": (raw, "a raw cell"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_adopt_refuses(course, case):
    change, sentence = REFUSED[case]
    notebook = mini.notebook(course, LECTURE)
    change(notebook)
    save(course, LECTURE, copy.deepcopy(notebook))
    before = {p: p.read_bytes() for p in course.rglob("*") if p.is_file()}
    with pytest.raises(AuthoringError, match=sentence):
        adopt(course, course / LECTURE)
    assert before == {p: p.read_bytes() for p in course.rglob("*") if p.is_file()}


def test_a_word_about_attachments_is_no_picture(course):
    notebook = mini.notebook(course, LECTURE)
    notebook["cells"][at(notebook, "Now the model")]["source"] = "An attachment: see below."
    save(course, LECTURE, notebook)
    assert "+# An attachment: see below." in adopt(course, course / LECTURE)


@pytest.mark.parametrize("odd", ODD, ids=ascii)
def test_a_character_that_ends_no_line_comes_back_whole(course, odd):
    notebook = mini.notebook(course, LECTURE)
    code, words = f'odd = "a{odd}b"\nlen(odd)', f"Now{odd}so.\n\n- one{odd}two"
    notebook["cells"][at(notebook, "assert Model")]["source"] = code
    notebook["cells"][at(notebook, "Now the model")]["source"] = words
    save(course, LECTURE, notebook)
    adopt(course, course / LECTURE)
    assert check(course) == []
    found = ["".join(c["source"]) for c in mini.notebook(course, LECTURE)["cells"]]
    assert code in found
    assert words in found


@pytest.mark.parametrize("end", ["\r\n", "\r"], ids=ascii)
def test_line_ends_of_other_systems_are_no_edit_and_become_ours(course, end):
    notebook = mini.notebook(course, LECTURE)
    for cell in notebook["cells"]:
        cell["source"] = "".join(cell["source"]).replace("\n", end)
    save(course, LECTURE, notebook)
    assert adopt(course, course / LECTURE) == ""
    notebook["cells"][at(notebook, "assert Model")]["source"] = f"x = 1{end}y = 2{end}"
    save(course, LECTURE, notebook)
    adopt(course, course / LECTURE)
    assert check(course) == []
    assert "\n# %%\nx = 1\ny = 2\n" in (course / SCRIPT).read_bytes().decode()


def test_adopt_refuses_when_both_sides_changed(course):
    notebook = mini.notebook(course, LECTURE)
    notebook["cells"][3]["source"] = "x = 1"
    save(course, LECTURE, notebook)
    mini.edit(course, SCRIPT, "slowly", "slower")
    with pytest.raises(AuthoringError, match="changed after"):
        adopt(course, course / LECTURE)


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("exercises/alpha/unit1.ipynb", "is made from a solution: edit solutions/alpha"),
        ("lectures/index.ipynb", "no lecture or solution"),
        ("/tmp/elsewhere.ipynb", "is not in the course"),
    ],
)
def test_adopt_refuses_other_notebooks(course, path, sentence):
    with pytest.raises(AuthoringError, match=sentence):
        adopt(course, course / path)


def test_start_copies_once_and_never_overwrites(course):
    path, new = start(course, "beta/unit2")
    original = course / "exercises/beta/unit2.ipynb"
    assert new
    assert path == course / "work/beta/unit2.ipynb"
    mine, theirs = (json.loads(p.read_text()) for p in (path, original))
    line, *others = theirs["cells"]
    assert "This is the original" in line["source"][0]
    assert "gdm start beta/unit2" in line["source"][0]
    assert mine == theirs | {"cells": others}
    path.write_text("my work")
    assert start(course, "unit2") == (path, False)
    assert path.read_text() == "my work"
    assert check(course) == []  # a student's file is no orphan


def test_start_names_close_units(course):
    with pytest.raises(AuthoringError, match="did you mean beta/unit2"):
        start(course, "beta/unti2")
    mini.edit(course, "gdm_course/course.toml", '"beta/unit2"', '"beta/unit1"')
    with pytest.raises(AuthoringError, match=r"several units.*alpha/unit1 or beta/unit1"):
        start(course, "unit1")


def test_links_of_an_exercise_hold_in_the_students_copy(course):
    path, _ = start(course, "beta/unit2")
    nav = sources(json.loads(path.read_text()), "markdown")[1]
    assert "](../../lectures/beta/unit2.ipynb)" in nav
    assert (path.parent / "../../lectures/beta/unit2.ipynb").is_file()
