"""Two players: whose gradient goes where, what they play for, and the loop."""

import copy
import math

import pytest
import torch
from torch import nn

from gdm_course.gan import gan as g
from gdm_course.gan.players import Players, frozen, judged, packed, slope_squared
from gdm_course.protocols import abilities
from gdm_course.training import generator

KINDS = (g.GAN, g.SaturatingGAN, g.LeastSquaresGAN, g.HingeGAN, g.RelativisticGAN)
every = pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)


def small(kind=g.GAN, seed=0, **more):
    torch.manual_seed(seed)
    return kind(2, **{"hidden": 8, **more})


def points(n, seed=1):
    return torch.randn(n, 2, generator=generator(seed))


def grads(player):
    return [p.grad for p in player.parameters()]


# Who learns -------------------------------------------------------------------------------


@every
@pytest.mark.parametrize("more", [{}, {"r1": 0.1, "r2": 0.1}, {"pack": 3, "r2": 1.0}])
def test_each_loss_teaches_one_player(kind, more):
    gan, x = small(kind, **more), points(6)
    gan.discriminator_loss(x).backward()
    assert all(s is None for s in grads(gan.generator))
    assert all(s is not None and s.isfinite().all() for s in grads(gan.discriminator)[:-1])
    gan.zero_grad(set_to_none=True)
    gan.generator_loss(x).backward()
    assert all(s is None for s in grads(gan.discriminator))
    assert all(s is not None and s.abs().max() > 0 for s in grads(gan.generator))
    assert all(p.requires_grad for p in gan.parameters())


def test_frozen_gives_back_what_each_weight_was():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    net[0].requires_grad_(False)

    def fails():
        with frozen(net):
            assert not any(p.requires_grad for p in net.parameters())
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert [p.requires_grad for p in net.parameters()] == [False, False, True, True]


def test_a_gan_samples_and_no_more():
    assert abilities(small()) == {"Sampler": True, "Trainable": False, "Density": False}


# What they play for -----------------------------------------------------------------------


def log(d):
    return torch.sigmoid(d).log()


OBJECTIVES = {  # in probabilities, as the papers have them
    g.GAN: (
        lambda r, f: -(log(r) + (1 - torch.sigmoid(f)).log()).mean(),
        lambda r, f: -log(f).mean(),
    ),
    g.SaturatingGAN: (
        lambda r, f: -(log(r) + (1 - torch.sigmoid(f)).log()).mean(),
        lambda r, f: (1 - torch.sigmoid(f)).log().mean(),
    ),
    g.LeastSquaresGAN: (
        lambda r, f: 0.5 * ((r - 1) ** 2).mean() + 0.5 * ((f + 1) ** 2).mean(),
        lambda r, f: 0.5 * (f**2).mean(),
    ),
    g.HingeGAN: (
        lambda r, f: (
            -torch.minimum(0 * r, r - 1).mean() - torch.minimum(0 * f, -f - 1).mean()
        ),
        lambda r, f: -f.mean(),
    ),
    g.RelativisticGAN: (lambda r, f: -log(r - f).mean(), lambda r, f: -log(f - r).mean()),
}


@every
def test_objectives_are_the_papers(kind):
    real, fake = torch.randn(2, 50, generator=generator(2), dtype=torch.float64)
    gan, (critic, generates) = small(kind), OBJECTIVES[kind]
    torch.testing.assert_close(gan.critic_objective(real, fake), critic(real, fake))
    torch.testing.assert_close(gan.generator_objective(real, fake), generates(real, fake))


def test_the_slope_of_a_line_is_its_weights_squared():
    w, x = torch.tensor([[3.0, -4.0]]), points(5).requires_grad_()
    torch.testing.assert_close(slope_squared((x @ w.T)[:, 0], x), torch.full((5,), 25.0))
    _, price = judged(lambda x: (x @ w.T)[:, 0], points(5), 0.1)
    assert price.item() == pytest.approx(0.1 / 2 * 25)


def test_the_penalty_has_a_slope_in_the_weights():
    """d/dw of gamma / 2 |w|^2 is gamma w."""
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    _, price = judged(lambda x: x @ w, points(7), 0.3)
    torch.testing.assert_close(torch.autograd.grad(price, w)[0], 0.3 * w.detach())


def test_the_penalties_are_on_data_and_on_fakes():
    """A bend x^2 / 2 has slope |x| at x: each penalty says where it was taken."""
    bend = nn.Sequential(nn.Flatten())
    bend.forward = lambda x: x.square().sum(1) / 2
    maker = nn.Linear(1, 2)
    nn.init.zeros_(maker.weight)
    nn.init.constant_(maker.bias, 3.0)  # every fake is (3, 3)
    x = torch.full((4, 2), 2.0)
    losses = []
    for r1, r2 in [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0)]:
        gan = g.GAN(2, r1=r1, r2=r2)
        gan.generator, gan.discriminator, gan.Z = maker, bend, 1
        losses.append(gan.discriminator_loss(x).item())
    assert losses[1] - losses[0] == pytest.approx(8 / 2)
    assert losses[2] - losses[0] == pytest.approx(18 / 2)


def test_a_pack_is_a_point_and_those_that_follow_it():
    x = torch.arange(4.0)[:, None]
    assert packed(x, 3).tolist() == [[0, 1, 2], [1, 2, 3], [2, 3, 0], [3, 0, 1]]
    assert packed(torch.zeros(5, 1, 4, 4), 2).shape == (5, 2, 4, 4)
    assert packed(x, 1) is x


@pytest.mark.parametrize("wrong", [-1.0, math.nan, math.inf])
def test_weights_of_penalties(wrong):
    with pytest.raises(ValueError, match=r"r2 is .*: expected the weight of a penalty"):
        g.GAN(2, r2=wrong)


# The loop ---------------------------------------------------------------------------------


class Spy(Players):
    """Counts who moved, and on which batch."""

    def __init__(self):
        super().__init__((2,), 1, nn.Linear(1, 2), nn.Linear(2, 1))
        self.seen = []

    def discriminator_loss(self, x):
        self.seen.append(("D", x[0, 0].item()))
        return self.discriminator(x).square().mean()

    def generator_loss(self, x):
        self.seen.append(("G", x[0, 0].item()))
        return self.fake(len(x)).square().mean()

    def constrain(self):
        self.seen.append(("constrain",))


def test_every_move_of_the_critic_has_a_new_batch():
    spy, data = Spy(), [torch.full((3, 2), float(i)) for i in range(6)]
    steps = [step for step, _, _ in g.train_gan(spy, data, 2, critic_steps=3)]
    assert steps == [1, 2]
    moves = [seen for seen in spy.seen if seen[0] != "constrain"]
    first, second = [("D", 0), ("D", 1), ("D", 2)], [("D", 3), ("D", 4), ("D", 5)]
    assert moves == [*first, ("G", 2), *second, ("G", 5)]
    assert sum(seen == ("constrain",) for seen in spy.seen) == 6


def test_the_generator_may_move_more_often():
    spy = Spy()
    list(g.train_gan(spy, [torch.zeros(3, 2)], 1, generator_steps=4))
    assert [seen[0] for seen in spy.seen] == ["D", "constrain", *"GGGG"]


def test_one_step_is_one_step_of_adam_for_each():
    gan, x = small(), points(9)
    twin = copy.deepcopy(gan)
    for player in ("discriminator", "generator"):
        adam = torch.optim.Adam(getattr(twin, player).parameters(), 1e-2, (0.0, 0.99))
        torch.manual_seed(3 if player == "discriminator" else 4)
        getattr(twin, f"{player}_loss")(x).backward()
        adam.step()
    torch.manual_seed(3)
    gan.constrain = lambda: torch.manual_seed(4)  # between the two moves
    list(g.train_gan(gan, [x], 1, lr=1e-2))
    for a, b in zip(gan.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_the_rate_may_be_a_function_of_the_step():
    gan, seen = small(), []
    list(g.train_gan(gan, [points(4)] * 3, 3, lr=lambda s: seen.append(s) or 0.0))
    assert {0, 1, 2} <= {*seen}
    assert torch.equal(small().generator[0].weight, gan.generator[0].weight)


def test_the_average_follows_the_generator_and_forgets_its_start():
    gan, x = small(), [points(8)] * 40
    average = copy.deepcopy(gan.generator)
    expected = start = gan.generator[0].weight.detach().clone()
    decays = []
    for step, _, _ in g.train_gan(gan, x, 40, lr=1e-2, average=average, decay=0.7):
        decays.append(min(0.7, step / (step + 10)))
        now = gan.generator[0].weight.detach()
        expected = decays[-1] * expected + (1 - decays[-1]) * now
        torch.testing.assert_close(average[0].weight, expected)
    assert decays[0] < 0.1 < decays[-1] == 0.7
    assert not torch.equal(start, average[0].weight)


@pytest.mark.parametrize("player", ["generator", "discriminator"])
def test_what_is_not_finite_names_the_player_and_changes_nothing(player):
    gan = small()
    before = copy.deepcopy(gan.state_dict())
    name = f"{player}_loss"
    loss = getattr(gan, name)
    setattr(gan, name, lambda x: loss(x) * math.nan)
    who = player[0].upper()
    with pytest.raises(
        FloatingPointError, match=rf"GAN: the {who}'s loss is nan at step 1"
    ):
        list(g.train_gan(gan, [points(4)], 1))
    for key, kept in gan.state_dict().items():
        assert torch.equal(kept, before[key])
