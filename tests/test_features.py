"""The networks whose features samples are compared by, and the metrics of recipes."""

import copy
import json
from dataclasses import replace

import pytest
import torch
from lightning.fabric import Fabric

from gdm_course import checkpoints
from gdm_course.data import images
from gdm_course.evaluation import features, samples
from gdm_course.recipes import Metric, Recipe
from gdm_course.scale import pictures
from gdm_course.scale.finish import settled
from gdm_course.scale.run import prepare
from gdm_course.scale.runner import fit

DIGITS = "evaluation/features-digits"


@pytest.fixture(scope="module")
def digits():
    return pictures.labelled("digits")


class Copies(torch.nn.Module):
    """A "model" that draws rows of its memory: x, with the label asked for if it is."""

    def __init__(self, x, y=None, wrong=0):
        super().__init__()
        self.x, self.y, self.wrong = x, y, wrong

    def sample(self, n, y=None):
        assert not self.training
        rows = torch.randint(len(self.x), (n,))
        if y is not None:
            rows = torch.stack(
                [(self.y == (label + self.wrong) % 10).nonzero()[0, 0] for label in y]
            )
        return self.x[rows]


def small(**more):
    torch.manual_seed(0)
    return features.PictureClassifier((1, 8, 8), **{"width": 4, "features": 8, **more})


# The data --------------------------------------------------------------------------------


def test_pictures_are_codes_from_minus_one_to_one(digits):
    data = images.load("digits")
    x, y = digits.train
    assert torch.equal((x + 1) * 8, data.x_train.float())
    assert torch.equal(y, data.y_train)
    assert torch.equal(digits.test[0], pictures.pictures("digits").test)
    near = pictures.labelled_against_training("digits")
    assert all(torch.equal(t, x) for t, _ in (near.train, near.valid, near.test))
    assert torch.equal(pictures.against_training("digits").test, x)


def test_shifts_move_a_batch_by_a_pixel_each_way():
    x = torch.full((2, 1, 5, 5), -1.0)
    x[:, 0, 2, 2] = 1.0
    places = set()
    for seed in range(60):
        torch.manual_seed(seed)
        moved, y = pictures.shifted((x, torch.arange(2)))
        assert moved.shape == x.shape
        assert moved.sum() == x.sum()
        assert y.tolist() == [0, 1]
        places.add(moved[0].argmax().item())
    assert places == {5 * i + j for i in (1, 2, 3) for j in (1, 2, 3)}
    x[:] = torch.linspace(-0.9, 0.9, 25).view(5, 5)
    assert any((pictures.shifted((x, x))[0] == -1).any() for _ in range(20))


# The network -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", [DIGITS, "evaluation/features-mnist"])
def test_the_card_says_how_often_it_is_right(name):
    told = checkpoints.card(name)["figures"][0]
    assert told["split"] == "test"
    assert told["value"] > 0.97
    assert told["error"] == pytest.approx(
        (told["value"] * (1 - told["value"]) / told["n"]) ** 0.5, rel=0.01
    )


def test_digits_are_told_apart_as_the_card_says(digits):
    net, (x, y) = features.extractor((1, 8, 8)), digits.test
    told = checkpoints.card(DIGITS)["figures"][0]
    right = sum(net.logits(row[None]).argmax() == label for row, label in zip(x, y))
    assert right.item() / len(y) == pytest.approx(told["value"])
    assert not net.training
    assert not any(p.requires_grad for p in net.parameters())


def test_features_have_a_mean_variance_of_one_on_training_data(digits):
    f = features.opinions(digits.train[0])
    assert f.shape == (1285, 64)
    assert f.double().var(0).mean().item() == pytest.approx(1, rel=2e-3)  # half precision


def test_codes_and_pictures_have_the_same_features(digits):
    codes = images.load("digits").x_test
    assert torch.allclose(features.opinions(codes), features.opinions(digits.test[0]))


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 7), (1, 28, 28), (2, 1, 1)])
def test_it_takes_pictures_of_any_size(shape):
    net = features.PictureClassifier(shape, 5, width=4, features=8)
    x, y = torch.zeros(3, *shape), torch.tensor([0, 4, 2])
    assert net.features(x).shape == (3, 8)
    assert net.logits(x).shape == (3, 5)
    net.loss(x, y).backward()
    assert all(p.grad is not None for p in net.parameters())


def test_its_loss_is_the_cross_entropy():
    net, x, y = small(), torch.randn(6, 1, 8, 8), torch.arange(6)
    p = net.logits(x).softmax(1)
    assert net.loss(x, y).item() == pytest.approx(-p[range(6), y].log().mean().item())


@pytest.mark.parametrize("bad", [0, -3])
def test_sizes_are_refused(bad):
    for wrong in ({"width": bad}, {"features": bad}, {"K": bad}, {"levels": bad}):
        with pytest.raises(ValueError, match="expected a whole number"):
            small(**wrong)
    with pytest.raises(ValueError, match="expected a whole number"):
        features.PictureClassifier((1, bad, 8))


def test_what_are_no_pictures_and_labels_is_refused():
    net, x, y = small(), torch.zeros(3, 1, 8, 8), torch.arange(3)
    with pytest.raises(ValueError, match="expected"):
        net.features(x[:, :, :7])
    with pytest.raises(ValueError, match="float"):
        net.logits(x.long())
    with pytest.raises(ValueError, match="codes 0 to 9"):
        net.loss(x, y + 9)
    with pytest.raises(ValueError, match="one for every row"):
        net.loss(x, y[:2])
    with pytest.raises(ValueError, match=r"no features for data of shape \(1, 9, 9\)"):
        features.opinions(torch.zeros(2, 1, 9, 9))


def test_the_end_of_a_run_settles_the_scale(digits):
    recipe = replace(by_name(DIGITS), args=((1, 8, 8),))
    run = prepare(recipe, Fabric(accelerator="cpu", devices=1))
    run.best = copy.deepcopy(run.model.state_dict())
    weights = settled(run)
    f = run.model.eval().body(digits.train[0])
    assert weights["scale"].item() == pytest.approx(f.var(0).mean().sqrt().item(), rel=1e-5)
    same = (k for k in weights if k != "scale")
    assert all(torch.equal(weights[k], run.best[k]) for k in same)


def by_name(name: str) -> Recipe:
    from gdm_course import recipes

    return recipes.get(name)


# The metrics -----------------------------------------------------------------------------


def test_frechet_orders_copies_blur_and_noise(digits):
    x, y = digits.train
    blur = torch.nn.functional.avg_pool2d(x, 3, 1, 1)
    torch.manual_seed(0)
    found = [
        features.frechet_estimate(Copies(made), (x, y))
        for made in (x, 0.5 * x + 0.5 * blur, blur, torch.rand_like(x) * 2 - 1)
    ]
    values = [f.value for f in found]
    assert values == sorted(values)
    assert values[0] < 0.3
    assert values[3] > 10
    assert all(f.error > 0 for f in found)
    f = features.opinions(x)
    blurred = features.opinions(Copies(blur).eval().sample(2000))
    assert found[2].value == pytest.approx(samples.frechet(blurred, f).item(), rel=0.1)


def test_labels_of_samples_are_counted(digits):
    (x, y), test = digits.train, digits.test
    assert features.label_estimate(Copies(x, y), test).value > 0.97
    assert features.label_estimate(Copies(x, y, wrong=1), test).value < 0.03


def test_inception_score_of_digits_is_nearly_ten(digits):
    x, y = digits.train
    assert 9 < features.inception_estimate(Copies(x), digits.test).value <= 10
    assert features.inception_estimate(Copies(x[y == 1]), digits.test).value < 1.5


def test_points_are_compared_without_a_network():
    torch.manual_seed(0)
    x = torch.randn(400, 2)
    near, far = (features.frechet_of_points(Copies(x + m), x).value for m in (0, 3))
    assert near < 0.1
    assert far == pytest.approx(18, rel=0.05)


# The card --------------------------------------------------------------------------------


def test_a_card_names_the_network_of_its_figures(tmp_path, monkeypatch):
    frechet = Metric("Frechet distance", "evaluation.features.frechet_estimate", "1")
    gan = Recipe(
        name="autoregressive/tiny", unit="autoregressive/nade",
        model="gan.gan.GAN", args=(64,), data="test", loop="gan.gan.train_gan",
        optimizer="training.for_players", steps=2, every=2, batch=8, metrics=(frechet,),
    )  # fmt: skip
    x = pictures.pictures("digits")
    flat = replace(x, train=x.train.flatten(1))
    monkeypatch.setattr(pictures, "flat", lambda: flat, raising=False)
    monkeypatch.setattr("gdm_course.scale.finish.measure", lambda settings: {})
    fabric = Fabric(accelerator="cpu", devices=1)
    where = {"runs": tmp_path / "runs", "out": tmp_path / "out", "say": lambda line: None}
    card = fit(replace(gan, data="scale.pictures.flat"), fabric, **where)
    sha = checkpoints.card(DIGITS)["file"]["sha256"]
    assert card["features"] == {DIGITS: sha}
    assert json.loads((tmp_path / "out" / f"{gan.name}.json").read_text()) == card


def test_figures_of_another_network_are_older_than_their_code(monkeypatch):
    told = copy.deepcopy(checkpoints.card(DIGITS))
    assert told["features"] == {}
    assert checkpoints.outdated(told) is None
    told["features"] = {DIGITS: told["file"]["sha256"]}
    assert checkpoints.outdated(told) is None
    told["features"] = {DIGITS: "0" * 64}
    assert f"the features of {DIGITS} changed" in checkpoints.outdated(told)


def test_only_metrics_that_ask_a_network_name_it(digits):
    ask = "evaluation.features.frechet_estimate"
    assert [*features.named([ask], digits.test)] == [DIGITS]
    assert features.named(["evaluation.features.accuracy_estimate"], digits.test) == {}
    assert features.named([ask], torch.zeros(3, 2)) == {}
