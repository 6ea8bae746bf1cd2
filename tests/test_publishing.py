"""Decks: nothing from outside, nothing lost, no dead widgets."""

import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from gdm_course.publishing import assets, slides
from gdm_course.publishing.execute import Run, environment, execute

FIGURE = """
import ipywidgets
from IPython.display import display
print("an answer of", 6 * 7)
png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9aw"
view = {"version_major": 2, "version_minor": 0, "model_id": ipywidgets.IntSlider().model_id}
display({"application/vnd.jupyter.widget-view+json": view,
         "image/png": png + "AAAABJRU5ErkJggg=="}, raw=True)
"""


def cell(kind: str, source: str, slide: str):
    make = new_markdown_cell if kind == "markdown" else new_code_cell
    return make(
        source, id=f"c{abs(hash(source))}", metadata={"slideshow": {"slide_type": slide}}
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    """An executed notebook with a formula, an output, a widget, a figure and a note."""
    folder = tmp_path_factory.mktemp("unit") / "family"
    folder.mkdir()
    cells = [
        cell("markdown", "# The title\n\nWith $x_a$ and\n\n$$p_b = 1 \\tag{1}$$", "slide"),
        cell("code", FIGURE, "-"),
        cell("markdown", "Ask them first.", "notes"),
    ]
    python = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    nbformat.write(new_notebook(cells=cells, metadata=python), folder / "unit.ipynb")
    done = execute(folder / "unit.ipynb", environment())
    assert done.error is None
    return done


def loaded(page: str) -> list[str]:
    """What a page makes a browser fetch."""
    tags = re.findall(r"<(?:script|link|img)\b[^>]*?(?:src|href)=\"([^\"]+)\"", page)
    return [url for url in tags if not url.startswith("data:")]


def test_deck_loads_only_what_lies_beside_it(run, tmp_path, monkeypatch):
    monkeypatch.setattr(assets, "place", lambda name, folder: True)
    path = slides.render(run, tmp_path)
    assert path == tmp_path / "family" / "unit.html"
    urls = loaded(path.read_text(encoding="utf-8"))
    assert "../assets/reveal.js/dist/reveal.js" in urls
    assert "../assets/mathjax/tex-chtml-full.js" in urls
    assert not [url for url in urls if not url.startswith("../assets/")]


def test_deck_without_npm_says_so_and_uses_the_network(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(assets, "BUILD", tmp_path)
    monkeypatch.setattr(assets.shutil, "which", lambda name: None)
    urls = loaded(slides.render(run, tmp_path).read_text(encoding="utf-8"))
    assert f"{assets.CDN['reveal.js']}/dist/reveal.js" in urls
    assert "npm is not installed" in capsys.readouterr().out


def test_deck_keeps_title_formulas_output_figure_and_notes(run, tmp_path, monkeypatch):
    monkeypatch.setattr(assets, "place", lambda name, folder: True)
    page = slides.render(run, tmp_path).read_text(encoding="utf-8")
    assert "<title>The title" in page
    assert "$x_a$" in page  # not made italic by Markdown
    assert "an answer of 42" in page
    assert "data:image/png;base64" in page
    assert 'type="application/vnd.jupyter.widget-view+json"' not in page
    before = page[: page.index("Ask them first.")]
    assert "</aside>" not in before[before.rindex('<aside class="notes">') :]


def test_an_unknown_unit_is_one_sentence(capsys):
    assert slides.main(["flows/nothing"]) == 1
    out = capsys.readouterr().out
    assert "no lecture lectures/flows/nothing.ipynb" in out
    assert "lectures/foundations/densities.ipynb" in out


def test_a_lecture_that_stops_costs_its_own_deck_only(run, tmp_path, monkeypatch, capsys):
    stopped = Run(tmp_path / "family" / "other.ipynb", run.notebook, {}, None, "no", 1)
    runs = {"flows/maf": stopped}
    given = []

    def fake(path, env):
        given.append(env)
        return runs.get(f"{path.parent.name}/{path.stem}", run)

    monkeypatch.setattr(slides, "execute", fake)
    monkeypatch.setattr(slides, "BUILD", tmp_path)
    monkeypatch.setattr(slides, "render", lambda run, folder, further: further)
    monkeypatch.setenv("FURTHER", "1")
    assert slides.main(["all"]) == 1
    out = capsys.readouterr().out
    assert out.count("Deck: True") == len(slides.notebooks("lectures")) - 1
    assert "no deck of lectures/flows/maf.ipynb, cell 1: no" in out
    assert all(env["GDM_FRAMES"] == "1" for env in given)
