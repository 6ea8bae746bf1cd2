"""A student's first minutes in a real browser: open a lecture, run it, move a slider."""

import os
import shutil

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from waiting import until

from gdm_course.publishing import browser, execute, lab
from tests.turns import by_turns

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not browser.chromium(), reason="no chromium found on PATH"),
]
SLIDING = {
    f"{path.parent.name}/{path.stem}": path
    for path in execute.notebooks("lectures")
    if "play(" in path.read_text(encoding="utf-8")
}
# Chromium's own remark on a layout that took two frames
HARMLESS = ("ResizeObserver loop",)


@pytest.fixture(scope="module")
def env():
    """A brief run with sliders, wherever the tests themselves run."""
    away = ("CI", "GDM_SMOKE", "GDM_CHECK", "MPLBACKEND")
    kept = {name: value for name, value in os.environ.items() if name not in away}
    return kept | {"GDM_SMOKE": "1", "GDM_LIVE": "1", "GDM_OFFLINE": "1"}


@pytest.fixture(scope="module")
def served(tmp_path_factory, env):
    """One JupyterLab for all visits: its folder and its address."""
    folder = tmp_path_factory.mktemp("served")
    with lab.jupyterlab(folder, env) as address:
        yield folder, address


def real_errors(log):
    return [e for e in log.errors if not any(harmless in e for harmless in HARMLESS)]


def visit(path, served, patience=30_000):
    """Run a copy of a notebook in JupyterLab and move its first slider.

    Returns (errors of cells, label before, label after, log).
    """
    folder, address = served
    shutil.copy(path, folder)
    with browser.page() as (view, log):
        browser.open_notebook(view, address, path.name)
        failed = browser.run_all(view)
        before, after = browser.slide(view, timeout=patience)
        browser.patiently(view, f"{browser.CURRENT}.sessionContext.shutdown()", 60)
    return failed, before, after, log


def test_some_lecture_has_a_slider():
    assert SLIDING, "no lecture calls play(): the browser test tests nothing"


@pytest.mark.parametrize("path", by_turns(SLIDING, one_of=6))
def test_lecture_runs_and_its_slider_redraws(path, served):
    failed, before, after, log = visit(path, served)
    assert not failed
    assert before != after, "the slider did not move"
    assert not real_errors(log)
    assert not log.outside


def test_errors_and_outside_requests_are_seen(tmp_path):
    """Without this, a page log that records nothing would pass for a clean page."""
    page = tmp_path / "page.html"
    script = "<script>console.error('one'); nowhere();</script>"
    page.write_text(f"<img src='https://example.org/x.png'>{script}")
    with browser.page() as (view, log):
        view.goto(page.as_uri())
        until(lambda: view.wait_for_timeout(20) or (log.outside and len(log.errors) > 1))
    assert log.outside == ["https://example.org/x.png"]
    assert any("one" in error for error in log.errors)
    assert any("nowhere is not defined" in error for error in log.errors)


DEAD = """
import ipywidgets
from IPython.display import Image, display
from matplotlib import pyplot as plt

plt.figure().savefig("dead.png")
plt.close()
out = ipywidgets.Output()
with out:
    display(Image("dead.png"))
ipywidgets.VBox([ipywidgets.IntSlider(3), out])
"""


def test_a_slider_that_draws_nothing_is_caught(tmp_path, served):
    """A dead slider must fail: its figure stays as it was."""
    python = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    book = new_notebook(cells=[new_code_cell(DEAD, id="a")], metadata=python)
    nbformat.write(book, tmp_path / "dead.ipynb")
    with pytest.raises(TimeoutError, match="did not change"):
        visit(tmp_path / "dead.ipynb", served, patience=3_000)


@pytest.fixture
def own_course(tmp_path, root):
    """A copy of the course without trained weights, in which a student may work."""
    leave = shutil.ignore_patterns("*.safetensors", "__pycache__", ".ipynb_checkpoints")
    for tree in ("gdm_course", "lectures", "solutions", "exercises"):
        shutil.copytree(root / tree, tmp_path / tree, ignore=leave)
    for page in ("README.md", "pyproject.toml"):
        shutil.copy(root / page, tmp_path)
    return tmp_path


def test_an_exercise_begins_with_a_button_and_gdm_is_found_in_a_terminal(own_course, env):
    """As a new student of `make lab`: no copy yet, no environment activated."""
    away = ("VIRTUAL_ENV", "PYTHONPATH", "PATH")
    env = {name: value for name, value in env.items() if name not in away}
    env |= {"PYTHONPATH": str(own_course), "PATH": "/usr/local/bin:/usr/bin:/bin"}
    mine = own_course / "work" / "vae"
    mine.mkdir(parents=True)
    (mine / "vae.ipynb").write_text("begun before")
    (mine / ".vae.json").write_text('{"elbo": true, "gaussian_kl": false}')
    begun = lab.jupyterlab(own_course, env, ("gdm_course", "lab"))
    with begun as address, browser.page() as (view, log):
        browser.open_notebook(view, address, "lectures/index.ipynb")
        assert not browser.run_all(view)
        menu = view.locator(".widget-dropdown select")
        names = [n.replace("\xa0", " ") for n in menu.locator("option").all_inner_texts()]
        assert "vae/vae (1 of 6 green)" in names
        menu.select_option("flows/maf")
        view.get_by_role("button", name="Begin, or go on").click()
        view.get_by_role("link", name="work/flows/maf.ipynb").click()
        path = f"{browser.CURRENT}.context.path"
        view.wait_for_function(f"{path} === 'work/flows/maf.ipynb'", timeout=60_000)
        said = own_course / "said.txt"
        view.evaluate("void window.jupyterapp.commands.execute('terminal:create-new')")
        view.locator(".jp-Terminal .xterm-screen").click()
        view.keyboard.type(
            "gdm start flows/maf --no-open > said.txt 2>&1; echo >> said.txt"
        )
        view.keyboard.press("Enter")
        until(lambda: view.wait_for_timeout(50) or _lines(said) > 1)
    assert said.read_text().startswith("work/flows/maf.ipynb is there already")
    assert not real_errors(log)
    assert not log.outside


def _lines(path):
    return path.read_text().count("\n") if path.is_file() else 0
