"""Beta-VAE, InfoVAE and disentanglement, each against an independent oracle."""

import itertools
import math

import pytest
import torch
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from gdm_course import protocols
from gdm_course.data import shapes
from gdm_course.divergences.samples import gaussian_kernel, mmd2
from gdm_course.evaluation.disentanglement import (
    discretise,
    entropy,
    gaps,
    information_matrix,
    mig,
    mig_estimate,
    mutual_information,
)
from gdm_course.recipes import vae_beta
from gdm_course.scale.factors import nelbo_estimate, shape_bits
from gdm_course.training import adam
from gdm_course.vae.beta_vae import (
    BetaTC,
    BetaVAE,
    ConvBetaVAE,
    gaussian_rate_distortion,
    log_aggregate,
    log_densities,
    rate_and_distortion,
    surgery,
)
from gdm_course.vae.decoders import AutoregressivePixels, GaussianPixels
from gdm_course.vae.info_vae import InfoVAE
from gdm_course.vae.vae import VAE, StandardNormal, gaussian_kl


def bits(n: int, D: int = 6) -> torch.Tensor:
    return (torch.rand(n, D) < 0.5).float()


# Beta-VAE ---------------------------------------------------------------------------------


def test_beta_one_is_the_vae_and_beta_prices_the_rate():
    torch.manual_seed(0)
    plain, x = VAE(6, latent=3, hidden=(8,)), bits(9)
    losses = {}
    for beta in (1.0, 5.0):
        model = BetaVAE(6, beta=beta, latent=3, hidden=(8,))
        model.load_state_dict(plain.state_dict())
        torch.manual_seed(1)
        losses[beta] = model.loss(x)
    torch.manual_seed(1)
    assert torch.equal(losses[1.0], plain.loss(x))
    q = plain.encode(x).base_dist  # the KL by torch's own formula
    rate = kl_divergence(q, Normal(torch.zeros(3), 1.0)).sum(-1).mean()
    torch.testing.assert_close(losses[5.0] - losses[1.0], 4 * rate)


def test_the_bound_of_a_beta_vae_ignores_beta():
    torch.manual_seed(0)
    model, x = BetaVAE(6, beta=7.0, latent=3, hidden=(8,)), bits(9)
    torch.manual_seed(1)
    elbo = model.elbo(x).mean()
    torch.manual_seed(1)
    rate, distortion = rate_and_distortion(model, x)
    torch.testing.assert_close(-elbo, rate + distortion)


def test_conv_beta_vae_prices_the_rate_too():
    torch.manual_seed(0)
    model, x = ConvBetaVAE((3, 8, 8), beta=3.0, latent=4, features=4), bits(5, 192)
    x = x.view(5, 3, 8, 8)
    torch.manual_seed(1)
    loss = model.loss(x)
    torch.manual_seed(1)
    rate, distortion = rate_and_distortion(model, x)
    torch.testing.assert_close(loss, distortion + 3 * rate)


# Rate and distortion ----------------------------------------------------------------------


def test_water_filling_is_the_best_of_all_allocations():
    """No split of the same error over two directions needs a lower rate."""
    variances, level = torch.tensor([3.0, 0.5]).double(), 0.8
    rate, error = gaussian_rate_distortion(variances, level)
    assert error.item() == pytest.approx(0.8 + 0.5)
    first = torch.linspace(1e-3, 1.3 - 1e-3, 5000).double()
    second = (error - first).clamp_min(1e-9)
    needed = sum((v / d).log().clamp_min(0) / 2 for v, d in zip(variances, (first, second)))
    assert needed.min().item() == pytest.approx(rate.item(), abs=1e-4)


def test_the_slope_of_the_curve_is_the_price():
    """d(error) / d(rate) = -2 level, by autograd: what beta = level / sigma^2 pays."""
    variances = torch.tensor([4.0, 1.0, 0.3]).double()
    level = torch.tensor([0.1, 0.2, 0.7, 2.0]).double().requires_grad_()
    rate, error = gaussian_rate_distortion(variances, level)
    slopes = [torch.autograd.grad(v.sum(), level)[0] for v in (error, rate)]
    torch.testing.assert_close(slopes[0] / slopes[1], -2 * level.detach())


def linear_beta_vae(beta: float, sigma: float, D: int = 3) -> BetaVAE:
    noise = GaussianPixels(sigma)
    noise.requires_grad_(False)
    return BetaVAE(D, beta=beta, latent=D, hidden=(), observation=noise).double()


@pytest.mark.parametrize("beta", [0.5, 2.0])
def test_a_linear_beta_vae_can_stand_on_the_curve(beta):
    """Set to the known optimum, it has Shannon's rate and error; its loss is stationary."""
    variances, sigma = torch.tensor([4.0, 1.0, 0.3]).double(), 0.7
    level = beta * sigma**2
    model = linear_beta_vae(beta, sigma)
    told = (1 - level / variances).clamp_min(0)  # the share of each direction that is told
    encoder, decoder = model.encoder[0], model.decoder[0][0]
    for p in (*encoder.parameters(), *decoder.parameters()):
        p.data.zero_()
    encoder.weight.data[:3] = torch.diag((told / variances).sqrt())
    encoder.bias.data[3:] = (1 - told).log() / 2
    decoder.weight.data.copy_(torch.diag((told * variances).sqrt()))
    # exact moments: 2^3 corner points with standard deviations as coordinates, and
    # every combination of +-1 noise, have the mean and the covariance of the Gaussians
    corners = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=3))).double()
    x = corners * variances.sqrt()
    q = model.encode(x)
    z = q.base_dist.loc + q.base_dist.scale * corners[:, None]  # (8, 8, 3)
    error = (x - model.decode(z).mean).square().sum(-1).mean()
    rate = gaussian_kl(q.base_dist.loc, q.base_dist.scale.log()).sum(-1).mean()
    best_rate, best_error = gaussian_rate_distortion(variances, level)
    torch.testing.assert_close(rate, best_rate)
    torch.testing.assert_close(error, best_error)
    (error / (2 * sigma**2) + beta * rate).backward()
    for p in (*encoder.parameters(), *decoder.parameters()):
        assert p.grad.abs().max() < 1e-10


def test_a_trained_linear_beta_vae_finds_the_curve():
    torch.manual_seed(0)
    variances, sigma, beta = torch.tensor([4.0, 1.0, 0.3]).double(), 0.7, 1.5
    model = linear_beta_vae(beta, sigma)
    optimizer = adam(model.parameters(), 0.02)
    for step in range(900):
        optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / 900)
        loss = model.loss(torch.randn(256, 3).double() * variances.sqrt())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x = torch.randn(40_000, 3).double() * variances.sqrt()
    rate, distortion = rate_and_distortion(model, x)
    noise = 3 * math.log(sigma * math.sqrt(2 * math.pi))
    best_rate, best_error = gaussian_rate_distortion(variances, beta * sigma**2)
    found = beta * rate + distortion - noise
    best = beta * best_rate + best_error / (2 * sigma**2)
    assert best - 0.03 < found < best + 0.03
    assert abs(rate - best_rate) < 0.06


# Surgery ----------------------------------------------------------------------------------


def three_examples() -> Independent:
    """q(z | x_n) of three examples, two dimensions."""
    mu = torch.tensor([[1.5, 0.5], [-1.0, -1.0], [0.2, 1.4]]).double()
    sigma = torch.tensor([[0.5, 0.9], [0.8, 0.4], [0.6, 0.7]]).double()
    return Independent(Normal(mu, sigma), 1)


def surgery_on_a_grid(q: Independent) -> list[float]:
    """The three parts by integration over a fine grid, from densities alone."""
    at = torch.linspace(-8, 8, 641, dtype=torch.float64)
    cell = (at[1] - at[0]).item()
    grid = torch.cartesian_prod(at, at)
    each = q.log_prob(grid[:, None]).exp().view(641, 641, 3)  # q(z | x_n)
    joint = each.mean(-1)
    first, second = joint.sum(1) * cell, joint.sum(0) * cell
    ratio = lambda p, q: torch.where(p > 0, p * (p / q).log(), 0.0)  # noqa: E731
    information = ratio(each, joint[..., None]).sum() / 3 * cell**2
    correlation = ratio(joint, first[:, None] * second).sum() * cell**2
    prior = Normal(0.0, 1.0).log_prob(at).exp()
    marginals = (ratio(first, prior).sum() + ratio(second, prior).sum()) * cell
    return [v.item() for v in (information, correlation, marginals)]


def test_the_three_parts_sum_to_the_average_kl():
    q = three_examples()
    prior = MultivariateNormal(torch.zeros(2).double(), torch.eye(2).double())
    kl = kl_divergence(MultivariateNormal(q.mean, torch.diag_embed(q.variance)), prior)
    assert sum(surgery_on_a_grid(q)) == pytest.approx(kl.mean().item(), abs=1e-9)


def test_surgery_with_the_whole_data_set_is_unbiased():
    """Each part against integration on a grid, within 6 sigma over many draws."""
    torch.manual_seed(0)
    q, prior, draws = three_examples(), StandardNormal(2).double(), []
    for _ in range(4000):
        z = q.sample()
        draws.append(torch.stack(surgery(q, z, prior.log_prob(z), 3)))
    mean, error = torch.stack(draws).mean(0), torch.stack(draws).std(0) / 4000**0.5
    truth = torch.tensor(surgery_on_a_grid(q)).double()
    assert ((mean - truth).abs() < 6 * error).all()
    assert (error < 0.02).all()


def test_the_batch_estimate_of_the_aggregate_is_exact_over_all_batches():
    """Averaged over every batch that holds the code's own example, q(z) comes out."""
    torch.manual_seed(0)
    N, B = 6, 3
    q = Independent(Normal(torch.randn(N, 2).double(), 0.7), 1)
    z = q.sample()[:1]  # one code, of example 0
    estimates = []
    for others in itertools.combinations(range(1, N), B - 1):
        batch = Independent(Normal(q.mean[[0, *others]], 0.7), 1)
        log_q = log_densities(batch, z).sum(-1)
        estimates.append(log_aggregate(log_q, torch.tensor([0]), N).exp())
    truth = q.log_prob(z).exp().mean()
    torch.testing.assert_close(torch.stack(estimates).mean(), truth)
    assert torch.stack(estimates).std() > 0


def test_log_aggregate_of_single_dimensions_and_of_one_example():
    torch.manual_seed(0)
    q = Independent(Normal(torch.randn(4, 2).double(), 0.5), 1)
    z, own = q.sample(), torch.arange(4)
    log_q = log_densities(q, z)
    by_dimension = [log_aggregate(log_q[..., k], own, 9) for k in range(2)]
    torch.testing.assert_close(log_aggregate(log_q, own, 9), torch.stack(by_dimension, 1))
    alone = log_q[:1, :1, 0]
    torch.testing.assert_close(log_aggregate(alone, own[:1], 1), alone[:, 0])


def test_beta_tc_with_beta_one_is_the_vae_on_average_and_prices_correlation():
    torch.manual_seed(0)
    model, x = VAE(6, latent=2, hidden=(8,)).double(), bits(12).double()
    losses = {}
    for beta in (1.0, 4.0):
        torch.manual_seed(1)
        losses[beta] = BetaTC(model, N=12, beta=beta).loss(x)
    torch.manual_seed(1)
    q = model.encode(x)
    z = q.rsample()
    prior = Normal(0.0, 1.0).log_prob(z).sum(-1)
    plain = (q.log_prob(z) - prior - model.log_likelihood(x, z)).mean()
    torch.testing.assert_close(losses[1.0], plain)
    joint = torch.stack([q.log_prob(v).logsumexp(0) for v in z]) - math.log(12)
    each = torch.stack([q.base_dist.log_prob(v).logsumexp(0) for v in z]) - math.log(12)
    torch.testing.assert_close(losses[4.0] - losses[1.0], 3 * (joint - each.sum(-1)).mean())


# MMD and InfoVAE --------------------------------------------------------------------------


def test_mmd2_is_its_double_loop():
    torch.manual_seed(0)
    x, y, h = torch.randn(5, 3).double(), torch.randn(4, 3).double() + 1, 1.3
    xs, ys = x.tolist(), y.tolist()
    k = lambda a, b: math.exp(-sum((i - j) ** 2 for i, j in zip(a, b)) / (2 * h**2))  # noqa: E731
    within = [
        sum(k(a, b) for i, a in enumerate(s) for j, b in enumerate(s) if i != j)
        / (len(s) * (len(s) - 1))
        for s in (xs, ys)
    ]
    across = sum(k(a, b) for a in xs for b in ys) / (len(xs) * len(ys))
    assert mmd2(x, y, h).item() == pytest.approx(sum(within) - 2 * across, abs=1e-12)


def test_mmd2_has_mean_zero_under_equality_and_the_true_mean_otherwise():
    """For Gaussians the expectation is known: integrate the kernel in closed form."""
    torch.manual_seed(0)
    h, n, K = 1.0, 3000, 2
    for shift in (0.0, 1.0):
        draws = torch.stack(
            [mmd2(torch.randn(8, K), torch.randn(6, K) + shift, h) for _ in range(n)]
        )
        # E exp(-|d|^2 / 2 h^2) for d ~ N(m, 2 I): (1 + 2 / h^2)^(-K/2) exp(...)
        wide = h**2 + 2
        mean = lambda m2: (h**2 / wide) ** (K / 2) * math.exp(-m2 / (2 * wide))  # noqa: B023, E731
        truth = 2 * mean(0.0) - 2 * mean(K * shift**2)
        error = draws.std().item() / n**0.5
        assert abs(draws.mean().item() - truth) < 6 * error
        assert error < 0.01


def test_mmd2_has_a_gradient_where_points_coincide():
    x = torch.zeros(3, 2, requires_grad=True)
    mmd2(x, torch.ones(4, 2), 1.0).backward()
    assert x.grad.isfinite().all()
    assert (x.grad < 0).all()  # the points are pulled towards the ones


def test_one_point_has_no_pair():
    with pytest.raises(ValueError, match="expected 2 or more rows"):
        mmd2(torch.zeros(1, 2), torch.zeros(5, 2), 1.0)


def test_info_vae_is_its_equation():
    torch.manual_seed(0)
    model = InfoVAE(6, alpha=0.3, weight=50.0, bandwidth=1.2, latent=3, hidden=(8,))
    x = bits(9)
    torch.manual_seed(1)
    loss = model.loss(x)
    torch.manual_seed(1)
    q = model.encode(x)
    z = q.rsample()
    y = torch.randn(9, 3)
    kl = kl_divergence(q.base_dist, Normal(torch.zeros(3), 1.0)).sum(-1)
    told = 0.7 * kl - model.decode(z).log_prob(x)
    torch.testing.assert_close(loss, told.mean() + 50 * mmd2(z, y, 1.2))
    assert InfoVAE(6, latent=9).bandwidth == 3


def test_kernel_is_one_at_home_and_falls_with_distance():
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0]]).double()
    expected = torch.tensor([[1, math.exp(-12.5)], [math.exp(-12.5), 1]]).double()
    torch.testing.assert_close(gaussian_kernel(x, x, 1.0), expected)


# Disentanglement --------------------------------------------------------------------------


def test_mutual_information_of_known_tables():
    a = torch.tensor([0, 0, 1, 1]).repeat(3)
    b = torch.tensor([0, 1, 0, 1]).repeat(3)
    assert mutual_information(a, b).item() == pytest.approx(0, abs=1e-12)
    assert mutual_information(a, a).item() == pytest.approx(math.log(2))
    noisy = torch.tensor([0] * 3 + [1] + [0] + [1] * 3)  # right with probability 3/4
    truth = math.log(2) + 0.75 * math.log(0.75) + 0.25 * math.log(0.25)
    found = mutual_information(torch.tensor([0] * 4 + [1] * 4), noisy)
    assert found.item() == pytest.approx(truth)
    assert entropy(torch.tensor([2, 2, 4])).item() == pytest.approx(1.5 * math.log(2))


def test_discretise_makes_equal_bins_that_a_monotone_change_keeps():
    torch.manual_seed(0)
    z = torch.randn(1000, 2)
    codes = discretise(z, 10)
    assert torch.stack([c.bincount() for c in codes.T]).eq(100).all()
    assert torch.equal(codes, discretise(z.exp() * 3, 10))
    levels = torch.arange(8).repeat(50)[:, None].float()
    assert len(discretise(levels, 20).unique()) == 8  # equal values stay together


def all_factors() -> torch.Tensor:
    return torch.cartesian_prod(torch.arange(3), torch.arange(8), torch.arange(4)).repeat(
        9, 1
    )


def test_mig_of_a_perfect_code_is_almost_one():
    torch.manual_seed(0)
    v = all_factors()
    z = v[:, [2, 0, 1]] + 0.05 * torch.randn(len(v), 3)  # one each, in any order
    z = torch.cat([z, torch.randn(len(v), 2)], dim=1)  # and two silent ones
    assert mig(z, v) > 0.9
    assert mig(-3 * z**3, v) > 0.9


def test_mig_of_noise_and_of_a_shared_code_is_about_zero():
    torch.manual_seed(0)
    v = all_factors()
    assert mig(torch.randn(len(v), 4), v) < 0.05
    twice = (v + 0.05 * torch.randn(len(v), 3)).repeat(1, 2)  # every factor told twice
    assert mig(twice, v) < 0.05


def test_mig_of_a_rotated_code_is_low():
    """Rotate two codes by 45 degrees: the same information, no gap left."""
    torch.manual_seed(0)
    v = torch.cartesian_prod(torch.arange(10), torch.arange(10)).repeat(40, 1)
    z = v - 4.5 + 0.1 * torch.randn(len(v), 2)
    R = torch.tensor([[1.0, -1.0], [1.0, 1.0]]) / 2**0.5
    assert mig(z, v) > 0.9
    assert mig(z @ R, v) < 0.1


def test_gaps_divide_by_the_entropy_of_the_factor():
    factors = torch.tensor([[0, 0], [1, 1], [0, 2], [1, 3]])
    matrix = torch.tensor([[0.5, 0.1], [0.2, 0.9], [0.3, 0.4]]).double()
    truth = torch.tensor([0.2 / math.log(2), 0.5 / math.log(4)]).double()
    torch.testing.assert_close(gaps(matrix, factors), truth)


def test_disentanglement_asks_for_what_it_needs():
    with pytest.raises(ValueError, match="at least 2"):
        mig(torch.zeros(4, 1), torch.zeros(4, 2).long())
    with pytest.raises(ValueError, match="one each"):
        information_matrix(torch.zeros(4, 2), torch.zeros(5, 2).long())


# House rules ------------------------------------------------------------------------------

MODELS = {
    "BetaVAE": (lambda: BetaVAE(6, latent=3, hidden=(8,)), (6,)),
    "InfoVAE": (lambda: InfoVAE(6, latent=3, hidden=(8,)), (6,)),
    "strong decoder": (
        lambda: InfoVAE(6, latent=3, hidden=(8,), observation=AutoregressivePixels(6)),
        (6,),
    ),
    "ConvBetaVAE": (lambda: ConvBetaVAE((1, 8, 8), latent=3, features=4), (1, 8, 8)),
}


@pytest.mark.parametrize("name", MODELS)
def test_house_rules(name):
    """Protocols, shapes, a gradient for every parameter, a state dict that comes back."""
    make, shape = MODELS[name]
    torch.manual_seed(0)
    model, twin, x = make(), make(), bits(7, math.prod(shape)).view(7, *shape)
    assert isinstance(model, protocols.Sampler)
    assert isinstance(model, protocols.Trainable)
    assert not isinstance(model, protocols.Density)
    assert model.sample(5).shape == (5, *shape)
    assert model.elbo(x).shape == model.iwae(x, 3).shape == (7,)
    loss = model.loss(x)
    loss.backward()
    assert loss.shape == ()
    dead = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not dead
    twin.load_state_dict(model.state_dict())
    torch.manual_seed(1)
    here = model.loss(x)
    torch.manual_seed(1)
    torch.testing.assert_close(twin.loss(x), here)


def test_beta_tc_reaches_every_parameter():
    torch.manual_seed(0)
    model = BetaTC(VAE(6, latent=3, hidden=(8,)), N=100, beta=3.0)
    model.loss(bits(7)).backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


def test_shapes_as_bits_keep_their_colour_and_have_no_fringe():
    """What the lecture and the recipes train on: every pixel is empty or of one colour."""
    factors = torch.cartesian_prod(*[torch.arange(n) for n in (3, 4, 4, 8)])
    place = torch.tensor([[2, 5]]).expand(len(factors), 2)
    factors = torch.cat([factors, place], dim=1)
    x = shapes.to_bits(shapes.draw(factors, 16))
    assert set(x.unique().tolist()) == {0.0, 1.0}
    colours = x.amax((2, 3))
    assert len(colours.unique(dim=0)) == 4
    assert torch.equal(colours[factors[:, 1] == 3], torch.ones(96, 3))  # white
    ink = x.amax(1, keepdim=True)
    assert torch.equal(x, ink * colours[:, :, None, None])
    same = ink.view(3, 4, -1)  # the shape does not depend on its colour
    assert torch.equal(same, same[:, :1].expand_as(same))


def test_recipes_train_on_pictures_and_measure_with_factors():
    """The code of a picture that is its factors, in any order, has a gap of almost 1."""
    splits = shape_bits(size=8, n=50)
    assert splits.train.shape == (50, 192)
    assert [len(part) for part in splits.test] == [5000, 5000]

    class Oracle(torch.nn.Module):
        def encode(self, rows):
            return Independent(Normal(rows.flip(1), 0.05), 1)

    factors = splits.test[1]
    value, error = mig_estimate(Oracle(), (factors.float(), factors))
    assert 0.9 < value < 1.0
    assert 0 < error < 0.02
    assert len({r.settings()["seed"] for r in vae_beta.RECIPES}) == 5
    for kind, beta in (("vae", 1.0), ("betavae", 4.0)):
        models = [r for r in vae_beta.RECIPES if r.name.startswith(f"vae/{kind}-")]
        assert [r.build().beta for r in models] == [beta] * 5


def test_the_bound_of_a_split_is_that_of_its_pictures():
    torch.manual_seed(0)
    model, x = BetaVAE(6, latent=3, hidden=(8,)), bits(2000)
    torch.manual_seed(1)
    value, error = nelbo_estimate(model, (x, torch.zeros(2000, 2)))
    rate, distortion = rate_and_distortion(model, x, draws=5)
    assert abs(value - (rate + distortion).item()) < 6 * error


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
@pytest.mark.parametrize("name", MODELS)
def test_cpu_and_gpu_agree(name):
    make, shape = MODELS[name]
    torch.manual_seed(0)
    model, x = make(), bits(7, math.prod(shape)).view(7, *shape)
    here = model.encode(x).mean
    torch.testing.assert_close(
        model.cuda().encode(x.cuda()).mean.cpu(), here, rtol=1e-4, atol=1e-4
    )
    assert model.loss(x.cuda()).is_cuda
