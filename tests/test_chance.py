"""The student's random numbers are the student's: nothing of ours seeds or moves them."""

import ast
import importlib
import random

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from test_checks import CASES, questions

from gdm_course import gallery, widgets
from gdm_course.chance import chance, own_chance
from gdm_course.checks.controls import controls
from gdm_course.data import toy
from gdm_course.source import PACKAGE, ROOT


def draws() -> tuple:
    """What each of the three generators gives next, without moving them."""
    with own_chance():
        return random.random(), np.random.rand(), torch.rand(()).item()


@pytest.fixture
def untouched():
    """Fail a test after which any generator is not where it was."""
    random.seed(3), np.random.seed(3), torch.manual_seed(3)
    random.random(), np.random.rand(), torch.rand(())
    before, next_draws = chance(), draws()
    yield
    after = chance()
    assert after["python"] == before["python"]
    assert torch.equal(after["numpy"][1], before["numpy"][1])
    assert after["numpy"][2:] == before["numpy"][2:]
    assert torch.equal(after["torch"], before["torch"])
    assert draws() == next_draws


def careless(answer):
    """An answer that seeds and draws from everything, then stops with an error."""

    def call(*args, **kwargs):
        random.seed(0), np.random.seed(0), torch.manual_seed(0)
        random.random(), np.random.rand(), torch.rand(())
        return answer(*args, **kwargs)

    return call


@pytest.mark.parametrize(("unit", "name"), CASES)
def test_a_check_leaves_chance_alone(unit, name, untouched, monkeypatch, capsys):
    monkeypatch.delenv("GDM_CHECK", raising=False)
    question = questions(unit)[name]
    question(question.reference)
    question(controls(question)["zeros"])
    question(controls(question)["stub"])
    if not isinstance(question.reference, type):
        question(careless(question.reference))
        question(careless(lambda *args, **kwargs: 1 / 0))
    assert capsys.readouterr().out.count("\n") >= 3


def test_a_check_that_raises_leaves_chance_alone(untouched, monkeypatch):
    monkeypatch.setenv("GDM_CHECK", "1")
    question = questions(CASES[0][0])[CASES[0][1]]
    with pytest.raises(AssertionError):
        question(careless(lambda *args, **kwargs: 1 / 0))


@pytest.mark.parametrize(
    "family", [f for f in gallery.families() if hasattr(gallery._package(f), "fit_plane")]
)
def test_fit_plane_leaves_chance_alone_and_its_seed_decides(family, untouched):
    fit = importlib.import_module(f"gdm_course.{family}").fit_plane
    x = toy.get("two_moons").sample(600, torch.Generator().manual_seed(0)).float()
    first, again, other = fit(x, 2), fit(x, 2), fit(x, 2, seed=1)
    a, b, c = (
        torch.cat([p.flatten() for p in m.parameters()]) for m in (first, again, other)
    )
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_the_gallery_leaves_chance_alone(untouched, monkeypatch, tmp_path):
    monkeypatch.setenv("GDM_SMOKE", "1")
    gallery.draw(tmp_path / "gallery.png", steps=2)
    plt.close("all")


def test_the_gallery_follows_the_shift_of_a_lecture(monkeypatch):
    some = {"foundations": "Foundations"}
    monkeypatch.setattr(gallery, "families", lambda: some)
    plain = gallery.fit(steps=2)[0].model.mu
    monkeypatch.setenv("GDM_SEED_SHIFT", "1")
    assert not torch.equal(plain, gallery.fit(steps=2)[0].model.mu)


def noisy(a=1):
    random.random(), np.random.rand()
    plt.figure().gca().plot(torch.rand(a).numpy())


def test_a_drawing_of_play_leaves_chance_alone(untouched):
    widgets.play(noisy, a=(1, 5, 1))


def test_a_slider_that_moves_leaves_chance_alone(untouched, monkeypatch):
    boxes = []
    monkeypatch.setattr(widgets, "live", lambda: True)
    monkeypatch.setattr("ipywidgets.VBox", lambda parts: boxes.append(parts) or parts[0])
    monkeypatch.setattr("IPython.display.display", lambda *args, **kwargs: None)
    monkeypatch.setattr(widgets, "_two_faces", lambda *args: {})
    widgets.play(noisy, a=(1, 5, 1))
    slider, picture, trouble = boxes[0]
    before = picture.value
    slider.value = 5
    assert picture.value != before
    assert trouble.value == ""


def test_panels_of_watch_leave_chance_alone(untouched):
    panels = {"noise": lambda ax: (random.random(), np.random.rand(), torch.rand(3))}
    for _ in widgets.watch([(1, 1.0), (2, 0.5)], panels=panels):
        pass


def test_own_chance_restores_every_gpu(monkeypatch):
    """torch.manual_seed seeds all devices, so all of them have to be put back."""
    states = [torch.tensor([1]), torch.tensor([2])]

    def put(state, device):
        states[device] = state

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(states))
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: [*states])
    monkeypatch.setattr(torch.cuda, "set_rng_state", put)
    with own_chance(0):
        states[:] = [torch.tensor([0]), torch.tensor([0])]
    assert [int(state) for state in states] == [1, 2]


def test_chance_of_its_own_goes_on_from_where_it_is_without_a_seed(untouched):
    next_draws = draws()
    with own_chance():
        assert (random.random(), np.random.rand(), torch.rand(()).item()) == next_draws


SEEDING = {"seed", "seed_all", "manual_seed", "manual_seed_all", "set_seeds"}
SEEDING |= {
    "seed_everything",
    "set_state",
    "setstate",
    "set_rng_state",
    "set_rng_state_all",
}
GENERAL = {"torch", "numpy", "random"}
MAY_SEED = {
    "chance.py": None,  # it is what the others call
    "checks/ask.py": ["manual_seed"],  # in a box, or under own_chance
    "checks/draws.py": ["manual_seed", "set_state"],  # of its own generator
    "training.py": ["set_seeds"],  # seed_everything
    "contract/frozen.py": ["manual_seed"],  # under fork_rng
    "scale/run.py": ["set_seeds"],  # a recipe
}
SCRIPTS = [p for top in ("lectures", "solutions") for p in (ROOT / top).glob("*/src/*.py")]
FILES = sorted([*PACKAGE.rglob("*.py"), *SCRIPTS])


def seeded(text: str) -> list[str]:
    """Names with which a source file seeds a global generator, in order.

    A generator of one's own, `torch.Generator().manual_seed(...)`, is no global one.
    """
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in GENERAL:
            found += [a.name for a in node.names if a.name in SEEDING]
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", None))
        of = getattr(node.func, "value", None)
        if name in SEEDING and not (
            name == "manual_seed"
            and isinstance(of, ast.Call)
            and "Generator" in ast.dump(of)
        ):
            found.append(name)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_global_generators_are_seeded_in_few_places(path):
    text, tools = path.read_text(encoding="utf-8"), PACKAGE in path.parents
    allowed = MAY_SEED.get(str(path.relative_to(PACKAGE)), []) if tools else None
    if allowed is None and tools:
        return
    found = {*seeded(text)}
    assert found <= ({*allowed} if tools else {"seed_everything"})


def test_the_rule_would_notice():
    assert seeded("import torch\ntorch.manual_seed(0)") == ["manual_seed"]
    assert seeded("x = torch.randn(2, generator=torch.manual_seed(0))") == ["manual_seed"]
    assert seeded("np.random.seed(0); random.seed(1); torch.cuda.manual_seed_all(2)") == [
        "seed",
        "seed",
        "manual_seed_all",
    ]
    assert seeded("from torch import manual_seed") == ["manual_seed"]
    assert seeded("torch.default_generator.manual_seed(0)") == ["manual_seed"]
    assert not seeded("g = torch.Generator(device='cpu').manual_seed(0)\nAsk(seed=3)")
