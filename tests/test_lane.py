"""A window of minutes: what fits into it, what cuts it short, and what comes out."""

import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from lightning.fabric import Fabric
from scale_runs import TINY, noisy
from test_checkpoints import gdm
from waiting import LONG

from gdm_course import recipes, validate
from gdm_course.autoregressive.made import MADE
from gdm_course.recipes import Recipe
from gdm_course.scale import child, fast, finish, job, lane, measure
from gdm_course.scale import pace as pacing
from gdm_course.scale.lane import Lane, fitting
from gdm_course.scale.pace import Fitted, Pace
from gdm_course.scale.pack import pack
from gdm_course.scale.plan import Plan, changes, fitted
from gdm_course.scale.runner import fit
from gdm_course.scale.state import load, save
from gdm_course.scale.unpack import unpack
from gdm_course.scale.whole import STATE

NAME = "autoregressive/tiny"
PICTURES = {
    "name": NAME,
    "unit": "autoregressive/pixelcnn",
    "model": "autoregressive.gated_pixelcnn.GatedPixelCNN",
    "args": ((1, 8, 8), 17),
    "kwargs": {"features": 8, "dilations": (1, 2), "size": 3},
    "data": "scale.data.image_codes",
    "data_args": ("digits",),
    "steps": 6,
    "every": 6,
    "batch": 16,
}


class Ticking:
    """A clock that goes on by a tick whenever somebody looks at it."""

    def __init__(self, tick: float = 1.0):
        self.now, self.tick = 0.0, tick

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


def timed(end: float, clock: Ticking) -> Fitted:
    return Fitted(end, lambda line: None, clock=clock)


@pytest.fixture
def free(monkeypatch):
    """Evaluations cost nothing; of the clock, that is, which only steps turn."""
    monkeypatch.setattr(pacing, "evaluation_seconds", lambda *args: (0.0, 0.0))


def trained(folder, recipe, pace=None, **more) -> tuple[dict | None, list[str]]:
    """Run a recipe in this process; return its card and what it said."""
    said = []
    fabric = Fabric(accelerator="cpu", devices=1, precision=recipe.precision)
    where = {"runs": folder / "runs", "out": folder / "out"}
    return fit(recipe, fabric, **where, say=said.append, pace=pace, **more), said


def at(folder) -> int:
    """The step of an unfinished run."""
    return load(folder / "runs" / NAME / STATE)["step"]


# Plans -----------------------------------------------------------------------------------


def test_a_plan_of_all_steps_is_the_recipes_schedule():
    recipe = replace(noisy(), steps=100, warmup=10, lr=2.0)
    plan = Plan.of(recipe)
    assert [plan.rate(s) for s in range(101)] == [recipe.rate(s) for s in range(101)]
    assert changes(plan, recipe) == {}


@pytest.mark.parametrize("step", [0, 5, 10, 11, 60, 99])
@pytest.mark.parametrize("steps", [100, 110, 150, 400])
def test_a_rate_does_not_jump_when_the_plan_changes_and_still_ends_at_zero(step, steps):
    before = Plan.of(replace(noisy(), steps=100, warmup=10, lr=2.0))
    after = fitted(before, step, steps, 12)
    if step >= before.warmup:
        assert after.rate(step) == pytest.approx(before.rate(step))
    rates = [after.rate(s) for s in range(step, steps + 1)]
    assert rates[-1] == pytest.approx(0, abs=1e-12)
    assert max(abs(a - b) for a, b in pairwise(rates)) < 0.25
    assert after.every == steps // 12


def test_a_plan_that_changes_twice_goes_on_from_where_it_is():
    plan = Plan.of(replace(noisy(), steps=1000, warmup=0, lr=1.0))
    plan = fitted(plan, 500, 600, 4)
    assert plan.progress(550) == pytest.approx(0.75)
    plan = fitted(plan, 550, 1050, 4)
    assert plan.progress(550) == pytest.approx(0.75)
    assert plan.progress(800) == pytest.approx(0.875)


# A run in its share ----------------------------------------------------------------------


def test_a_run_takes_the_steps_that_fit(tmp_path, free):
    clock, recipe = Ticking(), replace(noisy(), steps=1000)
    card, said = trained(tmp_path, recipe, timed(2000, clock))
    assert 250 <= card["steps"] < 1000
    assert 1000 < clock.now <= 2010
    assert card["plan"]["steps"] == card["steps"]
    assert card["settings"] == recipe.settings()
    assert sum("validation" in line for line in said) >= 4


def test_a_run_with_time_to_spare_takes_all_its_steps_and_no_more(tmp_path, free):
    card, _ = trained(tmp_path, noisy(), timed(1e6, Ticking()))
    assert card["steps"] == 60


def test_measuring_speed_leaves_no_trace(tmp_path, free, monkeypatch):
    """All steps fit: then weights and figures are those of a run that measured nothing."""
    whole, _ = trained(tmp_path / "a", noisy())
    pace = timed(1e6, Ticking())
    monkeypatch.setattr(pacing, "fit", lambda *args, **kwargs: None)
    card, _ = trained(tmp_path / "b", noisy(), pace)
    assert card["file"] == whole["file"]


def test_a_device_that_gets_slower_squeezes_the_schedule(tmp_path, free):
    clock, plans = Ticking(), []

    class Slowing(Fitted):
        def cut(self, run):
            self.clock.tick = 5 if run.step > 100 else 1
            plans.append(run.plan.steps)
            return super().cut(run)

    pace = Slowing(6000, lambda line: None, clock=clock)
    card, _ = trained(tmp_path, replace(noisy(), steps=1000), pace)
    assert card["steps"] < plans[0]
    assert clock.now <= 6020


def test_what_does_not_fit_is_cut_and_goes_on_elsewhere_with_the_same_bits(
    tmp_path, free, monkeypatch
):
    recipe = replace(noisy(), steps=200)
    pace = timed(100, Ticking())
    assert trained(tmp_path / "cut", recipe, pace)[0] is None
    step = at(tmp_path / "cut")
    assert 0 < step < 50  # a quarter of the steps at least, but not in this window
    monkeypatch.setattr(recipes, "RECIPES", (recipe,))
    (archive,) = pack((recipe,), tmp_path / "cut", tmp_path / "cut" / "runs", 15)
    unpack(archive, tmp_path / "there" / "out", tmp_path / "there" / "runs")
    cut, said = trained(tmp_path / "there", recipe)
    assert f"going on from step {step} of" in said[0]
    pace = timed(1e9, Ticking())  # the same plan, and time for it
    plan = fitted(Plan.of(recipe), 0, 50, 12)
    given = lambda pace, run, **kwargs: setattr(run, "plan", plan)  # noqa: E731
    monkeypatch.setattr(pacing, "fit", given)
    pace.cut = lambda run: False
    whole, _ = trained(tmp_path / "whole", recipe, pace)
    assert cut["steps"] == whole["steps"] == 50
    assert cut["file"] == whole["file"]


def test_a_request_to_stop_is_heard_at_the_next_step(tmp_path, free):
    pace = timed(1e9, Ticking())
    begin, pace.begin = pace.begin, lambda *args: (begin(*args), pace.stop())
    assert trained(tmp_path, noisy(), pace)[0] is None
    assert at(tmp_path) == 1


def test_a_run_that_was_cut_gets_time_for_its_figures(tmp_path, monkeypatch):
    """They cost more than the share: half of it trains all the same, and then they wait."""
    pace = timed(100, Ticking())
    monkeypatch.setattr(pacing, "evaluation_seconds", lambda *args: (1.0, math.inf))
    assert trained(tmp_path, replace(noisy(), steps=400), pace)[0] is None
    assert at(tmp_path) > 1


@pytest.mark.parametrize("N", [5, 100, 10_000])
@pytest.mark.parametrize(("once", "row"), [(0, 0.003), (0.5, 0.001), (0.5, 0), (0, 0.5)])
def test_the_cost_of_a_metric_is_found_from_few_rows(monkeypatch, N, once, row):
    """The first call costs a second more, and does not count."""
    clock, asked = Ticking(0.0), []

    def metric(model, x):
        clock.now += (not asked) + once + row * len(x)
        asked.append(len(x))

    monkeypatch.setattr(measure, "perf_counter", clock)
    monkeypatch.setattr(measure, "resolve", lambda name: metric)
    found = measure.seconds_of(noisy().metrics[0], None, torch.zeros(N, 1), 60)
    assert found[0] + found[1] * N == pytest.approx(once + row * N, rel=0.05)
    assert max(asked) <= 1024 or row == 0


def test_a_metric_that_takes_too_long_to_measure_is_left(monkeypatch):
    def metric(model, x):
        while True:
            time.sleep(0.001)

    monkeypatch.setattr(measure, "resolve", lambda name: metric)
    found = measure.seconds_of(noisy().metrics[0], None, torch.zeros(9, 1), 0.05)
    assert found == (math.inf, math.inf)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_cut_on_a_gpu_changes_no_bit(tmp_path):
    from gdm_course.scale.job import repeatable

    repeatable(torch)
    cards = []
    for folder, pace in (("whole", Pace()), ("cut", Pace(0.0)), ("cut", Pace())):
        where = {"runs": tmp_path / folder / "runs", "out": tmp_path / folder / "out"}
        fabric = Fabric(accelerator="gpu", devices=1)
        cards.append(fit(noisy(), fabric, **where, say=lambda line: None, pace=pace))
    torch.use_deterministic_algorithms(False)
    assert cards[1] is None
    assert cards[0]["file"] == cards[2]["file"]


# Fast on a GPU, as far as a CPU can tell --------------------------------------------------


def test_steps_without_a_look_are_the_same_steps(tmp_path):
    watched, _ = trained(tmp_path / "a", noisy())
    unwatched, said = trained(tmp_path / "b", noisy(), Pace(look=50))
    assert watched["file"] == unwatched["file"]
    assert len(said) == 9


def test_a_gpu_is_asked_for_a_number_every_fifty_steps(tmp_path, monkeypatch):
    """On a CPU values are looked at on every call; a GPU's only where it costs little."""
    monkeypatch.setattr(validate, "_cheap", lambda x: not torch.is_grad_enabled())
    asked = []
    for name in ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__"):
        real = getattr(torch.Tensor, name)

        def counted(self, *args, real=real, name=name, **kwargs):
            asked.append(name)
            return real(self, *args, **kwargs)

        monkeypatch.setattr(torch.Tensor, name, counted)
    steps = []
    monkeypatch.setattr(
        "gdm_course.scale.runner.evaluate", lambda run, *rest: steps.append(len(asked))
    )
    recipe = replace(Recipe(**PICTURES), steps=200, every=100, clip=1.0, ema=0.9)
    before = len(asked)
    trained(tmp_path, recipe, Pace(0.0, look=50))
    assert asked[before : steps[0]] == ["tolist", "tolist"]


@pytest.mark.parametrize(("what", "step"), [("loss", 31), ("gradient", 40)])
def test_what_is_not_finite_stops_before_the_next_checkpoint(
    tmp_path, monkeypatch, what, step
):
    calls = iter(range(1, 999))

    def loss(self, x):
        bad = next(calls) == step
        value = real(self, x)
        if bad and what == "loss":
            return value * math.nan
        return value + (value - value.detach()).abs().sqrt() if bad else value

    real = MADE.loss
    monkeypatch.setattr(MADE, "loss", loss)
    said = rf"{NAME}, from step 0: the {what} is nan within the last \d+ steps"
    with pytest.raises(FloatingPointError, match=said):
        trained(tmp_path, replace(noisy(), every=20), Pace(look=50))
    assert at(tmp_path) == 20
    assert not (tmp_path / "out").exists()


def test_half_precision_and_channels_last_learn_the_same(tmp_path):
    recipe = Recipe(**PICTURES)
    quick = replace(recipe, precision="bf16-mixed", channels_last=True)
    values = []
    for folder, one in (("a", recipe), ("b", quick)):
        card, _ = trained(tmp_path / folder, one, Pace(look=50))
        values.append(card["figures"][0]["value"])
    assert values[0] != values[1]
    assert values[0] == pytest.approx(values[1], rel=0.02)


def test_channels_last_is_how_weights_lie(tmp_path, monkeypatch):
    seen = []
    real = finish.describe
    monkeypatch.setattr(
        finish, "describe", lambda run, *rest: (seen.append(run.model), real(run, *rest))[1]
    )
    trained(tmp_path, replace(Recipe(**PICTURES), channels_last=True))
    weight = seen[0].layers[0].down.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()


def test_a_recipe_may_change_its_batches_at_random(tmp_path):
    recipe = Recipe(**PICTURES)
    flipped = replace(recipe, augment="scale.augment.mirrored")
    cards = [
        trained(tmp_path / name, one)[0]
        for name, one in (("a", recipe), ("b", flipped), ("c", flipped))
    ]
    assert cards[0]["file"] != cards[1]["file"] == cards[2]["file"]


def test_mirroring_turns_about_half_of_the_pictures():
    from gdm_course.scale.augment import mirrored

    torch.manual_seed(0)
    x = torch.arange(3 * 4 * 4, dtype=torch.uint8).view(1, 3, 4, 4).repeat(1000, 1, 1, 1)
    y = mirrored(x)
    turned = (y == x.flip(-1)).flatten(1).all(1)
    assert (turned | (y == x).flatten(1).all(1)).all()
    assert 420 < turned.sum() < 580


def test_a_compiler_that_fails_costs_one_line(tmp_path, monkeypatch):
    plain_card, _ = trained(tmp_path / "a", noisy())

    def broken(function):
        def called(*args):
            raise RuntimeError("no compiler here\nand a long story")

        return called

    monkeypatch.setattr(torch, "compile", broken)
    card, said = trained(tmp_path / "b", replace(noisy(), compile=True))
    assert [s for s in said if "compil" in s] == [
        "not compiled, and slower for it: no compiler here"
    ]
    assert card["file"] == plain_card["file"]


def test_a_compiler_that_works_is_used_and_changes_no_chance(tmp_path, monkeypatch):
    plain_card, _ = trained(tmp_path / "a", noisy())
    calls = []
    monkeypatch.setattr(
        torch, "compile", lambda f: lambda *args: (calls.append(1), f(*args))[1]
    )
    card, said = trained(tmp_path / "b", replace(noisy(), compile=True))
    assert len(calls) == 61  # 60 steps and a trial
    assert card["file"] == plain_card["file"]
    assert not [s for s in said if "compil" in s]


def test_out_of_memory_makes_the_batch_smaller(tmp_path, free, monkeypatch):
    def loss(self, x):
        if len(x) > 20:
            raise torch.OutOfMemoryError("the device is full")
        return real(self, x)

    real = MADE.loss
    monkeypatch.setattr(MADE, "loss", loss)
    pace = timed(1e6, Ticking())
    card, said = trained(tmp_path, noisy(), pace)
    lines = [s for s in said if "memory" in s]
    assert lines == [
        f"{NAME}: out of memory, going on with batches of {n}" for n in (25, 12)
    ]
    assert card["plan"]["batch"] == 12
    assert card["plan"]["lr"] == pytest.approx(noisy().lr / 2)


def test_out_of_memory_while_measuring_waits_for_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr(fast, "PAUSE", 0)
    left = [1, 1]

    def scarce(*args):
        if left:
            left.pop()
            raise torch.OutOfMemoryError("the device is full")
        return real(*args)

    real = finish.figures
    monkeypatch.setattr(finish, "figures", scarce)
    card, said = trained(tmp_path, noisy())
    assert card
    assert sum("waiting 0 s for the others" in s for s in said) == 2


# Processes -------------------------------------------------------------------------------

ACTS = {
    "finishes": "print('done')",
    "pauses": "raise SystemExit(3)",
    "fails": "print('✘ no'); raise SystemExit(1)",
    "dies": "import os; os.kill(os.getpid(), 9)",
    "hangs": "import signal, time; signal.signal(15, lambda *_: 0)\n"
    "print('deaf', flush=True)\nwhile 1: time.sleep(9)",
    "obeys": "import signal, time\ndef stop(*_): raise SystemExit(3)\n"
    "signal.signal(15, stop)\nprint('ready', flush=True)\nwhile 1: time.sleep(9)",
    "haunts": "import subprocess, sys\n"
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(99)'])",
}


def actors(*names: str, minutes: float = 0.1) -> list[Recipe]:
    make = lambda name: replace(noisy(), name=f"autoregressive/{name}", minutes=minutes)  # noqa: E731
    return [make(name) for name in names]


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """Make a lane whose processes act by their recipes' names, and hear what it says."""

    def launch(job, threads):
        act = ACTS[job.recipe.name.partition("/")[2]]
        stage.shares.append(job.end - time.time())
        return subprocess.Popen(
            [sys.executable, "-c", act],
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=os.environ | {"PYTHONIOENCODING": "utf-8"},
            start_new_session=True,
        )

    def stage(*names, jobs=9, seconds=LONG, say=None):
        stage.said = []
        say = say or (lambda line: stage.said.append(line))
        folders = tmp_path / "out", tmp_path / "runs"
        return Lane(actors(*names), jobs, seconds, *folders, "cpu", say=say)

    stage.shares = []
    monkeypatch.setattr(child, "launch", launch)
    return stage


def test_a_lane_says_how_each_of_them_ended(stage, tmp_path):
    ended = lane.run(stage("finishes", "pauses", "fails", "dies", "haunts"))
    assert list(ended.values()) == ["finished", "paused", "failed", "failed", "finished"]
    assert "done" in stage.said
    assert "✘ autoregressive/dies: its process was ended by signal 9" in stage.said
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_a_deadline_holds_for_who_hears_nothing(stage):
    start = time.monotonic()
    ended = lane.run(stage("hangs", seconds=3))
    assert time.monotonic() - start < LONG
    assert ended["autoregressive/hangs"] == "paused"
    assert "autoregressive/hangs: killed, for its time was up" in stage.said


def test_who_would_not_get_far_waits_for_a_place():
    """Nine minutes are eighteen for those who share them: four and a half recipes of 4."""
    twelve = actors(*["finishes"] * 12, minutes=4)
    assert [fitting(twelve, minutes) for minutes in (9, 1, 30)] == [4, 1, 12]


def test_places_are_shared_out_in_rounds(stage):
    lane.run(stage(*["finishes"] * 5, jobs=2, seconds=LONG))
    left = LONG - 7
    expected = [left / 3, left / 2, left / 2, left, left]
    for share, most in zip(stage.shares, expected):
        assert 0.5 * most < share <= most + 1


def test_who_is_killed_after_all_was_written_has_finished(stage, monkeypatch, tmp_path):
    for name in ("a/done", "a/older"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    (tmp_path / "runs" / "a" / "older" / STATE).touch()  # the card is of another run
    monkeypatch.setattr("gdm_course.checkpoints.pending", lambda *args: None)
    one, done = stage(), child.Child(None, None, math.inf)
    one.children = {"a/done": done, "a/older": done}
    monkeypatch.setattr(child.Child, "kill", lambda self: None)
    for name in ("a/done", "a/older"):
        lane.leave(one, name, -9)
    assert one.ended == {"a/done": "finished", "a/older": "paused"}


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_ctrl_c_lets_runs_save_and_ends_the_rest(stage, monkeypatch):
    monkeypatch.setattr(lane, "SAVING", 2.0)
    heard = []

    def say(line):
        heard.append(line)
        if {"ready", "deaf"} <= {*heard} and "stopping" not in str(heard):
            signal.raise_signal(signal.SIGTERM)

    ended = lane.run(stage("obeys", "hangs", "finishes", jobs=2, say=say))
    assert [*ended.values()] == ["paused", "paused", "waiting"]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert "autoregressive/hangs: killed, for its time was up" in heard


def test_neighbours_are_those_who_run(tmp_path):
    for name in ("a/x", "a/y", "b/z"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / job.RUNNING).touch()
    (tmp_path / "b/z" / job.RUNNING).unlink()
    one = job.Job(replace(noisy(), name="a/x"), tmp_path, tmp_path, 0.0)
    assert job.neighbours(one) == ["a/y"]


def test_a_window_needs_its_minutes():
    code, said = gdm(NAME, "--jobs", 2)
    assert code == 2
    assert "no recipe" in said
    code, said = gdm("autoregressive/made-mnist-cpu", "--jobs", 2)
    assert code == 2
    assert "--minutes" in said
    some = ("--jobs", 2, "--minutes", 1, "--steps", 5)
    code, said = gdm("autoregressive/made-mnist-cpu", *some)
    assert code == 2
    assert "without --jobs" in said
    some = ("--jobs", 2, "--minutes", 1, "--pack", 15)
    code, said = gdm("autoregressive/made-mnist-cpu", *some)
    assert code == 2
    assert "--pack needs --out" in said


def test_a_window_takes_what_is_pending_and_fits_in_order(tmp_path, monkeypatch):
    small = Recipe(**TINY, steps=2)
    todo = [
        replace(small, name="autoregressive/late"),
        replace(small, name="autoregressive/first", device="gpu", priority=1),
        replace(small, name="autoregressive/second", device="gpu", priority=2),
    ]
    monkeypatch.setattr(recipes, "RECIPES", tuple(todo[:1] + todo[:0:-1]))
    seen = []
    monkeypatch.setattr(
        "gdm_course.scale.window.spend", lambda todo, *rest: seen.append(todo) or 0
    )
    options = ("--pending", "--jobs", 2, "--minutes", 1, "--out", tmp_path)
    for gpu in (True, False):
        monkeypatch.setattr("gdm_course.scale.cli._has_gpu", lambda gpu=gpu: gpu)
        assert gdm(*options)[0] == 0
    names = [[recipe.name.split("/")[1] for recipe in todo] for todo in seen]
    assert names == [["first", "second"], ["late"]]


def test_a_window_ends_in_order_though_its_console_is_gone(tmp_path, stage, monkeypatch):
    """What was trained is packed, whoever hears of it."""
    monkeypatch.setattr(recipes, "RECIPES", actors("pauses"))
    save(tmp_path / "runs" / "autoregressive/pauses" / STATE, {"step": 1})

    def gone(line):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("gdm_course.scale.cli._say", gone)
    where = ("--out", tmp_path / "out", "--runs", tmp_path / "runs")
    options = ("--jobs", 1, "--minutes", 5, "--pack", 1)
    assert gdm("autoregressive/pauses", *options, *where)[0] == 0
    assert (tmp_path / "out" / "lane.zip").is_file()
