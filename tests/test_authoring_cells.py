"""What sync writes for authors: setup cells, nav lines, badges and tables."""

import importlib.util
import sys
import types

import mini_course as mini
import pytest
from mini_course import sources, synced_course  # noqa: F401

from gdm_course.authoring import derive, fill
from gdm_course.authoring.check import check
from gdm_course.authoring.course import load

LECTURE = "lectures/alpha/unit1.ipynb"
WITHOUT = 'repository = ""'
WITH = 'repository = "owner/name"'


def test_titles_neighbours_and_tables_come_from_the_scripts(course):
    nav = sources(mini.notebook(course, LECTURE), "markdown")[1]
    assert nav.startswith("3 minutes ·\n")
    assert "previous: [The unit0 model](unit0.ipynb)" in nav
    assert "next: [The unit2 model](../beta/unit2.ipynb)" in nav
    readme = (course / "README.md").read_text()
    row = "| [The unit2 model](lectures/beta/unit2.ipynb) | What the unit2 model is about"
    assert row + ", in $x$. | 3 | [The unit1 model](lectures/alpha/unit1.ipynb) |" in readme
    index = sources(mini.notebook(course, "lectures/index.ipynb"), "markdown")
    assert [text.split("\n")[0] for text in index] == [
        "# Mini",
        "## The first",
        "## The second",
    ]
    assert "[exercise](../exercises/beta/unit2.ipynb)" in index[2]


def test_minutes_follow_the_text_and_its_further_sections(course):
    script = "lectures/alpha/src/unit1.py"
    words = "# " + "word " * 69 + "word\n"
    further = f"# ## Further: more\n#\n{words * 4}"
    mini.edit(course, script, "# ### Detail", f"{words * 10}#\n{further}")
    derive.sync(course)
    assert check(course) == []
    nav = sources(mini.notebook(course, LECTURE), "markdown")[1]
    assert nav.startswith("8 minutes, and 4 further ·\n")
    exercise = sources(mini.notebook(course, "exercises/alpha/unit1.ipynb"), "markdown")
    assert "minutes" not in exercise[1]
    for page in ("README.md", "lectures/index.ipynb"):
        assert "| 8 + 4 |" in (course / page).read_text()
    longer = "    # on\n" * 24 + "    return x / 2"
    mini.edit(course, "gdm_course/alpha/unit1.py", "    return x / 2", longer)
    derive.sync(course)
    nav = sources(mini.notebook(course, LECTURE), "markdown")[1]
    assert nav.startswith("11 minutes, and 4 further ·\n")  # 24 quoted lines more


def test_an_exercise_does_not_link_to_its_solution(course):
    nav = sources(mini.notebook(course, "exercises/alpha/unit1.ipynb"), "markdown")[2]
    assert "](../../lectures/alpha/unit1.ipynb)" in nav
    assert "solution" not in nav


def test_a_summary_fits_into_a_row(course):
    script = "lectures/alpha/src/unit1.py"
    mini.edit(course, script, "about, in $x$", "p of x | y")
    derive.sync(course)
    assert "What the unit1 model is p of x \\| y. |" in (course / "README.md").read_text()
    mini.edit(course, script, "p of x | y", "$p(x | y)$")
    _, problems = derive.sync(course)
    assert "has | in a formula" in str(problems[-1])


def test_badges_appear_only_with_an_address(tmp_path, course):
    page = (
        "colab.research.google.com/github/owner/name/blob/main/lectures/alpha/unit1.ipynb"
    )
    assert not any("colab" in p.read_text() for p in course.rglob("*.ipynb"))
    addressed = mini.make(tmp_path / "addressed", 3, "owner/name")
    derive.sync(addressed)
    assert page in (addressed / LECTURE).read_text()
    assert check(addressed) == []


@pytest.mark.parametrize("repository", ["", "owner/name"])
def test_the_setup_cell_says_how_to_install(course, monkeypatch, repository):
    mini.edit(
        course, "gdm_course/course.toml", 'repository = ""', f'repository = "{repository}"'
    )
    code = fill.setup(load(course))
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=None))
    exec(code, {})  # installed: nothing happens
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="is not installed here"):
        exec(code, {})


def test_on_colab_the_setup_cell_installs_the_course_but_not_torch(course, monkeypatch):
    mini.edit(
        course, "gdm_course/course.toml", 'repository = ""', 'repository = "owner/name"'
    )
    ran = []
    shell = types.SimpleNamespace(run_line_magic=lambda *line: ran.append(line))
    fake = types.SimpleNamespace(get_ipython=lambda: shell)
    monkeypatch.setitem(sys.modules, "IPython", fake)
    monkeypatch.setitem(sys.modules, "google.colab", fake)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    exec(fill.setup(load(course)), {})
    address = "git+https://github.com/owner/name@main"
    assert ran == [("pip", f'install -q "gdm_course[notebook] @ {address}"')]
