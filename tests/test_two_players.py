"""Recipes of two players: the loop that is run, its average, a window, and the lane.

That a killed run ends with the same bits: test_scale.py.
"""

import copy
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from lightning.fabric import Fabric
from scale_runs import PLAYERS, noisy, players
from test_lane import NAME, Ticking, at, timed, trained

from gdm_course import checkpoints, recipes
from gdm_course.chance import own_chance
from gdm_course.evaluation.features import frechet_of_points
from gdm_course.gan.gan import RelativisticGAN, train_gan
from gdm_course.recipes import Recipe
from gdm_course.scale import cost
from gdm_course.scale import pace as pacing
from gdm_course.scale.data import Order
from gdm_course.scale.measure import seconds_of
from gdm_course.scale.pace import Pace
from gdm_course.scale.pack import pack
from gdm_course.scale.plan import Plan
from gdm_course.scale.points import toy_points
from gdm_course.scale.run import count_step, prepare
from gdm_course.scale.steps import Steps
from gdm_course.scale.unpack import unpack


def a_run(recipe: Recipe):
    """A run at its beginning, and its steps."""
    fabric = Fabric(accelerator="cpu", devices=1)
    run = prepare(recipe, fabric)
    return run, Steps(run, fabric, 1, print)


@pytest.mark.parametrize("critic_steps", [1, 3])
def test_the_steps_are_those_of_train_gan_with_an_optimiser_for_each(critic_steps):
    """One Adam for both, Fabric and the order of rows change no bit."""
    recipe = replace(players(), critic_steps=critic_steps)
    run, steps = a_run(recipe)
    gan, x = copy.deepcopy(run.model), run.splits.train
    order, rate = Order(len(x), 20, 0), Plan.of(recipe).rate
    chance = torch.get_rng_state()
    ours = [loss for _, loss in zip(range(9), steps())]
    torch.set_rng_state(chance)
    batches = (x[order.batch(i)] for i in range(9 * critic_steps))
    loop = train_gan(gan, batches, 9, lr=rate, critic_steps=critic_steps)
    assert ours == [d for _, d, _ in loop]
    assert all(map(torch.equal, run.model.parameters(), gan.parameters()))


@pytest.mark.parametrize("critic_steps", [1, 3])
def test_steps_without_a_look_are_the_same_steps(tmp_path, critic_steps):
    recipe = replace(players(), critic_steps=critic_steps)
    watched, _ = trained(tmp_path / "a", recipe)
    unwatched, _ = trained(tmp_path / "b", recipe, Pace(look=50))
    assert watched["file"] == unwatched["file"]


def test_the_average_follows_the_generator_alone():
    recipe = replace(players(), warmup=0)
    run, steps = a_run(recipe)
    by_hand = copy.deepcopy(run.model.generator)
    for step, _ in enumerate(steps(), start=1):
        count_step(run)
        decay = min(0.9, (1 + step) / (10 + step))
        for a, p in zip(by_hand.parameters(), run.model.generator.parameters()):
            a.data = decay * a.data + (1 - decay) * p.data
        if step == 12:
            break
    pairs = zip(run.average.generator.parameters(), by_hand.parameters())
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in pairs)
    assert all(
        map(
            torch.equal,
            run.average.discriminator.parameters(),
            run.model.discriminator.parameters(),
        )
    )
    moved = zip(run.average.generator.parameters(), run.model.generator.parameters())
    assert not any(torch.equal(a, b) for a, b in moved)
    assert all(p.requires_grad for p in run.model.parameters())


def test_what_is_kept_is_the_average_and_its_card_says_how(tmp_path):
    card, said = trained(tmp_path, players())
    assert card["settings"]["loop"] == "gan.gan.train_gan"
    assert card["settings"]["critic_steps"] == 3
    assert len(said) == 9
    kept = checkpoints.load(NAME, folder=tmp_path / "out")
    assert isinstance(kept, RelativisticGAN)
    assert kept.sample(5).shape == (5, 2)
    told, test = card["figures"][0], toy_points("ring", 500).test
    with own_chance(0):
        again = frechet_of_points(kept, test)
    assert (told["value"], told["error"]) == pytest.approx(again, rel=1e-6)
    without, _ = trained(tmp_path / "without", replace(players(), ema=0.0))
    assert without["file"] != card["file"]


def test_a_run_that_is_cut_goes_on_elsewhere_with_the_same_bits(tmp_path, monkeypatch):
    """Through an archive of the lane, as from a GPU and back."""
    monkeypatch.setattr(pacing, "evaluation_seconds", lambda *args: (0.0, 0.0))
    monkeypatch.setattr(pacing, "fit", lambda *args, **kwargs: None)
    recipe = players()
    pace = timed(80, Ticking())
    assert trained(tmp_path / "cut", recipe, pace)[0] is None
    assert 0 < at(tmp_path / "cut") < 60
    monkeypatch.setattr(recipes, "RECIPES", (recipe,))
    (archive,) = pack((recipe,), tmp_path / "cut", tmp_path / "cut" / "runs", 15)
    unpack(archive, tmp_path / "there" / "out", tmp_path / "there" / "runs")
    cut, said = trained(tmp_path / "there", recipe)
    assert "going on from step" in said[0]
    whole, _ = trained(tmp_path / "whole", recipe)
    assert cut["file"] == whole["file"]


@pytest.mark.parametrize(
    ("N", "few"), [(500, 2), (500, 16), (500, 128), (40, 16), (60, 50)]
)
def test_a_metric_that_refuses_few_rows_is_measured_with_more(monkeypatch, N, few):
    """A Frechet distance wants more rows than features."""
    asked = []
    monkeypatch.setattr("gdm_course.scale.measure.resolve", lambda function: function)

    def metric(model, x):
        asked.append(len(x))
        if len(x) < few:
            raise ValueError("too few")

    once, row = seconds_of(SimpleNamespace(function=metric), None, torch.zeros(N, 1), 1e6)
    assert 0 <= once < math.inf
    assert 0 <= row < math.inf
    assert max(asked) <= N


def test_measuring_speed_leaves_no_trace(tmp_path, monkeypatch):
    monkeypatch.setattr(pacing, "evaluation_seconds", lambda *args: (0.0, 0.0))
    monkeypatch.setattr(pacing, "fit", lambda *args, **kwargs: None)
    whole, _ = trained(tmp_path / "a", players())
    card, _ = trained(tmp_path / "b", players(), timed(1e6, Ticking()))
    assert card["file"] == whole["file"]


@pytest.mark.parametrize("look", [1, 50])
@pytest.mark.parametrize("who", ["discriminator_loss", "generator_loss"])
def test_what_is_not_finite_stops_before_the_next_checkpoint(
    tmp_path, monkeypatch, who, look
):
    real, calls = getattr(RelativisticGAN, who), []

    def loss(self, x):
        calls.append(who)
        value = real(self, x)
        return value * math.nan if len(calls) == 30 else value

    monkeypatch.setattr(RelativisticGAN, who, loss)
    with pytest.raises(FloatingPointError, match=rf"{NAME}, from step 0: .* is nan"):
        trained(tmp_path, replace(Recipe(**PLAYERS), every=20), Pace(look=look))
    assert at(tmp_path) == 20


def test_half_precision_learns_the_same(tmp_path):
    values = []
    for precision in ("32-true", "bf16-mixed"):
        recipe = replace(players(), precision=precision)
        card, _ = trained(tmp_path / precision, recipe)
        values.append(card["figures"][0]["value"])
    assert values[0] != values[1]
    assert values[0] == pytest.approx(values[1], rel=0.5, abs=0.1)


def test_two_players_train_on_one_device():
    fabric = Fabric(accelerator="cpu", devices=1)
    run = prepare(players(), fabric)
    many = type("Two", (), {"world_size": 2, "device": torch.device("cpu")})()
    with pytest.raises(ValueError, match="two players, which train on one device"):
        Steps(run, many, 1, print)


@pytest.mark.parametrize(
    "wrong", [{"critic_steps": 0}, {"clip": 1.0}, {"compile": True}], ids=str
)
def test_what_two_players_cannot_have_is_refused(wrong):
    with pytest.raises(ValueError, match="two players are neither compiled nor clipped"):
        Recipe(**PLAYERS, **wrong)
    with pytest.raises(ValueError, match="critic_steps=3"):
        replace(noisy(), critic_steps=3)


def test_what_a_step_costs_counts_every_move():
    one = cost.of(Recipe(**PLAYERS))
    three = cost.of(players())
    assert 1.5 * one.flops < three.flops < 3 * one.flops
    assert three.parameters == sum(p.numel() for p in players().build().parameters())
