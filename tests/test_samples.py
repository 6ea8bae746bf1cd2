"""Figures of samples against closed forms, exact facts, plain loops and other libraries."""

import itertools
import math
from fractions import Fraction

import pytest
import scipy.stats
import torch

from gdm_course.evaluation import samples
from gdm_course.evaluation.neighbours import expected_coverage, radius

FOR_TWO = [
    samples.frechet,
    samples.kid,
    samples.precision_recall,
    samples.density_coverage,
    samples.classifier_two_sample,
]


def normal(*shape, seed: int = 0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double()


def test_frechet_of_equal_laws_is_its_bias():
    """White features: d (d + 5) / (2 n), not 0."""
    for d, n in [(4, 200), (16, 400)]:
        found = [
            samples.frechet(normal(n, d, seed=2 * i), normal(n, d, seed=2 * i + 1)).item()
            for i in range(30)
        ]
        error = torch.tensor(found).std().item() / 30**0.5
        expected = samples.frechet_bias(d, n)
        assert abs(sum(found) / 30 - expected) < 4 * error + 0.03 * expected
        assert error < 0.1 * expected
    assert samples.frechet_bias(16, 400) == pytest.approx(16 * 21 / 800)


def test_frechet_scales_with_the_square_and_sees_no_shift_of_both():
    a, b = normal(50, 6), normal(70, 6, seed=1) * 2
    once = samples.frechet(a, b)
    assert torch.isclose(samples.frechet(3 * a + 5, 3 * b + 5), 9 * once)
    assert samples.frechet(a.float(), b.float()).dtype == torch.float64


def test_the_error_of_frechet_is_its_spread():
    roots = 0.5 * normal(2, 3, 3, seed=9) + torch.eye(3)
    draws = [
        samples.frechet_with_error(
            normal(400, 3, seed=i) @ roots[0] + 0.5, normal(300, 3, seed=-i - 1) @ roots[1]
        )
        for i in range(200)
    ]
    spread = torch.tensor([d.value for d in draws]).std().item()
    assert sum(d.error for d in draws) / 200 == pytest.approx(spread, rel=0.2)
    assert samples.frechet_with_error(
        roots[0, :, :1], roots[0, :, :1] + 1
    ).value == pytest.approx(1)


def test_frechet_wants_more_rows_than_features():
    with pytest.raises(ValueError, match="more rows than features"):
        samples.frechet(normal(6, 6), normal(70, 6))


def test_inception_score_of_sure_and_of_unsure_classifiers():
    sure = 100 * torch.eye(5).repeat(8, 1)
    assert samples.inception_score(sure).value == pytest.approx(5)
    assert samples.inception_score(sure.roll(2, 0), 4).value == pytest.approx(5)
    assert samples.inception_score(sure[:1].repeat(9, 1)).value == pytest.approx(1)
    assert samples.inception_score(torch.zeros(9, 5)).value == pytest.approx(1)


def test_inception_score_of_two_kinds_of_rows():
    """p(y|x) is (3/4, 1/4) or (1/4, 3/4), so p(y) is even and the KL is the same."""
    logits = torch.tensor([[3.0, 1.0], [1.0, 3.0]]).log().repeat(10, 1)
    kl = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    found = samples.inception_score(logits)
    assert found.value == pytest.approx(math.exp(kl), rel=1e-6)
    assert found.error == pytest.approx(0, abs=1e-6)


def test_the_error_of_inception_score_is_its_spread():
    scores = [samples.inception_score(2 * normal(200, 5, seed=i)) for i in range(200)]
    spread = torch.tensor([s.value for s in scores]).std().item()
    error = sum(s.error for s in scores) / 200
    assert error == pytest.approx(spread, rel=0.2)


def test_inception_score_refuses_empty_parts():
    with pytest.raises(ValueError, match="splits=4"):
        samples.inception_score(torch.zeros(7, 3), 4)


def test_kid_against_plain_loops():
    a, b = normal(7, 3), normal(5, 3, seed=1) + 1

    def mean(pairs):
        return sum(((x @ y).item() / 3 + 1) ** 3 for x, y in pairs) / len(pairs)

    within = [mean([*itertools.permutations(t, 2)]) for t in (a, b)]
    expected = sum(within) - 2 * mean([*itertools.product(a, b)])
    found = samples.kid(a, b)
    assert found.value == pytest.approx(expected, rel=1e-12)
    assert math.isnan(found.error)


def test_kid_is_right_on_average_and_its_error_is_its_spread():
    same = [
        samples.kid(normal(200, 4, seed=i), normal(200, 4, seed=-i - 1), 20)
        for i in range(100)
    ]
    values = torch.tensor([k.value for k in same])
    assert values.mean().abs() < 4 * values.std() / 10
    assert 0.2 < (values < 0).double().mean() < 0.8
    assert sum(k.error for k in same) / 100 == pytest.approx(values.std().item(), rel=0.2)
    far = samples.kid(normal(200, 4), normal(200, 4, seed=1) + 1, 20)
    assert far.value > 5 * far.error


def test_kid_does_not_mind_samples_in_order():
    """Rows sorted by class must not make blocks of one class each."""
    centres = torch.arange(10).double().repeat_interleave(30)[:, None] / 3
    a, b = centres + normal(300, 2), centres.roll(150, 0) + normal(300, 2, seed=1)
    found = samples.kid(a, b, 30)
    assert abs(found.value) < 4 * found.error


def test_corners_of_a_cube_fool_moments_but_no_classifier():
    corners, cloud = normal(2000, 8).sign(), normal(2000, 8, seed=1)
    assert samples.frechet(corners, cloud) < 2 * samples.frechet_bias(8, 2000)
    small = samples.kid(corners, cloud, 200)
    assert abs(small.value) < 4 * small.error
    found = samples.classifier_two_sample(corners, cloud)
    assert found.share > 0.9
    assert found.p_value < 1e-9


def test_precision_recall_density_coverage_against_plain_loops():
    real, fake, k = normal(12, 2), 2 * normal(9, 2, seed=1), 3

    def far(x, y):
        return math.dist(x.tolist(), y.tolist())

    def reach(cloud):
        return [sorted(far(x, y) for y in cloud)[k] for x in cloud]

    r, f = reach(real), reach(fake)
    inside = [[far(x, c) < d for c, d in zip(real, r)] for x in fake]
    recalled = [any(far(x, c) < d for c, d in zip(fake, f)) for x in real]
    pr, dc = (
        s(real, fake, k) for s in (samples.precision_recall, samples.density_coverage)
    )
    assert pr.precision == pytest.approx(sum(map(any, inside)) / 9)
    assert pr.recall == pytest.approx(sum(recalled) / 12)
    assert dc.density == pytest.approx(sum(map(sum, inside)) / (9 * k))
    assert dc.coverage == pytest.approx(sum(map(any, zip(*inside))) / 12)
    assert 0 < pr.precision < 1
    assert 0 < dc.coverage < 1


def test_expected_coverage_by_counting_all_orders():
    """Seen from one real point: which of the others are real, all orders equally likely."""
    for N, M, k in [(4, 3, 1), (4, 3, 2), (5, 2, 3)]:
        orders = [*itertools.combinations(range(N - 1 + M), M)]  # the ranks of the samples
        covered = sum(ranks[0] < k for ranks in orders)
        assert expected_coverage(N, M, k) == pytest.approx(Fraction(covered, len(orders)))


@pytest.mark.parametrize("d", [2, 64])
def test_coverage_of_one_law_is_the_expected_one(d):
    found = [
        samples.density_coverage(normal(300, d, seed=i), normal(300, d, seed=-i - 1))
        for i in range(8)
    ]
    coverage = torch.tensor([f.coverage for f in found])
    density = sum(f.density for f in found) / 8
    assert abs(coverage.mean() - expected_coverage(300, 300)) < 0.012
    assert density == pytest.approx(1, abs=0.12)


def test_equal_features_are_in_no_ball():
    same = torch.ones(9, 3)
    assert samples.precision_recall(same, same) == (0, 0)
    assert samples.density_coverage(same, same) == (0, 0)


def test_a_real_outlier_lends_its_ball_to_bad_samples():
    real, wide = normal(500, 16), 3 * normal(500, 16, seed=1)
    assert samples.precision_recall(real, wide).precision < 0.01
    real[:5] = 10 * normal(5, 16, seed=2)
    assert samples.precision_recall(real, wide).precision > 0.2
    assert samples.density_coverage(real, wide).coverage < 0.1


def test_a_point_is_no_neighbour_of_its_own_but_its_double_is():
    x = torch.tensor([[0.0], [1.0], [3.0]])
    assert radius(x, 1).tolist() == [1, 1, 2]
    assert radius(torch.cat([x, x]), 1).tolist() == [0] * 6


def test_classifiers_find_nothing_where_nothing_is():
    found = [
        samples.classifier_two_sample(
            normal(200, 5, seed=i), normal(260, 5, seed=-i - 1), 60, i
        )
        for i in range(30)
    ]
    z = torch.tensor([f.z for f in found])
    assert abs(z.mean()) < 4 / 30**0.5
    assert 0.6 < z.std() < 1.5
    assert sum(f.p_value < 0.05 for f in found) <= 6


def test_a_classifier_repeats_itself_and_leaves_the_global_chance_alone():
    torch.manual_seed(3)
    a, b = normal(50, 5), normal(60, 5, seed=1)
    first = samples.classifier_two_sample(a, b, 5)
    then = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(torch.rand(1), then)
    with torch.no_grad():  # as metrics are taken
        assert samples.classifier_two_sample(a, b, 5) == first


@pytest.mark.parametrize("copies", [0, 20])
def test_data_copying_is_the_test_of_mann_and_whitney(copies):
    train, held, fake = normal(60, 3), normal(40, 3, seed=1), normal(50, 3, seed=2)
    fake[:copies], held[: copies // 2] = train[:copies], train[: copies // 2]  # ties at 0
    found = samples.data_copying(train, held, fake)
    d_held, d_fake = (torch.cdist(t, train).amin(1) for t in (held, fake))
    if copies:
        d_held[:10], d_fake[:copies] = 0, 0
    told = scipy.stats.mannwhitneyu(
        d_held, d_fake, alternative="greater", method="asymptotic", use_continuity=False
    )
    assert found.share == pytest.approx(told.statistic / (40 * 50))
    assert found.p_value == pytest.approx(told.pvalue, rel=1e-9)


def test_data_copying_of_copies_of_honest_and_of_blurred_samples():
    train, held, fake = normal(300, 4), normal(200, 4, seed=1), normal(200, 4, seed=2)
    assert samples.data_copying(train, held, train[:200]).share == 1
    assert abs(samples.data_copying(train, held, fake).z) < 3
    assert samples.data_copying(train, held, 3 * fake).z < -3


@pytest.mark.parametrize("figure", FOR_TWO, ids=lambda f: f.__name__)
def test_two_tables_alike_or_one_sentence(figure):
    a = normal(40, 3)
    with pytest.raises(ValueError, match="expected"):
        figure(a, a[:, :2])
    with pytest.raises(ValueError, match="expected"):
        figure(a[:1], a)
    with pytest.raises(ValueError, match="expected"):
        figure(a.long(), a.long())
    with pytest.raises(TypeError, match="expected a tensor"):
        figure(a.tolist(), a)
    assert figure(a.float(), normal(40, 3, seed=1)) is not None  # dtypes may differ


@pytest.mark.parametrize("bad", [0, -3, 1.5])
def test_sizes_are_whole_numbers_of_one_or_more(bad):
    a = normal(40, 3)
    calls = [
        lambda: samples.precision_recall(a, a, bad),
        lambda: samples.density_coverage(a, a, bad),
        lambda: samples.kid(a, a, bad),
        lambda: samples.inception_score(a, bad),
        lambda: samples.classifier_two_sample(a, a, bad),
        lambda: samples.frechet_bias(bad, 3),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="expected a whole number"):
            call()


@pytest.mark.filterwarnings("ignore")  # theirs, on memory and on a single split
def test_against_torchmetrics():
    fid = pytest.importorskip("torchmetrics.image.fid")
    from torchmetrics.image.inception import InceptionScore
    from torchmetrics.image.kid import KernelInceptionDistance

    a, b = normal(600, 32).float(), (1.2 * normal(600, 32, seed=1) + 0.1).float()
    same = torch.nn.Identity()
    same.num_features = 32
    theirs = fid.FrechetInceptionDistance(feature=same)
    kid = KernelInceptionDistance(feature=same, subsets=1, subset_size=600)
    score = InceptionScore(feature=same, splits=1)
    for metric in (theirs, kid):
        metric.update(a, real=True)
        metric.update(b, real=False)
    score.update(a)
    assert samples.frechet(a, b).item() == pytest.approx(
        theirs.compute().item(), rel=2e-6, abs=2e-6
    )
    assert samples.kid(a, b).value == pytest.approx(
        kid.compute()[0].item(), rel=2e-6, abs=2e-6
    )
    assert samples.inception_score(a).value == pytest.approx(
        score.compute()[0].item(), rel=2e-6
    )


def test_against_prdc():
    prdc = pytest.importorskip("prdc")
    a, b = normal(300, 8), 1.1 * normal(250, 8, seed=1) + 0.2
    theirs = prdc.compute_prdc(a.numpy(), b.numpy(), nearest_k=5)
    assert samples.precision_recall(a, b) == (theirs["precision"], theirs["recall"])
    ours = samples.density_coverage(a, b)
    assert ours == pytest.approx((theirs["density"], theirs["coverage"]))
