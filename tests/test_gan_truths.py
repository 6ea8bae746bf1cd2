"""What GANs are measured by: the best D, its value, slopes, bounds, modes, Dirac-GAN."""

import copy
import math
import pickle

import pytest
import torch
from torch.distributions import Normal
from torch.nn.functional import softplus

from gdm_course.data import toy
from gdm_course.divergences import f_divergence, js, reverse_kl, total_variation
from gdm_course.gan import fgan, fit_plane
from gdm_course.gan import gan as g
from gdm_course.gan.dirac import dirac_field, dirac_path
from gdm_course.gan.modes import census
from gdm_course.gan.unrolled import UnrolledGAN
from gdm_course.training import generator

WIDE = (-12.0, 14.0)


def line(mean, sd=1.0):
    return Normal(torch.tensor(mean, dtype=torch.float64), sd).log_prob


def cells(n=20_000):
    low, high = WIDE
    return low + (torch.arange(n, dtype=torch.float64) + 0.5) * (high - low) / n


def integral(values):
    return (values.sum() * (WIDE[1] - WIDE[0]) / len(values)).item()


def value(logit, p, q):
    """V(D, G) by quadrature."""
    x = cells()
    return integral(-p(x).exp() * softplus(-logit(x)) - q(x).exp() * softplus(logit(x)))


# The best discriminator -------------------------------------------------------------------


def test_the_best_logit_is_log_p_minus_log_q_and_its_value_is_js():
    p, q = line(0.0), line(1.5, 0.7)
    best = value(lambda x: p(x) - q(x), p, q)
    assert best == pytest.approx(2 * js(p, q, WIDE).item() - 2 * math.log(2), abs=1e-6)
    for wrong in (
        lambda x: q(x) - p(x),
        lambda x: 0.9 * (p(x) - q(x)),
        lambda x: p(x) - q(x) + 0.1,
        lambda x: 0 * x,
    ):
        assert value(wrong, p, q) < best


@pytest.mark.parametrize("d", [0.5, 1.0, 2.0])
def test_slopes_of_both_generators_are_slopes_of_divergences(d):
    """Saturating: of 2 JS; non-saturating: of KL(q || p) - 2 JS; D at its best."""
    p, mean = line(0.0), torch.tensor(d, dtype=torch.float64, requires_grad=True)
    q = Normal(mean, 1.0).log_prob
    (of_js,) = torch.autograd.grad(2 * js(p, q, WIDE), mean)
    (of_kl,) = torch.autograd.grad(reverse_kl(p, q, WIDE), mean)
    levels = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    y = mean + Normal(0.0, 1.0).icdf(levels)  # q, by its quantiles
    logit = p(y) - line(d)(y)
    for kind, expected in {g.SaturatingGAN: of_js, g.GAN: of_kl - of_js}.items():
        loss = kind(1).generator_objective(logit, logit)
        (slope,) = torch.autograd.grad(loss, mean, retain_graph=True)
        assert slope.item() == pytest.approx(expected.item(), abs=1e-4)


def test_least_squares_has_the_best_critic_of_its_docstring():
    """(p - q) / (p + q): nothing near it is better, and G's loss is half its square."""
    p, q, x = line(0.0), line(1.0), cells()
    a, b = p(x).exp(), q(x).exp()

    def loss(D):
        return integral((a * (D - 1) ** 2 + b * (D + 1) ** 2) / 2)

    best = (a - b) / (a + b)
    assert all(loss(best) < loss(best + e * torch.sin(x)) for e in (-0.1, 0.01, 0.1))
    torch.testing.assert_close(best, torch.tanh((p(x) - q(x)) / 2))


def test_a_trained_discriminator_is_the_log_ratio():
    torch.manual_seed(0)
    gan, draws = g.GAN(1, hidden=32), generator(1)
    gan.fake = lambda n: 1.5 + torch.randn(n, 1, generator=draws)
    adam = torch.optim.Adam(gan.discriminator.parameters(), 5e-3)
    for step in range(400):
        adam.param_groups[0]["lr"] = 5e-3 * (1 - step / 400)
        adam.zero_grad()
        gan.discriminator_loss(torch.randn(512, 1, generator=draws)).backward()
        adam.step()
    x = torch.linspace(-1.5, 3.0, 50)
    expected = line(0.0)(x.double()) - line(1.5)(x.double())
    assert (gan.discriminate(x[:, None]) - expected).abs().mean() < 0.25


# f-divergences ----------------------------------------------------------------------------

every = pytest.mark.parametrize("row", fgan.DIVERGENCES, ids=lambda row: row.name)


@every
def test_the_price_is_the_conjugate(row):
    """f*(t) = sup_u (u t - f(u)), searched over u from e^-12 to e^12."""
    v = torch.linspace(-1.9, 1.4, 14, dtype=torch.float64)
    u = torch.linspace(-12, 12, 400_001, dtype=torch.float64).exp()
    for one in v:
        supremum = (u * row.T(one) - row.f(u)).max()
        assert supremum.item() == pytest.approx(row.price(one).item(), abs=2e-4)


@every
def test_the_best_critic_is_the_slope_of_f(row):
    u = torch.tensor([0.1, 0.7, 1.3, 4.0], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(row.f(u).sum(), u)
    torch.testing.assert_close(row.best(u.detach().log()), slope)
    assert row.f(torch.ones(1)).item() == pytest.approx(
        -2 * math.log(2) if row is fgan.GAN_GAME else 0, abs=1e-6
    )


CLOSED = {  # of N(0, 1) and N(1, 1.2^2)
    fgan.KL: math.log(1.2) + (1 + 1) / (2 * 1.44) - 0.5,
    fgan.REVERSE_KL: -math.log(1.2) + (1.44 + 1) / 2 - 0.5,
    fgan.PEARSON: 1.44 / math.sqrt(2 * 1.44 - 1) * math.exp(1 / (2 * 1.44 - 1)) - 1,
    fgan.HELLINGER: 2 - 2 * math.sqrt(2 * 1.2 / 2.44) * math.exp(-1 / (4 * 2.44)),
}


@every
def test_the_bound_at_the_best_critic_is_the_divergence(row):
    p, q = line(0.0), line(1.0, 1.2)
    x = cells()
    T = row.best(p(x) - q(x))
    conjugate = lambda u: u * row.best(u.log()) - row.f(u)  # noqa: E731  # f*(f'(u))
    paid = conjugate((p(x) - q(x)).exp())
    height = integral(p(x).exp() * T - q(x).exp() * paid)
    others = {
        fgan.JENSEN_SHANNON: 2 * js(p, q, WIDE).item(),
        fgan.GAN_GAME: 2 * js(p, q, WIDE).item() - 2 * math.log(2),
        fgan.TOTAL_VARIATION: total_variation(p, q, WIDE).item(),
    }
    expected = (CLOSED | others)[row]
    assert height == pytest.approx(expected, abs=1e-5)
    if row is not fgan.GAN_GAME:
        assert f_divergence(row.f, p, q, WIDE, 20_000).item() == pytest.approx(
            expected, abs=1e-4
        )


@every
def test_every_critic_is_a_lower_bound(row):
    """With the weights of quadrature there is no luck in it: never above."""
    p, q, x = line(0.0), line(1.0, 1.2), cells()
    ratio = (p(x) - q(x)).exp()
    truth = integral(q(x).exp() * row.f(ratio))
    draws = torch.Generator().manual_seed(0)
    for _ in range(20):
        a, b, c = torch.randn(3, generator=draws, dtype=torch.float64)
        v = a + b * torch.tanh(x) + c * torch.sin(2 * x)
        height = integral(p(x).exp() * row.T(v) - q(x).exp() * row.price(v))
        assert height <= truth + 1e-6


@every
def test_prices_hold_for_large_numbers(row):
    v = torch.tensor([-60.0, 60.0])
    for said in (row.T(v), row.price(v)):
        assert said.isfinite().all()


def test_the_gan_game_is_the_gan():
    real, fake = torch.randn(2, 30, generator=generator(4))
    one, other = fgan.FGAN(2, fgan.GAN_GAME), g.SaturatingGAN(2)
    for name in ("critic_objective", "generator_objective"):
        expected = getattr(other, name)(real, fake)
        torch.testing.assert_close(getattr(one, name)(real, fake), expected)


def test_a_divergence_travels_by_its_name():
    for row in fgan.DIVERGENCES:
        assert pickle.loads(pickle.dumps(row)) is row
        assert copy.deepcopy(row) is row
    with pytest.raises(LookupError, match="no divergence is called 'mine': only KL"):
        fgan.by_name("mine")


def test_a_bound_learned_from_samples_comes_close_and_not_above():
    """KL(N(0, 1) || N(1, 1)) = 1/2, on samples that the critic never saw."""
    torch.manual_seed(0)
    model = fgan.FGAN(1, fgan.KL, hidden=32)
    model.fake = lambda n: 1 + torch.randn(n, 1)
    adam = torch.optim.Adam(model.discriminator.parameters(), 3e-3)
    for step in range(400):
        adam.param_groups[0]["lr"] = 3e-3 * (1 - step / 400)
        adam.zero_grad()
        model.discriminator_loss(torch.randn(256, 1)).backward()
        adam.step()
    with torch.no_grad():
        said = model.bound(torch.randn(40_000, 1), 1 + torch.randn(40_000, 1)).item()
    assert 0.44 < said < 0.53


# Modes ------------------------------------------------------------------------------------

EIGHT = toy.get("eight_gaussians")
CENTRES, SIGMA = EIGHT.law.means, 0.2


def test_exact_samples_have_all_modes_and_the_share_of_a_gaussian():
    n = 100_000
    found = census(EIGHT.sample(n, generator(0)), CENTRES, SIGMA)
    assert found.modes == 8
    assert found.quality == pytest.approx(1 - math.exp(-4.5), abs=6 * math.sqrt(0.01 / n))
    assert 0 <= found.kl < 7 / (2 * n) * 10
    assert found.shares.sum().item() == pytest.approx(1)


def test_a_census_of_a_few_points():
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    x = torch.cat([centres[:1].repeat(50, 1), centres[1:2].repeat(49, 1) + 0.29])
    x = torch.cat([x, torch.tensor([[0.0, 10.0]])])  # one stray point
    found = census(x, centres, 0.1)
    assert found.modes == 1  # the second mode's are 0.41 away
    assert found.quality == pytest.approx(0.51)
    found = census(x, centres, 0.2)
    assert (found.modes, found.quality) == (2, 1.0)
    shares = [0.5, 0.49, 0.01]
    assert found.shares.tolist() == pytest.approx(shares)
    assert found.kl == pytest.approx(sum(s * math.log(3 * s) for s in shares))
    assert census(x, centres, 0.2, least=0.01).modes == 3


def test_a_census_of_nothing_good():
    found = census(torch.full((5, 2), 99.0), CENTRES, SIGMA)
    assert (found.modes, found.quality, found.kl) == (0, 0.0, math.inf)


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan])
def test_a_census_needs_a_width(sigma):
    with pytest.raises(ValueError, match=r"sigma is .*: expected the width of a mode"):
        census(torch.zeros(3, 2), CENTRES, sigma)


# The Dirac-GAN ----------------------------------------------------------------------------


@pytest.mark.parametrize("wasserstein", [False, True])
def test_the_field_is_minus_the_slopes_of_the_losses(wasserstein):
    at = torch.randn(6, 2, generator=generator(5), dtype=torch.float64)
    theta, psi = (v.requires_grad_() for v in at.clone().T)
    logit = psi * theta
    critic = logit if wasserstein else softplus(logit)
    generates = -logit if wasserstein else softplus(-logit)
    (d_theta,) = torch.autograd.grad(generates.sum(), theta, retain_graph=True)
    (d_psi,) = torch.autograd.grad((critic + 0.7 / 2 * psi**2).sum(), psi)
    expected = -torch.stack([d_theta, d_psi], 1)
    got = dirac_field(at, 0.7, wasserstein=wasserstein)
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 3.0])
def test_at_rest_it_turns_and_r1_pulls_it_in(gamma):
    """Eigenvalues of the field at (0, 0): -gamma / 2 +- sqrt(gamma^2 / 4 - 1 / 4)."""
    field = lambda at: dirac_field(at[None], gamma)[0]  # noqa: E731
    J = torch.autograd.functional.jacobian(field, torch.zeros(2, dtype=torch.float64))
    got = torch.linalg.eigvals(J)
    root = torch.sqrt(torch.tensor(gamma**2 / 4 - 0.25 + 0j, dtype=torch.complex128))
    expected = torch.stack([-gamma / 2 - root, -gamma / 2 + root])
    for e in expected:
        assert (got - e).abs().min() < 1e-8


def test_paths_of_the_notes():
    radius = lambda *a, **k: dirac_path(*a, **k)[-1].norm().item()  # noqa: E731
    assert radius(0.0) == pytest.approx(0.521, abs=1e-3)
    assert radius(0.0, 50) == pytest.approx(1.010, abs=1e-3)
    assert radius(1.0) < 1e-4
    assert radius(0.0, wasserstein=True) == pytest.approx(17.0, abs=0.1)
    assert radius(1.0, wasserstein=True) < 1e-4
    grows = dirac_path(0.0, 3, wasserstein=True).norm(dim=1)
    torch.testing.assert_close(grows[1:] / grows[:-1], grows.new_full((3,), 1.01**0.5))


# Looking ahead ----------------------------------------------------------------------------


def test_unrolled_by_no_step_is_the_game_as_it_is():
    torch.manual_seed(0)
    gan, x = UnrolledGAN(2, hidden=8, k=0), torch.randn(5, 2)
    losses = []
    for loss in (gan.generator_loss, lambda x: g.GAN.generator_loss(gan, x)):
        torch.manual_seed(1)
        losses.append(loss(x))
    torch.testing.assert_close(*losses)


def test_unrolled_by_one_step_on_a_line():
    """D(x) = w x: the step is w - eta dL/dw, and G's slope goes through it."""
    gan = UnrolledGAN(1, hidden=1, k=1, step=0.3)
    gan.discriminator = torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False))
    gan.discriminator.append(torch.nn.Flatten(0))
    y, x = torch.tensor([[2.0]], requires_grad=True), torch.tensor([[-1.0]])
    gan.fake = lambda n: y
    w = gan.discriminator[0].weight.item()
    (got,) = torch.autograd.grad(gan.generator_loss(x), y)

    def ahead(y):
        s = lambda t: 1 / (1 + math.exp(-t))  # noqa: E731
        slope = -s(-w * -1.0) * -1.0 + s(w * y) * y
        return math.log1p(math.exp(-(w - 0.3 * slope) * y))

    expected = (ahead(2 + 1e-5) - ahead(2 - 1e-5)) / 2e-5
    assert got.item() == pytest.approx(expected, abs=1e-3)
    assert gan.discriminator[0].weight.grad is None


def test_unrolled_without_the_reaction_is_played_against_a_moved_discriminator():
    torch.manual_seed(0)
    gan, x = UnrolledGAN(2, hidden=8, k=3, step=0.3, through=False), torch.randn(5, 2)
    weights = [*gan.generator.parameters()]
    torch.manual_seed(1)
    got = torch.autograd.grad(gan.generator_loss(x), weights)
    moved = g.GAN(2, hidden=8)
    moved.load_state_dict(gan.state_dict())
    sgd = torch.optim.SGD(moved.discriminator.parameters(), 0.3)
    for _ in range(3):
        torch.manual_seed(1)
        sgd.zero_grad()
        moved.discriminator_loss(x).backward()
        sgd.step()
    torch.manual_seed(1)
    expected = torch.autograd.grad(moved.generator_loss(x), [*moved.generator.parameters()])
    torch.testing.assert_close(got, expected)
    gan.through = True
    torch.manual_seed(1)
    other = torch.autograd.grad(gan.generator_loss(x), weights)
    assert not torch.allclose(other[0], got[0], rtol=1e-2)


# The family's model of the plane ----------------------------------------------------------


def test_fit_plane_learns_where_the_moons_are():
    """Nearest points of a fresh sample: closer than those of one fitted Gaussian."""
    moons, draws = toy.get("two_moons"), generator(5)
    x, held_out = moons.sample(4000, draws).float(), moons.sample(1000, draws).float()
    model = fit_plane(x, steps=400)
    single = torch.distributions.MultivariateNormal(x.mean(0), x.T.cov())
    inside = moons.log_prob(held_out).quantile(0.02)
    share = lambda y: (moons.log_prob(y) > inside).float().mean().item()  # noqa: E731
    torch.manual_seed(0)
    assert share(model.sample(1000)) > share(single.sample((1000,))) + 0.15
    again = fit_plane(x, 2, seed=3), fit_plane(x, 2, seed=3)
    for a, b in zip(*(m.parameters() for m in again), strict=True):
        assert torch.equal(a, b)
