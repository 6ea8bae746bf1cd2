"""challenges/evaluation: what fools which figure, and the card, against closed forms."""

import math

import pytest
import torch
from scipy import stats
from torch.distributions import MultivariateNormal

from gdm_course.challenges import evaluation as ev
from gdm_course.data import images
from gdm_course.divergences import kl_estimate
from gdm_course.evaluation.likelihood import Estimate
from gdm_course.evaluation.samples import (
    classifier_two_sample,
    frechet,
    kid,
    precision_recall,
)

BETTER = {kind.name: kind.higher for kind in ev.KINDS}


def normal(*shape, seed: int = 0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Bell:
    """N(0, s^2 I) in D dimensions."""

    def __init__(self, D: int, s: float):
        self.law = MultivariateNormal(torch.zeros(D), s**2 * torch.eye(D))

    def sample(self, n):
        return self.law.sample((n,))

    def log_prob(self, x):
        return self.law.log_prob(x)


@pytest.mark.parametrize("n", [1, 5, 6, 14])
def test_a_memory_repeats_each_row_as_often_as_any_other(n):
    x = torch.arange(10.0)[:, None]
    drawn = ev.repeated(x, n, 3)
    counts = drawn[:, 0].long().bincount(minlength=3)
    assert drawn.shape == (n, 1)
    assert drawn.max() <= 2
    assert counts.max() - counts.min() <= 1
    with pytest.raises(ValueError, match="expected at most 10"):
        ev.repeated(x, n, 11)


def test_one_of_each_has_every_label_once_in_turn():
    y = torch.tensor([2, 0, 2, 1, 0])
    x = y[:, None] + torch.arange(5)[:, None] / 10  # tells label and row
    drawn = ev.one_of_each(x, y, 7)[:, 0].tolist()
    assert drawn == pytest.approx([0.1, 1.3, 2.0, 0.1, 1.3, 2.0, 0.1])


def test_a_class_left_out_leaves_all_others_as_they_are():
    y = torch.tensor([2, 0, 2, 1, 0])
    assert ev.without(torch.arange(5), y, 2).tolist() == [1, 3, 4]
    with pytest.raises(ValueError, match="one for every row"):
        ev.without(torch.arange(6), y, 2)


def test_blur_against_plain_loops():
    x = normal(2, 1, 4, 5)
    blurred = ev.blurred(x)
    for i in range(4):
        for j in range(5):
            around = x[:, 0, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]
            assert torch.allclose(blurred[:, 0, i, j], around.mean((1, 2)))
    with pytest.raises(ValueError, match="expected"):
        ev.blurred(x[0])


def test_corners_have_the_moments_of_a_gaussian_up_to_the_third():
    x = ev.corners(40_000, 4, torch.Generator().manual_seed(0)).double()
    error = 1 / 40_000**0.5
    assert x.abs().unique().tolist() == [1]
    assert x.mean(0).abs().max() < 5 * error
    assert (torch.cov(x.T) - torch.eye(4)).abs().max() < 5 * error
    third = torch.einsum("ni,nj,nk->ijk", x, x, x) / len(x)
    assert third.abs().max() < 5 * error
    assert (x**4).mean() == 1  # of a Gaussian 3: the first moment that differs


def test_frechet_and_kid_are_blind_to_corners():
    x, y = ev.corners(2000, 8, torch.Generator().manual_seed(0)), normal(2000, 8, seed=1)
    equal = [frechet(normal(2000, 8, seed=s), normal(2000, 8, seed=-s)) for s in (2, 3, 4)]
    assert frechet(x, y) < 2 * max(equal)
    found = kid(x, y, 400)
    assert abs(found.value) < 4 * found.error
    assert classifier_two_sample(x, y).share > 0.9


@pytest.mark.parametrize("D", [1, 30])
def test_noise_costs_at_most_the_log_of_its_share(D):
    torch.manual_seed(0)
    good, noise = Bell(D, 1.0), Bell(D, 30.0)
    mixed = ev.Diluted(good, noise, 0.01)
    lost = kl_estimate(good.log_prob, mixed.log_prob, good.sample(4000))
    assert lost.value <= math.log(100) + 1e-5
    assert lost.value > (4.5 if D == 30 else 1.0)  # in the line the noise helps a little
    far = mixed.sample(4000).abs().amax(1) > 6
    assert stats.binomtest(int((~far).sum()), 4000, 0.01 + 0.99 * near(D)).pvalue > 1e-4


def near(D: int) -> float:
    """The probability that no coordinate of N(0, 30^2 I) is beyond 6."""
    return (1 - 2 * stats.norm.sf(6 / 30)) ** D


def test_a_diluted_density_integrates_to_one():
    mixed = ev.Diluted(Bell(1, 1.0), Bell(1, 3.0), 0.3)
    x = torch.linspace(-30, 30, 20_001)[:, None]
    assert torch.trapezoid(mixed.log_prob(x).exp(), x[:, 0]) == pytest.approx(1, abs=1e-4)
    assert torch.equal(
        ev.Diluted(Bell(1, 1.0), Bell(1, 3.0), 1.0).log_prob(x), Bell(1, 1.0).log_prob(x)
    )
    for share in (0, -1, 1.1, math.nan):
        with pytest.raises(ValueError, match="share"):
            ev.Diluted(Bell(1, 1.0), Bell(1, 3.0), share)


def test_the_error_by_parts_is_that_of_a_mean_and_of_precision():
    mean = [ev.by_parts(lambda t: t.mean(), normal(400, seed=s)).error for s in range(100)]
    assert sum(mean) / 100 == pytest.approx(0.94 / 20, rel=0.1)  # 0.94: of 5 parts' sd
    precision = lambda a, b: precision_recall(a, b).precision  # noqa: E731
    found = [
        ev.by_parts(precision, normal(200, 4, seed=s), 1.3 * normal(200, 4, seed=-s - 1))
        for s in range(40)
    ]
    spread = torch.tensor([f.value for f in found]).std().item()
    error = sum(f.error for f in found) / 40
    assert 0.5 * spread < error < 1.6 * spread
    with pytest.raises(ValueError, match="parts"):
        ev.by_parts(precision, normal(9, 2), normal(9, 2), parts=1)


def test_worse_is_a_difference_in_standard_errors():
    a, b = Estimate(3.0, 0.3), Estimate(1.0, 0.4)
    assert ev.worse(a, b, higher=False) == pytest.approx(4)
    assert ev.worse(a, b, higher=True) == pytest.approx(-4)
    sure, other = Estimate(0.0, 0.0), Estimate(1.0, 0.0)
    assert ev.worse(sure, sure, higher=True) == 0
    assert ev.worse(sure, other, higher=True) == math.inf == -ev.worse(other, sure, True)


@pytest.fixture(scope="module")
def cards():
    digits = images.load("digits")
    as_picture = lambda x: x.float() / 8 - 1  # noqa: E731
    order = torch.randperm(1285, generator=torch.Generator().manual_seed(0))
    x, y = as_picture(digits.x_train)[order], digits.y_train[order]
    held = as_picture(torch.cat([digits.x_valid, digits.x_test]))
    train, other = x[:773], x[773:]
    fakes = {
        "unseen": other,
        "what it is compared with": held,
        "copies": ev.repeated(train, 512, 773),
        "few": ev.repeated(train, 512, 100),
        "one": ev.one_of_each(train, y[:773], 512),
        "blur": ev.blurred(other),
        "noisy": other + 0.3 * normal(*other.shape),
    }
    return {name: ev.scorecard(train, held, fake) for name, fake in fakes.items()}


def test_every_card_has_all_figures_with_errors(cards):
    for card in cards.values():
        assert [*card] == [*BETTER]
        assert all(math.isfinite(f.value) and f.error >= 0 for f in card.values())


@pytest.mark.parametrize(
    ("fooled", "by", "caught"),
    [
        ("IS", "one", "coverage"),
        ("precision", "one", "recall"),
        ("density", "one", "coverage"),
        ("recall", "noisy", "precision"),
        ("Frechet", "copies", "copying"),
        ("coverage", "copies", "copying"),
        ("C2ST", "copies", "copying"),
        ("KID", "few", "coverage"),
        ("copying", "blur", "Frechet"),
    ],
)
def test_every_figure_is_fooled_by_a_sampler_and_another_one_catches_it(
    cards, fooled, by, caught
):
    z = {
        name: ev.worse(cards[by][name], cards["unseen"][name], higher)
        for name, higher in BETTER.items()
    }
    assert z[fooled] < 3
    assert z[caught] > 4
