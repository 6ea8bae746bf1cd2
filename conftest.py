"""How notebooks run under pytest: few training steps, wrong answers raise, a quiet stderr.

A kernel inherits the environment of the pytest worker that starts it, and one worker runs
both notebooks and plain tests, so the environment is set anew before every item.
"""

import os

import pytest

from gdm_course.environment import on

SWITCHES = ("GDM_SMOKE", "GDM_CHECK", "MPLBACKEND")


def is_cell(item: pytest.Item) -> bool:
    """Whether an item is a notebook's cell, collected by nbval."""
    return type(item).__name__ == "IPyNbCell"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Give notebooks GDM_CHECK=1 and, unless GDM_FULL=1, GDM_SMOKE=1; other tests neither.

    A notebook keeps Jupyter's own figure backend; other tests draw without a screen.
    """
    for name in SWITCHES:
        os.environ.pop(name, None)
    if not is_cell(item):
        os.environ["MPLBACKEND"] = "agg"
        return
    os.environ["GDM_CHECK"] = "1"
    if not on("GDM_FULL"):
        os.environ["GDM_SMOKE"] = "1"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item):
    """Fail a cell that wrote to stderr: a warning that every reader would see."""
    result = yield
    if is_cell(item):
        said = [out.text for out in item.test_outputs or [] if out.get("name") == "stderr"]
        if said:
            pytest.fail(f"this cell writes to stderr:\n{''.join(said)}", pytrace=False)
    return result
