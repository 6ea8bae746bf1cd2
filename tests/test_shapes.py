"""The factor pictures: every combination another picture, each factor does its own work."""

import pytest
import torch

from gdm_course.data import shapes

MIDDLE = [0, 3, 2, 0, 3, 3]


def one(**changes):
    factors = dict(zip(shapes.FACTORS, MIDDLE)) | changes
    return shapes.draw(torch.tensor([[*factors.values()]]))[0]


def centre(picture):
    """Centre of mass (x, y) in pixels."""
    ink = picture.sum(0)
    at = torch.arange(32.0)
    return (ink.sum(0) @ at / ink.sum()).item(), (ink.sum(1) @ at / ink.sum()).item()


def test_every_combination_is_another_picture():
    x = shapes.draw(shapes.every(), size=16).flatten(1)
    assert x.min() >= 0
    assert x.max() <= 1
    assert len(torch.unique((x * 50).round().to(torch.uint8), dim=0)) == len(x) == 24576


@pytest.mark.parametrize("shape", range(3))
def test_position_moves_and_nothing_else(shape):
    (x0, y0), (x1, y1) = centre(one(shape=shape)), centre(one(shape=shape, x=6))
    assert x1 - x0 == pytest.approx(3 * 0.125 * 16, abs=0.1)
    assert y1 == pytest.approx(y0, abs=0.1)
    assert centre(one(shape=shape, y=0))[1] < y0  # rows are counted from the top


def test_area_follows_scale_and_stays_under_rotation():
    side = 2 * 0.8 * 0.40 * 16  # of the square at scale 2, in pixels
    assert one().sum() / 3 == pytest.approx(side**2, rel=0.03)
    assert one(rotation=4).sum() == pytest.approx(one().sum().item(), rel=0.03)
    ratio = one(scale=3).sum() / one(scale=0).sum()
    assert ratio == pytest.approx((0.47 / 0.26) ** 2, rel=0.05)


def test_rotation_of_the_square_is_a_turn():
    turned = one(rotation=4)[0]  # by 45 degrees: symmetric about the diagonal, wider
    centred = turned[: 2 * 15, : 2 * 15]
    torch.testing.assert_close(centred, centred.T, atol=1e-4, rtol=0)
    assert (turned.amax(0) > 0.5).sum() > (one()[0].amax(0) > 0.5).sum()


def test_colour_is_the_palette():
    for i, rgb in enumerate(shapes.COLOURS):
        torch.testing.assert_close(one(colour=i).amax((1, 2)), rgb)


def test_nothing_is_cut_off():
    x = shapes.draw(shapes.every()[::7])
    border = torch.cat([x[..., 0, :], x[..., -1, :], x[..., :, 0], x[..., :, -1]], dim=-1)
    assert border.max() < 0.6


def test_seed_and_uniform_factors():
    x, f = shapes.draw_some(2000, size=8, seed=1)
    again = shapes.draw_some(2000, size=8, seed=1)
    assert torch.equal(x, again[0])
    assert not torch.equal(f, shapes.draw_some(2000, size=8, seed=2)[1])
    for column, n in zip(f.T, shapes.FACTORS.values()):
        counts = column.bincount(minlength=n).double()
        chi2 = ((counts - 2000 / n) ** 2 / (2000 / n)).sum()
        assert chi2 < (n - 1) + 6 * (2 * (n - 1)) ** 0.5


@pytest.mark.parametrize(
    "factors", [torch.zeros(6), torch.zeros(2, 5), torch.full((1, 6), 7)]
)
def test_bad_factors_are_named(factors):
    with pytest.raises(ValueError, match="factors"):
        shapes.draw(factors.long())
