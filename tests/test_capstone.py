"""The capstone: what its contract freezes, what clears its heights, and what does not."""

import json
from functools import cache
from itertools import pairwise

import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor, nn

from gdm_course.authoring.course import load
from gdm_course.checks.ask import Ask, run
from gdm_course.checks.challenges import capstone
from gdm_course.contract import digits, plane
from gdm_course.contract.frozen import JUMPS, STEPS, JumpNet, generate, with_weights
from gdm_course.contract.scores import digit_scores
from gdm_course.data import images
from gdm_course.evaluation.features import opinions
from gdm_course.evaluation.samples import frechet
from gdm_course.grading.box.ladder import LADDER
from gdm_course.grading.guest.packing import pack_ask
from gdm_course.grading.judge.assignment import assignment
from gdm_course.grading.judge.boxes import Boxes
from gdm_course.grading.judge.judge import asks_of, grade
from gdm_course.grading.judge.notebook import read
from gdm_course.source import ROOT
from tests.capstone_entries import DISHONEST, HEAD, HONEST

SECRET = 2**100 + 3
NAMES = [*capstone.HEIGHTS]
BEST = next((r for r in LADDER if r.name in ("L3", "L3u") and r.missing() is None), None)


def entry(source: str) -> type:
    space: dict = {}
    exec(HEAD + source, space)
    return space["Entry"]


def cleared(asks: list[Ask], answers: list) -> int:
    """How many heights these answers clear; each is above the one before."""
    measure, known = capstone.scores_of, {}

    def once(ask: Ask, answer: tuple) -> list[float]:
        if id(ask) not in known:
            known[id(ask)] = measure(ask, answer)
        return known[id(ask)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(capstone, "scores_of", once)
        found = [getattr(capstone, name).judge(asks, answers) is None for name in NAMES]
    assert found == sorted(found, reverse=True)
    return sum(found)


# What is frozen ---------------------------------------------------------------------------


class Constant(nn.Module):
    """A network that says the same velocity everywhere."""

    def forward(self, x: Tensor, t: Tensor, d: Tensor) -> Tensor:
        return torch.tensor([2.0, -1.0]).expand_as(x)


class Where(nn.Module):
    """A network that keeps what it was asked."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def forward(self, x: Tensor, t: Tensor, d: Tensor) -> Tensor:
        self.asked.append((round(t[0].item(), 4), round(d[0].item(), 4)))
        return x


@pytest.mark.parametrize("k", JUMPS)
def test_jumps_go_from_one_to_zero(k):
    eps, where = torch.randn(5, 2), Where()
    moved = eps - torch.tensor([2.0, -1.0])
    assert torch.allclose(generate(Constant(), eps, k), moved, atol=1e-6)
    assert torch.allclose(generate(where, eps, k), eps * (1 - 1 / k) ** k, atol=1e-6)
    assert where.asked == [(1 - i / k, 1 / k) for i in range(k)]


@pytest.mark.parametrize("D", [2, digits.DIRECTIONS])
def test_weights_travel_as_one_vector(D):
    net = JumpNet(D)
    weights = nn.utils.parameters_to_vector(net.parameters())
    x, t, d = torch.randn(6, D), torch.rand(6), torch.rand(6)
    assert torch.equal(with_weights(weights, D)(x, t, d), net(x, t, d))
    for wrong in (weights[1:], weights * torch.nan, weights[None], torch.randn(9)):
        with pytest.raises(ValueError, match="return what `fit` returns"):
            with_weights(wrong, D)


def test_training_follows_from_its_seed_and_leaves_chance_alone():
    naive, x = entry("Entry = Naive"), torch.randn(300, 2)
    before = torch.get_rng_state()
    one, two, other = (naive().fit(x, 3, seed) for seed in (5, 5, 6))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_training_lowers_the_loss():
    """The loop steps on the entry's loss: a mean is learnt where that is the answer."""
    naive = entry("Entry = Naive")()
    x = torch.tensor([[3.0, -2.0]]).expand(64, 2)
    net = with_weights(naive.fit(x, 120, 0), 2)
    away = generate(net, torch.randn(200, 2), 1) - x[0]
    assert away.square().mean() < 0.3


# The laws ---------------------------------------------------------------------------------


def drawn(seed: int) -> digits.Turned:
    return digits.turned(torch.Generator().manual_seed(seed))


def test_bells_have_variance_one_and_stand_beside_the_noise():
    for seed in range(5):
        g = torch.Generator().manual_seed(seed)
        law = plane.bells(g)
        x = law.sample(60_000, g)
        assert x.mean(0).norm().item() == pytest.approx(1.5, abs=0.03)
        assert x.var(0).mean().item() == pytest.approx(1, abs=0.03)
        assert 3 <= len(law.weights) <= 5


def test_digits_are_turned_and_turned_back():
    D, (law, other) = digits.DIRECTIONS, map(drawn, (1, 2))
    assert torch.allclose(law.rotation @ law.rotation.T, torch.eye(D), atol=1e-5)
    assert not torch.allclose(other.rotation, law.rotation, atol=0.1)
    back = law.pictures(law.rows)
    assert back.shape[1:] == law.others.shape[1:] == (1, 8, 8)
    assert len(back) + len(law.others) == 1797


def test_rows_and_pictures_are_as_scikit_learn_whitens_and_projects():
    law, data = drawn(1), images.load("digits")
    codes = torch.cat([data.x_train, data.x_valid, data.x_test]).flatten(1)
    order = torch.randperm(1797, generator=torch.Generator().manual_seed(1))
    given, others = (codes[order].double() / 8 - 1).tensor_split(2)
    main = PCA(digits.DIRECTIONS, svd_solver="full", whiten=True).fit(given)
    white = torch.as_tensor(main.transform(given)).float()  # but for the rotation
    assert torch.allclose(
        torch.cdist(white, white), torch.cdist(law.rows, law.rows), atol=0.01
    )
    for pictures, known in ((law.pictures(law.rows), given), (law.others, others)):
        wanted = torch.as_tensor(main.inverse_transform(main.transform(known))).float()
        assert torch.allclose(pictures.flatten(1), wanted, atol=1e-3)


def test_noise_has_mean_and_covariance_of_the_digits():
    law = drawn(3)
    assert law.rows.mean(0).abs().max() < 1e-4
    assert torch.allclose(torch.cov(law.rows.T), torch.eye(digits.DIRECTIONS), atol=1e-3)


def test_energy_distance_is_that_of_single_pairs():
    x, y = torch.randn(7, 3), torch.randn(5, 3) + 1

    def mean(a, b, n):
        return sum((p - q).norm().item() for p in a for q in b) / n

    wanted = 2 * mean(x, y, 35) - mean(x, x, 42) - mean(y, y, 20)
    assert plane.energy_distance(x, y).item() == pytest.approx(wanted, rel=1e-4)


def test_the_law_itself_scores_nothing_and_another_law_a_lot():
    g = torch.Generator().manual_seed(0)
    law, other = plane.bells(g), plane.bells(g)
    own = plane.energy_distance(law.sample(3000, g), law.sample(3000, g))
    assert own.abs() < 0.004
    for wrong in (other.sample(3000, g), torch.randn(3000, 2, generator=g)):
        assert plane.energy_distance(law.sample(3000, g), wrong) > 0.1


def test_a_gaussian_with_the_right_moments_is_good_enough_for_one_height_only():
    """On digits it has the score 1, as the noise that nobody has carried anywhere."""
    D, good = digits.DIRECTIONS, capstone.HEIGHTS["good"][1]
    idle = 0 * nn.utils.parameters_to_vector(JumpNet(D).parameters()).detach()
    for seed in range(4):
        g = torch.Generator().manual_seed(seed)
        law = digits.turned(g)
        assert digit_scores(idle, law, g) == [1, 1, 1]
        root = torch.linalg.cholesky(torch.cov(law.rows.T))
        bell = law.rows.mean(0) + torch.randn(2000, D, generator=g) @ root.T
        noise = torch.randn(2000, D, generator=g)
        real = opinions(law.others)
        one, two = (frechet(opinions(law.pictures(x)), real) for x in (bell, noise))
        assert one / two > good[2] + 0.15


# What is asked ----------------------------------------------------------------------------


def test_what_travels_tells_no_law():
    """Rows, a number of steps and a seed, from which nothing follows."""
    for ask in asks_of(capstone.good, SECRET):
        law, last = ask.args[0].kept
        spec, arrays = pack_ask(ask)
        assert [tuple(a.shape) for a in arrays] == [tuple(ask.args[0].shape)]
        told = json.dumps(spec)
        assert str(last) not in told
        assert spec["args"]["tuple"][1] == STEPS
        for seed in (ask.args[2], ask.seed):
            g = torch.Generator().manual_seed(seed)
            if isinstance(law, plane.Bells):
                assert not torch.equal(plane.bells(g).weights, law.weights)
            else:
                assert not torch.allclose(digits.turned(g).rotation, law.rotation)


def test_each_height_has_laws_of_its_own_and_a_regrade_the_same():
    first = [asks_of(getattr(capstone, name), SECRET) for name in NAMES]
    again = [asks_of(getattr(capstone, name), SECRET) for name in NAMES]
    for k in range(capstone.LAWS + 1):
        rows = [asks[k].args[0] for asks in first]
        assert not torch.equal(rows[0], rows[1])
        assert not torch.equal(rows[1], rows[2])
        assert all(torch.equal(r, a[k].args[0]) for r, a in zip(rows, again))


def test_heights_rise():
    """Whoever clears one clears those below: points only grow with better scores."""
    for below, above in pairwise(NAMES):
        pairs = zip(capstone.HEIGHTS[below], capstone.HEIGHTS[above])
        assert all(a <= b for low, high in pairs for b, a in zip(low, high))


# Who clears what --------------------------------------------------------------------------


@cache
def asks() -> tuple[Ask, ...]:
    return tuple(asks_of(capstone.best, SECRET))


@cache
def answers(name: str) -> tuple:
    return tuple(run(ask, entry(HONEST[name][0])) for ask in asks())


@pytest.mark.parametrize("name", DISHONEST)
def test_a_dishonest_entry_clears_no_height(name):
    """No more than an honest poor one; here in this process, below in the box."""
    made = list(asks())
    kept = plane.generate, plane.energy_distance, plane.scores, torch.cdist
    try:
        given = [run(ask, entry(DISHONEST[name])) for ask in made]
    except AssertionError:  # a hunter finds something here, where nothing is sealed
        assert "hunts" in name
        return
    finally:
        plane.generate, plane.energy_distance, plane.scores, torch.cdist = kept
    assert cleared(made, given) == 0


SLOW = ("coupled, robust", "mean flow, coupled")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.full] * (n in SLOW)) for n in HONEST]
)
def test_an_honest_entry_clears_as_many_heights_as_it_is_worth(name):
    assert cleared(list(asks()), list(answers(name))) == HONEST[name][1]


@pytest.mark.full
def test_three_times_the_training_does_not_lift_a_poor_entry():
    source = "class Entry(Naive):\n    def fit(self, x, steps, seed):\n"
    source += "        return super().fit(x, 3 * steps, seed)\n"
    made = list(asks())
    assert cleared(made, [run(ask, entry(source)) for ask in made]) <= HONEST["naive"][1]


def test_weights_of_another_law_are_worth_nothing():
    """Stored weights: trained at home as long as one likes, on what is public."""
    stored = list(answers("coupled"))
    assert cleared(list(asks()), stored) == HONEST["coupled"][1]
    assert cleared(asks_of(capstone.best, SECRET + 1), stored) == 0


# In the sealed box ------------------------------------------------------------------------


@pytest.mark.skipif(BEST is None, reason="no bubblewrap on this machine")
def test_in_the_box_a_dishonest_entry_earns_nothing():
    """Every question has an entry of its own, so that a notebook tries three."""
    made = assignment(load(ROOT), "challenges/capstone")
    boxes, names = Boxes(BEST, made), [*DISHONEST]
    try:
        for start in range(0, len(names), 3):
            cells = [HEAD]
            for name, who in zip(NAMES, names[start : start + 3]):
                cells.append(f"{DISHONEST[who]}\n\n{name} = Entry")
            result = grade(notebook(cells), "k", made, boxes.make, seed=SECRET)
            story = [(m.name, m.status.value, m.message) for m in result.marks]
            assert result.earned == 0, story
            assert {m.status.value for m in result.marks} == {"graded"}, story
            assert not any("raises" in m.message for m in result.marks), story
    finally:
        boxes.close()


def notebook(sources: list[str]):
    cells = [
        {"cell_type": "code", "metadata": {}, "source": s, "outputs": []} for s in sources
    ]
    whole = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    return read(json.dumps(whole).encode())
