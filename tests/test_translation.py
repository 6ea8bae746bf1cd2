"""The figures of a translation between digits: counted by hand on a judge made by hand."""

import math

import pytest
import torch
from torch import nn

from gdm_course import recipes
from gdm_course.data import images
from gdm_course.data.images import Images
from gdm_course.gan.cyclegan import CycleGAN
from gdm_course.scale import translation
from gdm_course.training import generator


class Judge(nn.Module):
    """Says 1 where a picture is mostly white, else 0."""

    def logits(self, x):
        white = x.mean((1, 2, 3))
        return torch.stack([-white, white], 1)


class Inverts(nn.Module):
    def forward(self, x):
        return -2 * x  # out of range: the judge is shown -1 to 1


def digits(n=6):
    white = torch.tensor([1.0, -1.0] * (n // 2))
    return white[:, None, None, None].expand(n, 1, 16, 16), (white > 0).long()


def test_labels_are_counted_on_translations_and_on_copies(monkeypatch):
    monkeypatch.setattr(translation, "trained", lambda name: Judge())
    gan, (x, y) = CycleGAN((1, 16, 16), hidden=4, depth=1), digits()
    gan.generator[0] = Inverts()
    assert translation.kept(gan, (x, y)).value == 0
    assert translation.kept(gan, (x, 1 - y)).value == 1
    assert translation.kept_by_copies(gan, (x, y)).value == 1
    y[0] = 1 - y[0]
    assert translation.kept_by_copies(gan, (x, y)).value == pytest.approx(5 / 6)


def test_each_share_is_what_its_own_judge_says(monkeypatch):
    """The second judge here says always 0: it reads the black half, whatever G does."""
    blind, asked = Judge(), []
    blind.logits = lambda x: torch.tensor([[1.0, 0.0]]).expand(len(x), 2)
    judges = {translation.JUDGE: Judge(), translation.SECOND: blind}
    monkeypatch.setattr(translation, "trained", lambda n: asked.append(n) or judges[n])
    gan, x = CycleGAN((1, 16, 16), hidden=4, depth=1), digits()
    gan.generator[0] = Inverts()
    shares = [translation.kept_by_second(gan, x), translation.copies_by_second(gan, x)]
    shares += [translation.kept(gan, x), translation.kept_by_copies(gan, x)]
    assert [share.value for share in shares] == [0.5, 0.5, 0, 1]
    assert asked == [translation.SECOND] * 2 + [translation.JUDGE] * 2


def test_the_round_trip_and_its_noise():
    """Copies: nothing without noise, sigma sqrt(2 / pi) with it."""
    gan, x = CycleGAN((1, 16, 16), hidden=4, depth=1), digits(60)
    assert translation.round_trip(gan, x).value == 0
    disturbed = translation.disturbed_trip(gan, x).value
    assert disturbed == pytest.approx(0.1 * math.sqrt(2 / math.pi), rel=0.03)
    assert translation.disturbed_trip(gan, x).value == disturbed


def test_chance_pairs_the_digits_and_labels_only_measure(monkeypatch):
    g, made = generator(0), {}
    for name, side in (("mnist", 28), ("usps", 16)):
        x = torch.randint(256, (40, 1, side, side), generator=g).byte()
        y = torch.arange(40) % 10
        made[name] = Images(name, x, y, x[:5], y[:5], x[5:9], y[5:9], (), name)
    monkeypatch.setattr(images, "load", made.get)
    splits = translation.unpaired("mnist", "usps", 30)
    a, b = splits.train
    assert a.shape == b.shape == (30, 1, 16, 16)
    assert -1 <= min(a.min(), b.min()) <= max(a.max(), b.max()) <= 1
    held = made["usps"].x_train.float() / 127.5 - 1
    beside = [(held - y).abs().amax((1, 2, 3)).argmin().item() for y in b]
    assert beside != [*range(30)]
    for split, y in ((splits.valid, range(5)), (splits.test, range(5, 9))):
        assert split[1].tolist() == [*y]
    torch.testing.assert_close(splits.valid[0], a[:5])


def test_area_is_averaged():
    """A white middle of 20 x 20 is white; a white frame of 4 is cut away."""
    x = torch.zeros(2, 1, 28, 28, dtype=torch.uint8)
    x[0, :, 4:24, 4:24] = 255
    x[1, :, :4] = 255
    small = translation.middle(x)
    assert torch.equal(small[0], torch.ones(1, 16, 16))
    assert torch.equal(small[1], -torch.ones(1, 16, 16))


def test_no_label_chooses_the_weights():
    """Evaluated once, at the end: the first metric would choose by labels."""
    recipe = recipes.get("gan/cyclegan-mnist-usps")
    assert recipe.every == recipe.steps
