"""Translation without pairs: what the losses say, what they cannot say, and who learns."""

import math
from itertools import product

import pytest
import torch
from torch import nn

from gdm_course.data import toy
from gdm_course.gan import cyclegan as c
from gdm_course.gan.gan import train_gan
from gdm_course.protocols import abilities
from gdm_course.training import forever, generator


def small(shape=(2,), seed=0, **more):
    torch.manual_seed(seed)
    return c.CycleGAN(shape, **{"hidden": 8, **more})


def points(n, *shape, seed=1):
    return torch.randn(n, *(shape or (2,)), generator=generator(seed))


def linear(M, bias=0.0):
    """A layer x M + bias."""
    M = torch.as_tensor(M, dtype=torch.float32)
    layer = nn.Linear(*M.shape)
    layer.weight.data, layer.bias.data = M.T.clone(), torch.full((M.shape[1],), bias)
    return layer


def by_hand(G, F, in_b, in_a, **more):
    """A CycleGAN of points whose four parts are matrices."""
    gan = small(**more)
    gan.generator = nn.ModuleList([linear(G), linear(F)])
    gan.discriminator = nn.ModuleList([linear(in_b), linear(in_a)])
    return gan


def turn(degrees, mirrored=False):
    a = math.radians(degrees)
    M = torch.tensor([[math.cos(a), math.sin(a)], [-math.sin(a), math.cos(a)]])
    return torch.diag(torch.tensor([1.0, -1.0])) @ M if mirrored else M


# What the losses say ----------------------------------------------------------------------


def test_the_losses_as_the_papers_write_them():
    """In probabilities and with loops, for matrices."""
    G, F = [[1.0, 0.5], [0.0, 2.0]], [[0.7, 0.0], [0.3, 0.4]]
    u, v = [[0.3], [-0.6]], [[1.1], [0.2]]
    more = {"cycle": 3.0, "identity": 0.7, "r1": 0.2, "r2": 0.5}
    gan, x, y = by_hand(G, F, u, v, **more), points(5), points(5, seed=2)
    G, F, u, v = map(torch.tensor, (G, F, u, v))
    log_first = lambda a, b: torch.sigmoid(a - b).log()  # noqa: E731
    critics = adversarial = trip = same = 0.0
    for real, fake, w in ((y, x @ G, u), (x, y @ F, v)):
        for r, f in zip(real, fake):
            critics -= log_first(r @ w, f @ w).item() / 5
            adversarial -= log_first(f @ w, r @ w).item() / 5
        critics += (0.2 + 0.5) / 2 * w.square().sum().item()
    for start, there, back in ((x, G, F), (y, F, G)):
        for row in start:
            trip += (row @ there @ back - row).abs().sum().item() / 10
            same += (row @ back - row).abs().sum().item() / 10  # F(x) and G(y)
    assert gan.discriminator_loss(x, y).item() == pytest.approx(critics, rel=1e-5)
    expected = adversarial + 3 * trip + 0.7 * same
    assert gan.generator_loss(x, y).item() == pytest.approx(expected, rel=1e-5)


def test_surplus_rows_have_no_partner_but_go_there_and_back():
    gan, x, y = small(cycle=0.0, copies=False), points(7), points(4, seed=2)
    for loss in (gan.discriminator_loss, gan.generator_loss):
        gan.r1 = gan.r2 = 0.0
        torch.testing.assert_close(loss(x, y), loss(x[:4], y))
    gan.cycle = 1.0
    assert gan.generator_loss(x, y) != gan.generator_loss(x[:4], y)


def test_noise_is_added_on_the_way_back():
    """Copies: the round trip is off by |noise| alone, sigma sqrt(2 / pi) on average."""
    gan, x = small(noise=0.3, cycle=1.0), points(20_000)
    torch.manual_seed(3)
    trip = gan.generator_loss(x, x).item() - small(cycle=0.0).generator_loss(x, x).item()
    assert trip == pytest.approx(2 * 0.3 * math.sqrt(2 / math.pi), rel=0.03)


def test_each_loss_teaches_one_side():
    gan, x, y = small(identity=1.0, copies=False), points(6), points(6, seed=2)
    gan.discriminator_loss(x, y).backward()
    assert all(p.grad is None for p in gan.generator.parameters())
    slopes = [p.grad for p in gan.discriminator.parameters()]
    assert all(s is not None for s in slopes)
    assert sum(s.abs().max() > 0 for s in slopes) >= len(slopes) - 2  # a bias drops out
    gan.zero_grad(set_to_none=True)
    gan.generator_loss(x, y).backward()
    assert all(p.grad is None for p in gan.discriminator.parameters())
    assert all(p.grad.abs().max() > 0 for p in gan.generator.parameters())
    assert all(p.requires_grad for p in gan.parameters())


def test_it_satisfies_no_protocol():
    assert not any(abilities(small()).values())


# What they cannot say ---------------------------------------------------------------------

SYMMETRIES = [turn(45 * k, mirror) for k, mirror in product(range(8), (False, True))]


@pytest.mark.parametrize("S", SYMMETRIES)
def test_sixteen_maps_of_eight_gaussians_have_the_same_losses(S):
    """Each keeps the law and returns: only the truth can tell them apart."""
    law, x, y = toy.get("eight_gaussians"), points(400, seed=4), points(400, seed=5)
    torch.testing.assert_close(law.log_prob(x @ S), law.log_prob(x), rtol=1e-3, atol=1e-3)
    gan = by_hand(S, S.T, [[0.0], [0.0]], [[0.0], [0.0]], r1=1.0, r2=1.0)
    assert gan.generator_loss(x, y).item() == pytest.approx(2 * math.log(2), abs=2e-5)
    assert gan.discriminator_loss(x, y).item() == pytest.approx(2 * math.log(2), abs=2e-5)
    assert torch.equal(S, SYMMETRIES[0]) or (x @ S - x).norm(dim=1).mean() > 0.4


def test_copies_start_as_the_identity_and_their_round_trip_costs_nothing():
    for shape in ((2,), (3, 8, 8)):
        gan, x = small(shape), points(4, *shape)
        assert torch.equal(gan.to_b(x), x)
        assert torch.equal(gan.to_a(x), x)
        gan.identity, calm = 5.0, gan.generator_loss(x, x).item()
        gan.cycle = gan.identity = 0.0
        assert gan.generator_loss(x, x).item() == calm
        assert not torch.equal(small(shape, copies=False).to_b(x), x)


def test_a_shift_is_found():
    """B is A moved by (2, 0): the mean arrives, in both directions."""
    a, step = points(1000), torch.tensor([2.0, 0.0])
    gan, g = small(cycle=1.0, hidden=16), generator(2)
    pairs = zip(forever(a, 64, g), forever(points(1000, seed=3) + step, 64, g))
    for _ in train_gan(gan, pairs, 150, lr=5e-3):
        pass
    assert (gan.to_b(a) - a - step).norm(dim=1).mean() < 0.7
    assert (gan.to_a(a + step) - a).norm(dim=1).mean() < 0.7


# Patches ----------------------------------------------------------------------------------


def seen_by(critic, size, patch):
    """Rows and columns of pixels on which one logit depends."""
    x = torch.randn(1, 1, size, size, requires_grad=True, generator=generator(0))
    (slope,) = torch.autograd.grad(critic(x)[0, patch], x)
    return [slope[0, 0].abs().sum(d).nonzero().flatten().tolist() for d in (1, 0)]


def test_a_patch_is_ten_pixels_wide_and_its_neighbour_four_further():
    critic, side = c.PatchCritic(1, hidden=4), 24 // 4
    assert critic(torch.zeros(3, 1, 24, 24)).shape == (3, side * side)
    row, column = seen_by(critic, 24, 2 * side + 3)
    assert row == [*range(5, 15)]
    assert column == [*range(9, 19)]


def test_a_patch_critic_does_not_know_where_a_piece_is():
    """A picture moved by four pixels has the same logits, one patch further."""
    critic, x = c.PatchCritic(1, hidden=4), torch.zeros(1, 1, 32, 32)
    x[..., 12:18, 12:18] = points(1, 1, 6, 6)
    there, here = critic(x.roll(4, 3)).view(8, 8), critic(x).view(8, 8)
    torch.testing.assert_close(there[:, 2:7], here[:, 1:6])


@pytest.mark.parametrize("shape", [(2,), (1, 16, 16)])
def test_critics_may_be_wider_than_translators(shape):
    def size(players, **net):
        return sum(
            p.numel() for p in getattr(c.CycleGAN(shape, **net), players).parameters()
        )

    narrow, wide = {"hidden": 4}, {"hidden": 4, "critic": 8}
    assert (
        size("discriminator", **wide)
        == size("discriminator", hidden=8)
        > size("discriminator", **narrow)
    )
    assert size("generator", **wide) == size("generator", **narrow)
    with pytest.raises(ValueError, match="critic"):
        c.CycleGAN(shape, critic=-1)


# What is refused --------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 3), (), (1, 2, 3, 4)])
def test_shapes(shape):
    with pytest.raises(ValueError, match=r"expected \(D,\), or \(C, H, W\)|whole number"):
        c.CycleGAN(shape)


def test_pictures_have_four_pixels_or_more():
    with pytest.raises(ValueError, match="shape is 3: expected a whole number, 4 or more"):
        c.CycleGAN((1, 8, 3))
    assert c.CycleGAN((1, 4, 5)).to_b(torch.zeros(1, 1, 4, 5)).shape == (1, 1, 4, 5)


@pytest.mark.parametrize("name", ["cycle", "identity", "noise", "r1", "r2"])
def test_weights(name):
    for wrong in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"{name} is {wrong}: expected"):
            c.CycleGAN((2,), **{name: wrong})


def test_both_domains_are_looked_at():
    gan, x = small(), points(3)
    for wrong in (points(3, 3), x.double(), x[:0], x.tolist()):
        for loss in (gan.discriminator_loss, gan.generator_loss):
            with pytest.raises((ValueError, TypeError), match="expected"):
                loss(x, wrong)
