"""Copies, wrong data, watermarks and cards, against oracles of their own."""

import dataclasses
import math

import pytest
import scipy.stats
import sklearn.metrics
import torch

from gdm_course import checkpoints
from gdm_course.autoregressive.gpt import GPT
from gdm_course.challenges import cards, memorise, watermark, wrong_data
from gdm_course.data import registry
from gdm_course.diffusion.ddim import ddim
from gdm_course.diffusion.ddpm import DDPM
from gdm_course.diffusion.mixture import MixtureDenoiser
from gdm_course.diffusion.schedule import cosine_schedule
from gdm_course.diffusion.targets import Clean


def normal(*shape, seed: int = 0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# Memorisation -----------------------------------------------------------------------------


def test_the_ratio_is_that_of_a_plain_loop_and_counts_equal_examples_once():
    x, train = normal(7, 2, 3), normal(9, 2, 3, seed=1)
    by_hand = []
    for row in x:
        d = sorted((row - other).square().sum().sqrt().item() for other in train)
        by_hand.append(d[0] / d[1])
    found = memorise.distance_ratio(x, train)
    assert torch.allclose(found, torch.tensor(by_hand), atol=1e-5)
    again = memorise.distance_ratio(x, torch.cat([train, train[:4], train[2:3]]))
    assert torch.allclose(again, found)
    assert torch.equal(memorise.distance_ratio(train, train), torch.zeros(9))


def test_points_between_two_examples_have_the_ratio_of_their_position():
    train, u = torch.tensor([[0.0, 0.0], [3.0, 4.0]]), torch.tensor([0.1, 0.25, 0.5])
    found = memorise.distance_ratio(u[:, None] * train[1], train)
    assert torch.allclose(found, u / (1 - u))
    assert memorise.copied_share(u[:, None] * train[1], train).value == pytest.approx(2 / 3)


def test_the_exact_denoiser_of_a_point_set_draws_the_points_and_each_as_often():
    torch.manual_seed(0)
    points = normal(6, 8)
    exact = DDPM(
        MixtureDenoiser(points), (8,), schedule=cosine_schedule(100), target=Clean()
    )
    x = ddim(exact, 600, 50)
    assert memorise.distance_ratio(x, points).max() < 1e-3
    drawn = torch.cdist(x, points).argmin(1).bincount(minlength=6)
    # a walk in 50 steps is near, not at, equal shares: 4 sigma of a fair draw, and a tenth
    assert (drawn - 100).abs().max() < 4 * math.sqrt(600 / 6 * 5 / 6) + 10
    assert sum(memorise.copies_of(x, points, i).value for i in range(6)) == pytest.approx(1)


def test_weighted_points_are_drawn_by_their_weights():
    torch.manual_seed(0)
    points, w = normal(3, 8), torch.tensor([0.6, 0.3, 0.1])
    exact = DDPM(
        MixtureDenoiser(points, weights=w),
        (8,),
        schedule=cosine_schedule(200),
        target=Clean(),
    )
    x = ddim(exact, 2000, 200)
    for i, share in enumerate(w):
        assert memorise.copies_of(x, points, i).value == pytest.approx(
            share.item(), abs=0.06
        )


def test_candidates_run_from_all_to_one():
    points = normal(10, 4)
    data = MixtureDenoiser(points)
    x = points + 0 * points
    assert torch.allclose(memorise.candidates(data, x, -30.0), torch.full((10,), 10.0))
    assert torch.allclose(memorise.candidates(data, x, 14.0), torch.ones(10))
    two = MixtureDenoiser(torch.tensor([[-1.0], [1.0]]))  # by hand: 0 may be either
    assert memorise.candidates(two, torch.zeros(1, 1), 2.0).item() == pytest.approx(2)


@pytest.mark.parametrize("train", [torch.zeros(3, 2), torch.zeros(1, 2), normal(4, 3)])
def test_a_ratio_needs_two_examples_of_its_own_size(train):
    with pytest.raises(ValueError, match="expected"):
        memorise.distance_ratio(normal(5, 2), train)


# Wrong data -------------------------------------------------------------------------------


@pytest.mark.parametrize("ties", [False, True])
def test_auroc_is_that_of_scikit_learn_and_the_mann_whitney_statistic(ties):
    a, b = normal(60), normal(45, seed=1) + 0.7
    a, b = (a.round(), b.round()) if ties else (a, b)
    y = [0] * 60 + [1] * 45
    area = sklearn.metrics.roc_auc_score(y, torch.cat([a, b]).numpy())
    u = scipy.stats.mannwhitneyu(b.numpy(), a.numpy()).statistic
    assert wrong_data.auroc(a, b).value == pytest.approx(area)
    assert wrong_data.auroc(a, b).value == pytest.approx(u / (60 * 45))
    assert wrong_data.auroc(b, a).value == pytest.approx(1 - area)
    assert wrong_data.auroc(b, a).error == pytest.approx(wrong_data.auroc(a, b).error)


def test_the_error_of_auroc_is_its_spread_and_its_mean_the_closed_form():
    pairs = [(normal(80, seed=i), normal(50, seed=-i - 1) + 1) for i in range(400)]
    found = [wrong_data.auroc(a, b) for a, b in pairs]
    values = torch.tensor([f.value for f in found])
    truth = torch.special.ndtr(torch.tensor(1 / math.sqrt(2))).item()
    assert values.mean().item() == pytest.approx(truth, abs=0.01)
    assert sum(f.error for f in found) / 400 == pytest.approx(values.std().item(), rel=0.15)


def test_counted_pixels_sum_to_one_over_all_pictures():
    import itertools

    x = torch.randint(2, (30, 1, 3, 3), generator=torch.Generator().manual_seed(0))
    table = wrong_data.count_pixels(x, 2)
    every = torch.tensor([*itertools.product([0, 1], repeat=9)]).view(-1, 1, 3, 3)
    assert wrong_data.counted_log_prob(table, every).exp().sum().item() == pytest.approx(1)


def test_counting_is_the_maximum_of_the_likelihood():
    x = torch.randint(3, (20, 1, 4, 4), generator=torch.Generator().manual_seed(1))
    best = wrong_data.count_pixels(x, 3, extra=1e-9)
    top = wrong_data.counted_log_prob(best, x).sum()
    for seed in range(5):
        other = (best + 0.1 * normal(9, 3, seed=seed).double()).log_softmax(1)
        assert wrong_data.counted_log_prob(other, x).sum() < top


def test_typicality_of_a_gaussian_is_its_closed_form():
    """-log p has mean D/2 log(2 pi e s^2) and standard deviation sqrt(D / 2)."""
    D, s = 50, 2.0
    law = torch.distributions.Normal(0.0, s)
    nll = lambda x: -law.log_prob(x).sum(1)  # noqa: E731
    usual = nll(s * normal(20_000, D))
    assert usual.mean().item() == pytest.approx(
        D / 2 * math.log(2 * math.pi * math.e * s**2), abs=0.2
    )
    assert usual.std().item() == pytest.approx(math.sqrt(D / 2), rel=0.03)
    x = torch.zeros(1, D)  # the mode: likelier than any sample, and D/2 nats off
    found = wrong_data.typicality(nll(x), usual).item()
    assert found == pytest.approx((D / 2) / math.sqrt(D / 2), rel=0.04)


def test_zlib_length_is_in_nats_and_grows_with_what_there_is_to_tell():
    blank = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    noise = torch.randint(256, (1, 1, 28, 28), generator=torch.Generator().manual_seed(0))
    lengths = wrong_data.zlib_nats(torch.cat([blank, noise]))
    assert lengths[1].item() / math.log(2) / 8 >= 784  # noise cannot be packed
    assert lengths[0].item() / math.log(2) / 8 < 30


# Watermarks -------------------------------------------------------------------------------


@pytest.mark.parametrize(("hits", "n", "share"), [(0, 5, 0.3), (3, 5, 0.3), (97, 127, 0.5)])
def test_the_tail_is_that_of_scipy(hits, n, share):
    assert watermark.binomial_tail(hits, n, share) == pytest.approx(
        scipy.stats.binom.sf(hits - 1, n, share)
    )
    expected = (hits - scipy.stats.binom.mean(n, share)) / scipy.stats.binom.std(n, share)
    assert watermark.z_score(hits, n, share) == pytest.approx(expected)


def test_over_keys_the_count_of_different_pairs_is_binomial_and_that_of_all_is_not():
    x = torch.tensor([0, 1] * 30 + [2, 3, 4, 5, 6, 7, 3, 5, 7, 2, 4, 6, 0])
    lists = [watermark.green_list(key, 8, 0.25) for key in range(2000)]
    once = torch.tensor([watermark.count_green(x, green)[0] for green in lists])
    n = watermark.count_green(x, lists[0])[1]
    assert n == len({*zip(x[:-1].tolist(), x[1:].tolist())})
    wanted = scipy.stats.binom.pmf(range(n + 1), n, 0.25) * 2000
    seen = once.bincount(minlength=n + 1).double().numpy()
    rare = wanted < 8
    seen = [*seen[~rare], seen[rare].sum()]
    wanted = [*wanted[~rare], wanted[rare].sum()]
    assert scipy.stats.chisquare(seen, wanted).pvalue > 1e-4
    every = [watermark.count_green(x, green, once=False) for green in lists]
    spread = torch.tensor([watermark.z_score(*c, 0.25) for c in every]).std()
    assert spread > 2  # the same pair 30 times is one piece of evidence


def test_no_mark_changes_nothing_and_a_strong_one_leaves_only_green():
    torch.manual_seed(0)
    gpt = GPT(7, 30, layers=1, heads=1, width=8)
    green = watermark.green_list(3, 7)
    green[:, 0] = True  # every token has a green one after it
    torch.manual_seed(1)
    plain = gpt.sample(5)
    torch.manual_seed(1)
    assert torch.equal(watermark.marked_sample(gpt, 5, green, 0.0), plain)
    strong = watermark.marked_sample(gpt, 5, green, 50.0)
    for row in strong:
        hits, n = watermark.count_green(row, green, once=False)
        assert hits == n == 29


def test_a_marked_step_has_the_tilted_law():
    """After token a, p(b) is proportional to p_gpt(b | a) exp(delta green[a, b])."""
    torch.manual_seed(0)
    gpt = GPT(4, 2, layers=1, heads=1, width=8)
    torch.nn.init.normal_(gpt.token.weight)
    green, delta = watermark.green_list(5, 4), 1.5
    x = watermark.marked_sample(gpt, 40_000, green, delta)
    with torch.no_grad():
        for a in range(4):
            logits = gpt(torch.tensor([[a, 0]]))[0, 1] + delta * green[a]
            wanted = logits.double().softmax(0)
            rows = x[x[:, 0] == a, 1]
            share = rows.bincount(minlength=4) / len(rows)
            error = (wanted * (1 - wanted) / len(rows)).sqrt()
            assert ((share - wanted).abs() < 5 * error + 1e-9).all()


def test_signs_of_noise_agree_by_chance_and_of_marked_noise_always():
    signs = watermark.sign_key(3, 200)
    z = normal(500, 200)
    hits = watermark.sign_hits(z, signs).double()
    assert hits.mean().item() == pytest.approx(100, abs=2)
    assert hits.std().item() == pytest.approx(math.sqrt(50), rel=0.12)
    assert (watermark.sign_hits(z.abs() * signs, signs) == 200).all()
    assert torch.equal(watermark.sign_key(3, 200), signs)
    assert not torch.equal(watermark.sign_key(4, 200), signs)


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, 2.0])
def test_a_share_lies_between_0_and_1(share):
    for call in (
        lambda: watermark.green_list(0, 4, share),
        lambda: watermark.z_score(1, 2, share),
        lambda: watermark.binomial_tail(1, 2, share),
    ):
        with pytest.raises(ValueError, match="between 0 and 1"):
            call()


def test_more_hits_than_pairs_are_refused():
    with pytest.raises(ValueError, match="at most n"):
        watermark.binomial_tail(6, 5, 0.5)


# Cards ------------------------------------------------------------------------------------


def test_an_answer_is_found_wherever_it_stands_and_only_there():
    card = {"a": {"b": 1, "empty": ""}, "list": [{"error": 1}, {"error": 0.5}], "no": None}
    there = ["a", "a.b", "list", "list.error"]
    absent = ["c", "a.c", "a.empty", "no", "a.b.c", "list.value"]
    assert all(cards.answered(card, path) for path in there)
    assert not any(cards.answered(card, path) for path in absent)
    assert not cards.answered({"list": [{"error": 1}, {}]}, "list.error")
    questions = {"first?": ("c", "a.b"), "second?": ("c",), "third?": ("no", "a.empty")}
    assert cards.unanswered(card, questions) == ["second?", "third?"]


def test_a_real_card_tells_what_it_was_made_for_and_not_what_people_ask():
    told = checkpoints.card("gan/digits")
    missing = cards.unanswered(told, cards.OF_A_MODEL)
    assert "which version of the weights is it?" not in missing
    assert "how sure is that figure?" not in missing
    for key, question in (
        ("intended_use", "what is it for?"),
        ("licence", "under which licence?"),
    ):
        assert (question in missing) == (key not in told)


def test_a_data_set_of_ours_has_terms_and_checksums_but_nobody_asked():
    told = dataclasses.asdict(registry.dataset("mnist"))
    missing = cards.unanswered(told, cards.OF_DATA)
    assert "were they asked?" in missing
    assert not {"under which terms?", "is it the file that was meant?"} & {*missing}
    told["forms"][0][0]["sha256"] = None  # one file without is enough
    assert "is it the file that was meant?" in cards.unanswered(told, cards.OF_DATA)
