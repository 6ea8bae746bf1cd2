"""`make quick` chooses what a change touches; `make system` is named where it helps."""

from types import SimpleNamespace

import pytest

from gdm_course.source import ROOT
from tests import quick, system


def test_a_changed_model_brings_its_tests_and_its_unit():
    found = quick.chosen({"gdm_course/energy/rbm.py"})
    assert {"tests/test_boltzmann.py", "lectures/energy/boltzmann.ipynb"} <= {*found}
    assert "tests/test_vae.py" not in found
    assert "lectures/vae/vae.ipynb" not in found
    assert quick.words({"gdm_course/energy/rbm.py"}) >= {"rbm", "boltzmann"}


def test_a_changed_question_brings_its_notebooks():
    found = quick.chosen({"gdm_course/checks/vae/vae.py", "README.md"})
    assert {"solutions/vae/vae.ipynb", "tests/test_checks.py"} <= {*found}


def test_a_changed_test_file_comes_first():
    assert quick.chosen({"tests/test_toy.py"})[0] == "tests/test_toy.py"


def test_of_a_sweep_only_what_changed_is_kept(monkeypatch):
    monkeypatch.setenv("GDM_QUICK_WORDS", "rbm")
    monkeypatch.setenv("GDM_QUICK_PATHS", "tests/test_shapes.py")
    gone = []
    hook = SimpleNamespace(pytest_deselected=lambda items: gone.extend(items))
    names = ["models.py::t[rbm]", "models.py::t[vae]", "toy.py::t", "shapes.py::t"]
    items = [
        SimpleNamespace(path=ROOT / "tests" / f"test_{n.split('::')[0]}", nodeid=n)
        for n in names
    ]
    kept = [*items]
    quick.pytest_collection_modifyitems(SimpleNamespace(hook=hook), kept)
    assert [i.nodeid for i in kept] == [names[0], names[2], names[3]]
    assert [i.nodeid for i in gone] == [names[1]]


@pytest.mark.parametrize(("end", "stops"), [("1.0", True), ("9e18", False)])
def test_nothing_begins_when_the_time_is_up(monkeypatch, end, stops):
    monkeypatch.setenv("GDM_QUICK_END", end)
    if stops:
        with pytest.raises(pytest.skip.Exception, match="make test"):
            quick.pytest_runtest_setup(None)
    else:
        quick.pytest_runtest_setup(None)


def test_what_is_missing_is_said_with_its_price(monkeypatch):
    monkeypatch.setattr(system.shutil, "which", lambda name: None)
    absent = system.missing()
    assert absent == ["chromium", "bubblewrap"]
    assert all("make system" in line for line in system.opening(absent))
    reasons = ["no bubblewrap on this machine", "no chromium found on PATH", "no GPU"]
    said = system.closing(absent, [*reasons, "L3: no program bwrap"])
    assert [line.split(" skipped")[0] for line in said] == ["1 test", "2 tests"]
    monkeypatch.setattr(system.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert system.missing() == []
