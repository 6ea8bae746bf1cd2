"""The website: built of a small course in which one lecture stops."""

import dataclasses
import io
import re
import shutil
from contextlib import redirect_stdout

import nbformat
import pytest
from bs4 import BeautifulSoup
from mini_course import edit, make
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from gdm_course.authoring import derive
from gdm_course.authoring.course import load
from gdm_course.publishing import assets, browser, execute, pages, site
from gdm_course.publishing.execute import Run

HEADER = "import torch\nfrom torch import nn\n\n# %pip list\n"
PLAY = """import matplotlib.pyplot as plt
import torch
from torch import nn

from gdm_course.widgets import play

# %%
print("an answer of", 6 * 7)


def draw(x):
    plt.subplots(figsize=(2, 1))[1].plot([0, x])


play(draw, x=(0, 4, 1))

# %% tags=["fold"]
# @title The same at one place
draw(1)

# %% [markdown]
# **Question.** Why?
#
# <details><summary>Answer</summary>
#
# Because of **this** and $x_a$ and
#
# $$p_b = 1 \\tag{7}$$
#
# </details>
"""
STOPS = """import torch
from torch import nn

# %%
print("as far as here")

# %%
fence = "```"
raise ValueError(f"too {fence} `far` <b>")
"""


def whole(path, env):
    """Execute lectures alone: what a solution prints is no matter here."""
    if "solutions" in path.parts:
        return Run(path, nbformat.read(path, as_version=4))
    return execute.execute(path, env)


@pytest.fixture(scope="module")
def course(tmp_path_factory, root):
    """A synced course of two lectures, the first with a slider; the second stops."""
    mini = make(tmp_path_factory.mktemp("course"), 2, repository="owner/name")
    edit(mini, "lectures/alpha/src/unit0.py", HEADER, PLAY)
    edit(mini, "lectures/beta/src/unit1.py", HEADER, STOPS)
    edit(mini, "lectures/alpha/src/unit0.py", "assert Model", "double = half\nModel")
    _, problems = derive.sync(mini)
    assert not problems
    (mini / "docs").mkdir()
    for name in ("conf.py", "site.css"):
        shutil.copy(root / "docs" / name, mini / "docs")
    shutil.copytree(root / "docs" / "field", mini / "docs" / "field")
    return mini


def place(name, folder):
    """Stand in for MathJax, which npm would fetch."""
    (folder / name).mkdir()
    (folder / name / "tex-chtml-full.js").write_text("")
    return True


@pytest.fixture(scope="module")
def at(course):
    """A patch that makes the course of this file the one that is built."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(site, "ROOT", course)
        patch.setattr(execute, "ROOT", course)
        patch.setattr(site, "BUILD", course / "build")
        patch.setattr(site, "SOURCE", course / "build" / "site-source")
        patch.setattr(site, "SITE", course / "build" / "site")
        patch.setattr(site, "execute", whole)
        patch.setattr(assets, "place", place)
        patch.delenv("SOLUTIONS", raising=False)
        yield patch


@pytest.fixture(scope="module")
def built(at):
    """What building the site returned and printed."""
    with redirect_stdout(io.StringIO()) as said:
        status = site.main(["--smoke"])
    return status, said.getvalue()


def page(name):
    """A page of the site."""
    text = (site.SITE / name).read_text(encoding="utf-8")
    return BeautifulSoup(text, "html.parser")


def loaded(soup):
    """What a page makes a browser fetch."""
    tags = soup.find_all(["script", "link", "img"])
    urls = [
        tag.get("src") or tag.get("href") for tag in tags if tag.get("rel") != ["search"]
    ]
    return [url for url in urls if url and not url.startswith("data:")]


def test_one_notebook_that_stops_does_not_cost_the_site(built):
    status, said = built
    assert status == 1
    assert "lectures/beta/unit1.ipynb stopped: ValueError: too ``` `far` <b>" in said
    assert "1 of its pages" in said
    assert "an answer of 42" in page("lectures/alpha/unit0.html").text


def test_its_page_shows_what_stopped_and_the_outputs_up_to_there(built):
    stopped = page("lectures/beta/unit1.html")
    box = stopped.select_one(".admonition.error")
    assert "code cell 4 of 7" in box.text
    assert "ValueError: too ``` `far` <b>" in box.pre.text
    assert 'fence = "```"' in box.pre.text
    assert stopped.select_one(box.a["href"]), "the link in the box leads nowhere"
    text = stopped.text
    assert text.index("was built") < text.index("as far as here")
    assert not page("lectures/alpha/unit0.html").select(".admonition.error")


def test_of_a_long_cell_the_box_shows_the_line_that_stopped(at):
    source = "\n".join(f"x = {i}" for i in range(20)) + "\n1 / 0"
    book = new_notebook(cells=[new_markdown_cell("# A"), new_code_cell(source)])
    error = f"------------------\n{source}\n----> 21 1 / 0\n\nZeroDivisionError: by zero"
    run = Run(site.ROOT, book, error=error, stopped=1)
    name = "lectures/alpha/unit0.ipynb"
    box = pages.page(run, name, load(site.ROOT), True).cells[2].source
    assert "1 / 0" in box
    assert "x = 9" not in box


def test_a_kernel_that_never_started_is_said_without_a_cell(at):
    book = new_notebook(cells=[new_markdown_cell("# A")])
    run = Run(site.ROOT, book, error="Kernel died before replying to kernel_info")
    name = "solutions/alpha/unit0.ipynb"
    box = pages.page(run, name, load(site.ROOT), True).cells[2].source
    assert "Kernel died" in box
    assert "gdm-stopped" not in box


def test_units_stand_in_their_families_with_exercise_and_solution_beside(built):
    tree = page("lectures/alpha/unit0.html").select_one(".sidebar-tree")
    captions = [caption.text for caption in tree.select(".caption-text")]
    assert captions == ["The first", "The second"]
    first, second = (
        c.find_parent("p").find_next_sibling("ul") for c in tree.select(".caption-text")
    )
    top = [[a.text for a in ul.select("li.toctree-l1 > a")] for ul in (first, second)]
    assert top == [["The unit0 model"], ["The unit1 model"]]
    under = [(a.text, a["href"]) for a in first.select("li.toctree-l2 > a")]
    assert under == [
        ("Exercise", "../../exercises/alpha/unit0.html"),
        ("Solution", "../../solutions/alpha/unit0.html"),
    ]
    assert not page("exercises/alpha/unit0.html").select(".cell_output")


def test_the_index_keeps_its_tables_and_says_that_its_menu_needs_a_kernel(built):
    index = page("lectures/index.html")
    assert index.h1.text.startswith("All units")
    assert len(index.select("article table")) == 2
    assert not index.select(".cell_input")
    assert "make lab" in index.text


def test_nothing_is_loaded_from_elsewhere_and_every_link_leads_somewhere(built):
    for path in sorted(site.SITE.rglob("*unit?.html")):
        here = page(path.relative_to(site.SITE))
        assert not [url for url in loaded(here) if "://" in url]
        for link in here.select("article a[href], .sidebar-tree a[href]"):
            target = link["href"].partition("#")[0]
            if target and "://" not in target:
                assert (path.parent / target).is_file(), link


def test_the_front_page_leads_to_the_page_on_which_readers_draw(built):
    assert page("index.html").select_one('a[href="_static/field.html"]')
    for name in ("field.html", "field.js", "page.js"):
        assert (site.SITE / "_static" / name).is_file()


def test_the_plain_notebook_can_be_downloaded_or_opened_in_colab(built, course):
    name = "lectures/alpha/unit0"
    download, colab = page(f"{name}.html").select(".gdm-bar a")
    assert download.has_attr("download")
    file = (site.SITE / f"{name}.html").parent / download["href"]
    assert file.read_bytes() == (course / f"{name}.ipynb").read_bytes()
    there = "https://colab.research.google.com/github/owner/name/blob/main"
    assert colab["href"] == f"{there}/{name}.ipynb"
    nowhere = pages.bar(f"{name}.ipynb", dataclasses.replace(load(course), repository=""))
    assert "colab" not in nowhere


def test_setup_imports_and_answers_are_folded(built):
    unit = page("lectures/alpha/unit0.html")
    folds = {fold.summary.p.text: fold for fold in unit.select(".cell details")}
    assert [*folds] == ["Setup", "Imports", "Code: The same at one place"]
    assert "find_spec" in folds["Setup"].text
    assert "import torch" in folds["Imports"].text
    (answer,) = [d for d in unit.select("details") if d.summary.text == "Answer"]
    assert answer.strong.text == "this"
    assert answer.select(".math")
    (notes,) = [d for d in unit.select("details") if d.summary.text == "For the lecturer"]
    assert "Speak slowly." in notes.text


def test_a_tagged_cell_is_folded_under_its_title_and_others_stay():
    cells = [
        new_code_cell("# @title The two stacks\ndraw()", metadata={"tags": ["hide-input"]}),
        new_code_cell("draw()", metadata={"tags": ["hide-input"]}),
        new_code_cell("import a\nx = 1\ny = 2"),
        new_code_cell("%matplotlib inline\nimport a\n!ls\n"),
        new_code_cell(""),
    ]
    for cell in cells:
        pages.fold(cell)
    words = [cell.metadata.get("mystnb", {}).get("code_prompt_show") for cell in cells]
    assert words == ["Code: The two stacks", "Code", None, "Imports", None]


def test_pages_over_the_limit_are_named_in_one_line(built, monkeypatch):
    name = "lectures/alpha/unit0.html"
    small = site.size(site.SITE / name)
    assert len((site.SITE / name).read_bytes()) <= small < site.LIMIT
    assert site.too_large() is None
    monkeypatch.setattr(site, "LIMIT", small - 1)
    assert name in site.too_large()
    assert "\n" not in site.too_large()


def test_pictures_count(built, tmp_path, monkeypatch):
    monkeypatch.setattr(site, "SITE", tmp_path)
    (tmp_path / "_images").mkdir()
    (tmp_path / "_images" / "a.png").write_bytes(b"12345")
    (tmp_path / "a.html").write_text('<img src="_images/a.png"><img src="_images/a.png">')
    assert site.size(tmp_path / "a.html") == 50 + 5


@pytest.mark.browser
@pytest.mark.skipif(not browser.chromium(), reason="no chromium found on PATH")
def test_a_reader_moves_a_slider(built):
    with browser.page() as (view, log):
        view.goto((site.SITE / "lectures" / "alpha" / "unit0.html").as_uri())
        box = view.locator(".gdm-frames")
        before = box.locator("img:visible").get_attribute("src")
        assert before == box.locator(".gdm-still").get_attribute("src")
        box.locator("input").focus()
        view.keyboard.press("ArrowRight")
        assert box.locator("img:visible").get_attribute("src") != before
        assert box.locator("output").inner_text() == "3"
        assert box.locator("img:visible").evaluate("image => image.naturalWidth") > 100
    assert not log.errors
    assert not log.outside


def test_solutions_can_be_left_out(at, monkeypatch, tmp_path):
    monkeypatch.setenv("SOLUTIONS", "0")
    monkeypatch.setattr(site, "SOURCE", tmp_path)
    read = lambda path, env: Run(path, nbformat.read(path, as_version=4))  # noqa: E731
    monkeypatch.setattr(site, "execute", read)
    assert site.lay_out(load(site.ROOT), smoke=True) == []
    kept = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*unit0.ipynb")}
    assert {name for name in kept if not name.startswith("_static")} == {
        "lectures/alpha/unit0.ipynb",
        "exercises/alpha/unit0.ipynb",
    }
    for path in tmp_path.glob("*s/**/*.ipynb"):
        cells = nbformat.read(path, as_version=4).cells
        text = "".join(cell.source for cell in cells if cell.cell_type == "markdown")
        assert not re.search(r"solutions/|\[solution", text)


def test_an_address_with_solutions_in_another_place_stays():
    text = "see [this](https://example.org/solution), [lecture](../a.ipynb)"
    text += " ·\n[solution](../solutions/a/b.ipynb)"
    assert pages.text(text, solutions=True) == text
    assert pages.text(text, solutions=False) == text.partition(" ·")[0]
