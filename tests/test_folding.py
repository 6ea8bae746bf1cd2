"""In a real JupyterLab: folded cells show no source, and an edit made there comes back."""

import os

import mini_course as mini
import pytest
from mini_course import synced_course  # noqa: F401

from gdm_course.authoring import derive
from gdm_course.authoring.adopt import adopt
from gdm_course.authoring.check import check
from gdm_course.publishing import browser, lab

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not browser.chromium(), reason="no chromium found on PATH"),
]
LECTURE = "lectures/alpha/unit1.ipynb"
SCRIPT = "lectures/alpha/src/unit1.py"
FOLDED = "# @title The mean of two\n1 + 1"
EDIT = """() => {
  for (const cell of window.jupyterapp.shell.currentWidget.content.model.cells) {
    const text = cell.sharedModel.getSource();
    cell.sharedModel.setSource(
      text.replace("The mean of two", "Their mean").replace("slowly", "slower"));
  }
}"""


@pytest.fixture(name="folded")
def with_a_folded_cell(course):
    mini.edit(
        course, SCRIPT, "# %%\nassert Model()", f'# %% tags=["fold"]\n{FOLDED}\nModel()'
    )
    derive.sync(course)
    return course


def test_what_is_folded_opens_with_a_click_and_an_edit_comes_back(folded):
    env = {name: os.environ[name] for name in os.environ if name != "MPLBACKEND"}
    with lab.jupyterlab(folded, env) as address, browser.page() as (view, _):
        browser.open_notebook(view, address, LECTURE)
        shown = view.locator(".jp-CodeCell .cm-content").all_inner_texts()
        assert any("class Model" in text for text in shown)  # others are open
        assert not any("1 + 1" in text for text in shown)
        note = view.locator("details", has_text="For the lecturer")
        assert not note.get_by_text("Speak slowly.").is_visible()
        note.locator("summary").click()
        assert note.get_by_text("Speak slowly.").is_visible()
        view.locator(".jp-InputPlaceholder").first.click()
        view.locator(".cm-content", has_text="1 + 1").first.wait_for()
        view.evaluate(EDIT)
        save = "window.jupyterapp.shell.currentWidget.context.save()"
        browser.patiently(view, save, 30)
    assert "+# @title Their mean" in adopt(folded, folded / LECTURE)
    text = (folded / SCRIPT).read_text()
    assert '# %% tags=["fold"]\n# @title Their mean\n1 + 1\nModel()(torch' in text
    assert '# %% [markdown] tags=["notes"]\n# Speak slower.\n' in text
    assert check(folded) == []
