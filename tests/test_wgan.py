"""Critics against exact distances, slopes against linear algebra, pictures and labels."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, softplus

from gdm_course.divergences import wasserstein_1d
from gdm_course.gan import spectral as s
from gdm_course.gan import wgan as w
from gdm_course.gan.conditional import ConditionalGAN, label_logit
from gdm_course.gan.dcgan import DCGAN
from gdm_course.gan.gan import train_gan
from gdm_course.training import forever, generator

SHAPE = (1, 8, 8)
SMALL = {"Z": 4, "width": 4}


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed))


def line(weights):
    return lambda x: x.flatten(1) @ weights


# The critic's losses ----------------------------------------------------------------------


def test_the_critic_gets_the_distance_of_means_of_its_values():
    gan, fake = w.WGAN(2), normal(5, seed=1)
    assert gan.generator_objective(fake, fake).item() == pytest.approx(-fake.mean().item())
    x, y = normal(6, 2), normal(6, 2, seed=1)
    wanted = gan.discriminate(y).mean() - gan.discriminate(x).mean()
    torch.testing.assert_close(gan.critic_loss(x, y), wanted)


def test_clipped_weights_stay_clipped_in_training():
    torch.manual_seed(0)
    gan = w.WGAN(2, clip=0.05, hidden=8)
    start = copy.deepcopy(gan.generator.state_dict())
    for _ in train_gan(gan, forever(normal(64, 2), 16, generator(0)), 5, critic_steps=2):
        sizes = [p.abs().max().item() for p in gan.discriminator.parameters()]
        assert max(sizes) == pytest.approx(0.05)
    assert max(p.abs().max() for p in gan.generator.parameters()) > 0.05
    assert any((p != start[k]).any() for k, p in gan.generator.state_dict().items())
    free = w.WGAN(2, clip=None)
    assert max(p.abs().max() for p in free.discriminator.parameters()) > 0.05


@pytest.mark.parametrize("kind", [w.WGAN, w.WGANGP, s.SpectralGAN])
def test_each_loss_teaches_one_player(kind):
    gan, x = kind(2, hidden=8), normal(6, 2)
    gan.discriminator_loss(x).backward()
    assert all(p.grad is None for p in gan.generator.parameters())
    assert all(p.grad is not None for p in list(gan.discriminator.parameters())[:-1])
    gan.zero_grad(set_to_none=True)
    gan.generator_loss(x).backward()
    assert all(p.grad is None for p in gan.discriminator.parameters())
    assert all(p.grad is not None for p in gan.generator.parameters())


@pytest.mark.parametrize("wrong", [0, -0.1, math.nan, math.inf])
def test_settings_of_critics(wrong):
    with pytest.raises(ValueError, match=r"clip is .*expected a positive number"):
        w.WGAN(2, clip=wrong)
    if wrong != 0:
        with pytest.raises(ValueError, match=r"lam is .*expected the weight"):
            w.WGANGP(2, lam=wrong)
    with pytest.raises(ValueError, match="hidden is 7: expected an even number"):
        s.SpectralCritic(2, hidden=7)


# The penalty ------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3,), (1, 4, 4), (2, 3, 2)])
def test_points_between_lie_on_their_lines(shape):
    torch.manual_seed(0)
    x, y = normal(4000, *shape), normal(4000, *shape, seed=1)
    part = ((w.interpolate(x, y) - x) / (y - x)).flatten(1)
    u = part.median(1).values  # one per row: all coordinates went equally far
    assert (part - u[:, None]).abs().quantile(0.99) < 1e-3
    edges = torch.linspace(0, 1, 11)
    counts = torch.histogram(u, edges).hist
    assert counts.sum() == 4000
    assert ((counts - 400) ** 2 / 400).sum() < 40  # chi-square with 9 degrees of freedom


@pytest.mark.parametrize("shape", [(3,), (1, 28, 28)])
def test_the_penalty_of_a_line_is_known(shape):
    """(|w| - 1)^2, and its gradient 2 (|w| - 1) w / |w|."""
    size = math.prod(shape)
    for length in (0.5, 3.0):
        weights = torch.full((size,), length / size**0.5, requires_grad=True)
        for one_sided, excess in ((False, length - 1), (True, max(0.0, length - 1))):
            value = w.gradient_penalty(line(weights), normal(5, *shape), one_sided)
            assert value.item() == pytest.approx(excess**2, rel=1e-4)
            (slope,) = torch.autograd.grad(value, weights)
            torch.testing.assert_close(slope, 2 * excess / length * weights.detach())


def test_a_flat_critic_has_a_penalty_of_one_and_no_nan():
    net = nn.Linear(3, 1)
    nn.init.zeros_(net.weight)
    value = w.gradient_penalty(lambda x: net(x)[:, 0], normal(4, 3))
    assert value.item() == 1
    assert torch.autograd.grad(value, net.weight)[0].isfinite().all()


def test_the_penalty_is_where_data_and_fakes_are_not_yet():
    """A critic |x|^2 / 2 has the slope |x|: data at 0, fakes at 4, so E (4 u - 1)^2."""
    gan = w.WGANGP(1, lam=2.0)
    gan.discriminator = nn.Sequential(nn.Flatten())
    gan.discriminator.forward = lambda x: x.square().sum(1) / 2
    torch.manual_seed(0)
    n = 100_000
    got = gan.critic_loss(torch.zeros(n, 1), torch.full((n, 1), 4.0)).item()
    assert got == pytest.approx(8 + 2 * (16 / 3 - 4 + 1), abs=0.1)


# Layers that do not stretch ---------------------------------------------------------------


def test_power_iteration_finds_the_largest_singular_value_from_below():
    W = normal(6, 9).double().requires_grad_()
    exact = torch.linalg.matrix_norm(W, 2)
    few, _, _ = s.power_iteration(W, normal(6, seed=1).double(), 1)
    sigma, u, v = s.power_iteration(W, normal(6, seed=1).double(), 500)
    assert few < exact
    torch.testing.assert_close(sigma, exact)
    torch.testing.assert_close((W @ v).detach(), sigma.detach() * u)
    (got,), (wanted,) = (torch.autograd.grad(t, W) for t in (sigma, exact))
    torch.testing.assert_close(got, wanted)  # u v^T


def test_a_spectral_layer_learns_when_it_is_taught_and_only_then():
    torch.manual_seed(0)
    layer, x = s.SpectralLinear(5, 4), normal(3, 5)
    layer.u.copy_(nn.functional.normalize(torch.ones(4), dim=0))
    before = layer.u.clone()
    with torch.no_grad():
        layer(x)
    layer(x).sum().detach()
    assert torch.equal(layer.u, before)
    layer(x).sum().backward()
    assert not torch.equal(layer.u, before)


@pytest.mark.parametrize("sort", [True, False])
def test_a_spectral_critic_never_stretches(sort):
    torch.manual_seed(0)
    critic = s.SpectralCritic(3, hidden=16, sort=sort).double()
    for layer in critic.layers:
        if isinstance(layer, s.SpectralLinear):
            layer.weight.data.mul_(7)
            layer.u.copy_(s.power_iteration(layer.weight, layer.u, 500)[1])
    x, y = 3 * normal(2000, 3).double(), 3 * normal(2000, 3, seed=1).double()
    ratio = (critic(x) - critic(y)).abs() / (x - y).norm(dim=1)
    assert 0.01 < ratio.max() <= 1 + 1e-9


def test_sorting_in_pairs_loses_no_length():
    x = torch.tensor([[1.0, 2.0, 5.0, -1.0, 0.0, 0.0]])
    assert s.GroupSort()(x).tolist() == [[2.0, 1.0, 5.0, -1.0, 0.0, 0.0]]
    x = normal(4, 6).double()
    jacobian = torch.autograd.functional.jacobian(s.GroupSort(), x[0])
    torch.testing.assert_close(jacobian @ jacobian.T, torch.eye(6).double())


def test_a_convolution_stretches_more_than_its_kernel_says():
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 3, 3, padding=1)
    eye = torch.eye(2 * 5 * 5).view(-1, 2, 5, 5)
    dense = conv2d(eye, layer.weight, padding=1).flatten(1)
    exact = torch.linalg.matrix_norm(dense, 2)
    torch.testing.assert_close(s.stretch(layer, (2, 5, 5), 500), exact, rtol=1e-3, atol=0)
    assert exact > 1.1 * torch.linalg.matrix_norm(layer.weight.flatten(1), 2)


def test_a_spectral_critic_finds_the_distance_of_a_shift():
    """N(0, 1) and N(2, 1): the best critic is a line, and W1 is 2."""
    torch.manual_seed(0)
    gan = s.SpectralGAN(1, hidden=16)
    optimizer = torch.optim.Adam(gan.discriminator.parameters(), 5e-3, (0.0, 0.99))
    for _ in range(200):
        x, y = torch.randn(128, 1) + 2, torch.randn(128, 1)
        optimizer.zero_grad()
        gan.critic_loss(x, y).backward()
        optimizer.step()
    x, y = normal(4000, 1) + 2, normal(4000, 1, seed=1)
    exact = wasserstein_1d(x[:, 0], y[:, 0]).item()
    found = -gan.critic_loss(x, y).item()
    assert 0.93 * exact < found < 1.01 * exact


# Pictures ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 28, 28), (2, 4, 8)])
def test_pictures_have_their_shape_and_range(shape):
    gan = DCGAN(shape, **SMALL)
    x = 5 * gan.sample(3)
    assert x.shape == (3, *shape)
    assert gan.sample(3).abs().max() <= 1
    assert gan.discriminate(x).shape == (3,)


def test_images_that_cannot_be_halved_are_refused():
    for shape, halvings in [((1, 10, 8), 2), ((8, 8), 2), ((1, 28, 28), 3)]:
        with pytest.raises(ValueError, match="cannot be halved"):
            DCGAN(shape, halvings=halvings)
    with pytest.raises(ValueError, match="expected"):
        ConditionalGAN(SHAPE, 0)


def test_residual_blocks_begin_as_nothing():
    torch.manual_seed(0)
    gan = DCGAN(SHAPE, blocks=1, **SMALL)
    bare = DCGAN(SHAPE, **SMALL)
    keep = [m for m in gan.discriminator[0] if type(m).__name__ != "ResidualConv"]
    for mine, theirs in zip(bare.discriminator[0], keep):
        mine.load_state_dict(theirs.state_dict())
    x = normal(4, *SHAPE)
    torch.testing.assert_close(bare.discriminate(x), gan.discriminate(x))


@pytest.mark.parametrize("hidden", [0, 8])
def test_only_a_hidden_layer_lets_the_critic_judge_two_corners_together(hidden):
    torch.manual_seed(0)
    D = DCGAN((1, 28, 28), hidden=hidden, **SMALL).double().discriminate
    x = torch.zeros(4, 1, 28, 28, dtype=torch.float64)
    x[[1, 3], :, :3, :3], x[[2, 3], :, -3:, -3:] = 5.0, 5.0
    none, one, other, both = D(x).tolist()
    assert (abs(both - one - other + none) < 1e-12) == (not hidden)


def test_hidden_features_are_counted():
    with pytest.raises(ValueError, match="hidden"):
        DCGAN(SHAPE, hidden=-3)
    assert DCGAN(SHAPE, hidden=5, **SMALL).generator[0].out_features == 5


@pytest.mark.parametrize("norm", [True, False])
def test_with_batch_normalisation_a_picture_depends_on_its_neighbours(norm):
    torch.manual_seed(0)
    G = DCGAN(SHAPE, norm=norm, **SMALL).generator.train()
    z = normal(6, 4)
    alone, among = G(z[:2]), G(z)[:2]
    assert torch.allclose(alone, among, atol=1e-5) != norm
    G.eval()
    torch.testing.assert_close(G(z[:2]), G(z)[:2])


# Labels -----------------------------------------------------------------------------------


def test_the_logit_of_the_label():
    logits, y = normal(5, 3), torch.tensor([2, 0, 1, 1, 2])
    assert label_logit(logits, y).tolist() == [logits[i, k].item() for i, k in enumerate(y)]


def labelled():
    torch.manual_seed(0)
    gan = ConditionalGAN(SHAPE, 3, r1=0.0, r2=0.0, **SMALL)
    return gan, normal(6, *SHAPE), torch.tensor([0, 1, 2, 2, 1, 0])


def test_fakes_are_made_and_judged_with_the_labels_of_the_data():
    gan, x, y = labelled()
    told = []

    class Painter(nn.Module):
        """Paints the label's number all over."""

        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, given):
            told.append(given[:, gan.Z :])
            k = given[:, gan.Z :].argmax(1).view(-1, 1, 1, 1)
            return self.scale * k.expand(-1, *SHAPE)

    gan.generator = Painter()
    fakes = y.view(-1, 1, 1, 1).expand(-1, *SHAPE).float()
    gap = gan.discriminate(fakes, y) - gan.discriminate(x, y)
    torch.testing.assert_close(gan.discriminator_loss(x, y), softplus(gap).mean())
    torch.testing.assert_close(gan.generator_loss(x, y), softplus(-gap).mean())
    assert all((t.argmax(1) == y).all() and (t.sum(1) == 1).all() for t in told)
    assert gan.sample(6, y)[:, 0, 0, 0].tolist() == y.tolist()


def test_labels_of_samples():
    gan, x, y = labelled()
    torch.manual_seed(0)
    seen = set()
    gan.generator.register_forward_hook(lambda _, given, __: seen.update(
        given[0][:, gan.Z :].argmax(1).tolist()
    ))  # fmt: skip
    gan.sample(50)
    assert seen == {0, 1, 2}
    for wrong in (y[:2], y + 1, y.float() + 0.5):
        with pytest.raises(ValueError, match="expected"):
            gan.sample(6, wrong)
    with pytest.raises(ValueError, match="got no labels"):
        gan.discriminator_loss(x, None)


def test_the_penalties_count_in_the_conditional_loss():
    gan, x, y = labelled()
    torch.manual_seed(1)
    bare = gan.discriminator_loss(x, y).item()
    slope = torch.autograd.functional.jacobian(lambda x: gan.discriminate(x, y).sum(), x)
    gan.r1 = 0.7
    torch.manual_seed(1)
    extra = gan.discriminator_loss(x, y).item() - bare
    assert extra == pytest.approx(
        0.35 * slope.flatten(1).square().sum(1).mean().item(), abs=1e-5
    )


def test_both_players_learn_from_images_and_labels():
    gan, x, y = labelled()
    before = copy.deepcopy(gan.state_dict())
    average = copy.deepcopy(gan.generator)
    for _ in train_gan(gan, forever((x, y), 3), 2, average=average):
        pass
    changed = [k for k, v in gan.state_dict().items() if not torch.equal(v, before[k])]
    assert {k.split(".")[0] for k in changed} == {"generator", "discriminator"}
