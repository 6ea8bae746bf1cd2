"""Training at scale: the order of rows, state files, kills, devices, and the card."""

import json
import math
import os
import random
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.fabric import Fabric
from safetensors.torch import load_file
from scale_runs import noisy, plain

from gdm_course import checkpoints, recipes
from gdm_course.chance import chance, own_chance, set_chance
from gdm_course.evaluation.likelihood import nll_estimate
from gdm_course.scale import cost
from gdm_course.scale.data import Order, binary_images
from gdm_course.scale.finish import halve
from gdm_course.scale.pace import Pace
from gdm_course.scale.run import OtherRun
from gdm_course.scale.runner import fit
from gdm_course.scale.state import load, save
from gdm_course.scale.whole import write_whole

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = Path(__file__).parent / "scale_runs.py"
NAME = "autoregressive/tiny"


def train_tiny(folder: Path, recipe=None, **options) -> tuple[dict | None, list[str]]:
    """Run a tiny recipe in this process; return its card and what it said."""
    said = []
    fabric = Fabric(accelerator="cpu", devices=1, precision=(recipe or noisy()).precision)
    if "minutes" in options:
        options["pace"] = Pace(options.pop("minutes"))
    options = {"runs": folder / "runs", "out": folder / "out", "say": said.append} | options
    return fit(recipe or noisy(), fabric, **options), said


def program(*arguments) -> str:
    """Run scale_runs.py in a process of its own and return what it printed."""
    command = [sys.executable, str(PROGRAM), *map(str, arguments)]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> tuple[Path, dict, list[str]]:
    """A finished tiny run: its folder, its card, and what it said."""
    folder = tmp_path_factory.mktemp("done")
    return folder, *train_tiny(folder)


def test_steps_are_epochs_of_shuffled_rows_laid_end_to_end():
    order = Order(N=10, B=4, seed=3)
    rows = torch.cat([order.batch(step) for step in range(15)])  # 60 rows, six epochs
    epochs = rows.view(6, 10)
    assert all(torch.equal(e.sort().values, torch.arange(10)) for e in epochs)
    assert len({tuple(e.tolist()) for e in epochs}) == 6
    assert not torch.equal(rows[:4], Order(10, 4, seed=4).batch(0))


def test_a_batch_larger_than_the_data_is_filled_from_more_epochs():
    rows = Order(N=3, B=7, seed=0).batch(0)
    assert torch.bincount(rows).tolist() in ([3, 2, 2], [2, 3, 2], [2, 2, 3])


def test_processes_share_the_batch_of_one_process():
    whole = Order(N=10, B=4, seed=3).batch(7)
    parts = [Order(10, 4, 3, rank, world=2).shard(7) for rank in range(2)]
    assert sorted(torch.cat(parts).tolist()) == sorted(whole.tolist())
    with pytest.raises(ValueError, match="4 rows cannot be shared equally by 3"):
        Order(10, 4, 3, world=3)
    with pytest.raises(ValueError, match="no rows"):
        Order(0, 4, 3)


def test_chance_survives_a_file(tmp_path):
    save(tmp_path / "s", chance())
    draw = lambda: (random.random(), float(np.random.rand()), torch.rand(()).item())  # noqa: E731
    first = draw()
    set_chance(load(tmp_path / "s"))
    assert draw() == first


def test_an_evaluation_leaves_chance_alone_even_if_it_fails():
    torch.manual_seed(5)
    expected = torch.rand(2)[1]
    torch.manual_seed(5)
    torch.rand(())
    with own_chance(0):
        first = torch.rand(3)
    with pytest.raises(ZeroDivisionError), own_chance(0):
        torch.rand(3) / (1 // 0)
    assert torch.rand(()) == expected
    with own_chance(0):
        assert torch.equal(torch.rand(3), first)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "deep" / "file"
    write_whole(path, lambda file: file.write(b"old"))

    def half(file):
        file.write(b"ne")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_whole(path, half)
    assert path.read_bytes() == b"old"


def test_a_state_file_runs_no_code(tmp_path):
    torch.save({"evil": Path("/")}, tmp_path / "s")  # a class: only a pickle can carry it
    with pytest.raises(ValueError, match=r"no state of a run .*--no-resume"):
        load(tmp_path / "s")
    assert load(tmp_path / "nothing") is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
@pytest.mark.parametrize("who", ["noisy", "players"])
def test_a_run_killed_at_random_moments_ends_with_the_same_bits(tmp_path, who):
    codes = program("kill", tmp_path, who).split()
    assert codes[0] == codes[-1] == "0"
    assert codes.count("-9") >= 3
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert (whole / "exact").read_bytes() == (killed / "exact").read_bytes()
    weights = [checkpoints.paths(NAME, f / "out")[0].read_bytes() for f in (whole, killed)]
    assert weights[0] == weights[1]
    assert not list(tmp_path.rglob("state.*"))


def test_two_processes_train_as_one(tmp_path):
    """A wrong shard, a summed instead of averaged gradient: the losses would part."""
    one = program("devices", 1, tmp_path / "1", "32-true")
    two = program("devices", 2, tmp_path / "2", "32-true")
    numbers = [[float(n) for n in re.findall(r"\d+\.\d+", said)] for said in (one, two)]
    assert len(numbers[0]) == 6
    assert numbers[0] == pytest.approx(numbers[1], abs=2e-4)
    a, b = (load_file(checkpoints.paths(NAME, tmp_path / n / "out")[0]) for n in "12")
    assert all(torch.allclose(a[k].float(), b[k].float(), atol=1e-3) for k in a)


def test_mixed_precision_is_really_mixed_and_learns_the_same(tmp_path):
    """Fabric drops the precision silently when a loss is called around its forward."""
    (full, _), (mixed, _) = (
        train_tiny(tmp_path / p, plain(p)) for p in ("32-true", "bf16-mixed")
    )
    full, mixed = full["figures"][0]["value"], mixed["figures"][0]["value"]
    assert full != mixed
    assert full == pytest.approx(mixed, abs=0.05)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_trains_as_a_cpu(tmp_path):
    fabric = Fabric(accelerator="gpu", devices=1)
    there = fit(plain(), fabric, tmp_path / "r", tmp_path / "o", say=lambda line: None)
    here, _ = train_tiny(tmp_path, plain())
    values = [card["figures"][0]["value"] for card in (there, here)]
    assert values[0] == pytest.approx(values[1], abs=0.05)


def test_the_card_tells_how_and_how_good(done):
    folder, card, _ = done
    _, path = checkpoints.paths(NAME, folder / "out")
    assert json.loads(path.read_text()) == card == checkpoints.card(NAME, folder / "out")
    assert card["settings"] == noisy().settings()
    assert (card["seed"], card["steps"], card["weights"]) == (0, 60, "float16")
    assert card["parameters"] == 64 * 16 + 16 + 16 * 64 + 64
    assert set(card["code"]) >= {"autoregressive.made.MADE", "autoregressive.made.masks"}
    assert "digits" in card["data"]
    assert card["seconds"] > 0
    assert 0 < card["processor_seconds"] < 100
    assert [f["split"] for f in card["figures"]] == ["test", "valid"]
    assert {f["unit"] for f in card["figures"]} == {"nats"}


def test_the_figures_are_those_of_the_shipped_weights(done):
    folder, card, _ = done
    stored = load_file(checkpoints.paths(NAME, folder / "out")[0])
    kinds = {v.dtype for v in stored.values() if v.is_floating_point()}
    assert kinds == {torch.float16}
    model = checkpoints.load(NAME, folder=folder / "out")
    assert not model.training
    assert all(v.dtype == torch.float32 for v in model.parameters())
    splits = binary_images("digits")
    for figure in card["figures"]:
        x = getattr(splits, figure["split"])
        assert figure["n"] == len(x)
        again = nll_estimate(model, x)
        assert (figure["value"], figure["error"]) == pytest.approx(again, rel=1e-6)


def test_the_validation_split_chooses_the_weights(tmp_path):
    """The learning rate rises until the weights are spoilt: the last are not the best."""
    recipe = replace(noisy(), lr=100.0, warmup=1000, ema=0.0, steps=80, every=5)
    card, said = train_tiny(tmp_path, recipe)
    seen = [
        tuple(map(float, re.findall(r"step (\d+).*validation (\S+)", s)[0])) for s in said
    ]
    value, step = min((value, step) for step, value in seen)
    assert step < 80
    assert card["chosen_at_step"] == step
    assert card["figures"][1]["value"] == pytest.approx(value, abs=0.01)  # float16


def test_patience_ends_a_run_early(tmp_path):
    recipe = replace(
        noisy(), lr=100.0, warmup=1000, ema=0.0, steps=400, every=5, patience=4
    )
    card, said = train_tiny(tmp_path, recipe)
    assert card["steps"] < 400
    assert card["steps"] == card["chosen_at_step"] + 4 * 5
    assert len(said) == card["steps"] / 5


def test_a_pause_and_a_resumption_change_nothing(done, tmp_path):
    assert train_tiny(tmp_path, minutes=0.0)[0] is None
    assert (tmp_path / "runs" / NAME / "state.safetensors").is_file()
    card, said = train_tiny(tmp_path)
    assert "going on from step 7 of 60" in said[0]
    assert card["file"] == done[1]["file"]
    assert not (tmp_path / "runs" / NAME / "state.safetensors").exists()


def test_an_unfinished_run_with_other_settings_is_not_continued(done, tmp_path):
    train_tiny(tmp_path, minutes=0.0)
    with pytest.raises(OtherRun, match=r"another lr.*--no-resume"):
        train_tiny(tmp_path, replace(noisy(), lr=0.5))
    card, _ = train_tiny(tmp_path, resume=False)
    assert card["file"] == done[1]["file"]


def test_a_loss_that_explodes_says_where(tmp_path):
    with pytest.raises(FloatingPointError, match=f"{NAME}, from step 0: the loss is nan"):
        train_tiny(tmp_path, replace(noisy(), lr=1e38, warmup=0, clip=None))
    assert not (tmp_path / "out").exists()


def test_a_gradient_that_is_not_finite_ends_a_run_before_it_spoils_what_is_kept(
    tmp_path, monkeypatch
):
    """At step 17 of 60, after evaluations at 7 and 14: the run goes on from there."""
    whole, _ = train_tiny(tmp_path / "whole")
    calls = iter(range(1, 99))

    def backward(self, loss, *args, **kwargs):
        hurt = loss.sub(loss.detach()).abs().sqrt() if next(calls) == 17 else 0
        real(self, loss + hurt, *args, **kwargs)

    real = Fabric.backward
    monkeypatch.setattr(Fabric, "backward", backward)
    said = rf"{NAME}, from step 0: the gradient of .*weight.* is nan at step 17 "
    with pytest.raises(FloatingPointError, match=said):
        train_tiny(tmp_path)
    assert load(tmp_path / "runs" / NAME / "state.safetensors")["step"] == 14
    again, _ = train_tiny(tmp_path)
    assert again["file"] == whole["file"]


@pytest.mark.parametrize("precision", ["16-mixed", "bf16", "64-true"])
def test_a_precision_that_recipes_do_not_train_in_is_refused(precision):
    """Under float16 the scaler skips steps whose gradient is not finite; we raise."""
    with pytest.raises(ValueError, match="recipes train in 32-true or bf16-mixed"):
        replace(plain(), precision=precision)


def test_the_rate_rises_then_falls_to_zero():
    recipe = replace(noisy(), steps=100, warmup=10, lr=2.0)
    rates = [recipe.rate(step) for step in range(101)]
    assert rates[:3] == pytest.approx([0.2, 0.4, 0.6])
    assert max(rates) == rates[10] == 2.0
    assert rates[55] == pytest.approx(1.0)  # halfway down a cosine
    assert rates[100] == pytest.approx(0.0)


def test_half_precision_refuses_what_it_cannot_hold():
    half = halve({"w": torch.tensor([1.0, 2**-24]), "n": torch.tensor([3])})
    assert half["w"].dtype == torch.float16
    assert half["n"].dtype == torch.int64
    with pytest.raises(OverflowError, match=r"'w'.*65504"):
        halve({"w": torch.tensor([70000.0])})


def test_every_recipe_can_be_built_and_names_a_unit(root):
    import tomllib

    course = tomllib.loads((root / "gdm_course" / "course.toml").read_text())
    for recipe in recipes.RECIPES:
        assert recipe.unit in course["units"]
        assert recipe.name.split("/")[0] in {*course["families"], "evaluation"}
        assert json.loads(json.dumps(recipe.settings())) == recipe.settings()
        with torch.device("meta"):
            recipe.build()
        for metric in recipe.metrics:
            assert callable(recipes.resolve(metric.function))
        assert callable(recipes.resolve(recipe.data))
        assert callable(recipes.resolve(recipe.loop))
        assert math.isfinite(recipe.rate(recipe.steps))
    assert len(set(recipes.names())) == len(recipes.RECIPES)
    with pytest.raises(LookupError, match="no recipe 'x/y'; there are: autoregressive/"):
        recipes.get("x/y")


def test_recipes_for_a_gpu_are_a_queue_with_goals():
    """At most four minutes of an H100 each, in one order, with something to aim at."""
    queue = [recipe for recipe in recipes.RECIPES if recipe.device == "gpu"]
    places = sorted(r.priority for r in queue if r.priority)  # those without come last
    assert places == [*range(1, len(places) + 1)]
    for recipe in queue:
        assert 0 < recipe.minutes <= 4
        lower = recipe.metrics[recipe.aim].lower
        if recipe.stretch is not None:
            assert (recipe.stretch < recipe.goal) == lower
        assert recipe.steps > 10 * recipe.warmup
        assert recipe.every <= recipe.steps
    assert all(r.priority == 0 for r in recipes.RECIPES if r.device == "cpu")


def test_what_a_step_costs_is_counted():
    """A layer: 2 B D H for its output, as much again for the slope of its weights."""

    class Layer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(30, 20))

        def loss(self, x):
            return (x @ self.weight).sum()

    found = cost.count(Layer(), (torch.ones(50, 30),), "32-true")
    assert found.flops == 2 * 2 * 50 * 30 * 20
    assert found.parameters == 600
    assert found.operations - 20 == 4  # a product and a sum, ones and a product back
    assert found.seconds == cost.LAUNCH * found.operations


@pytest.mark.data
@pytest.mark.full
@pytest.mark.parametrize(
    "recipe", [r for r in recipes.RECIPES if r.device == "gpu"], ids=lambda r: r.name
)
def test_a_recipe_fits_its_minutes_by_the_count(recipe):
    assert recipe.steps * cost.of(recipe).seconds * cost.EVALUATED / 60 <= recipe.minutes
