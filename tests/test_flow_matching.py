"""Flow matching, its couplings, reflow and latents, against closed forms."""

import itertools
import math
import warnings
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from gdm_course.data import toy
from gdm_course.diffusion import flow_matching as fm
from gdm_course.diffusion.ddpm import DDPM
from gdm_course.diffusion.denoiser import Denoiser
from gdm_course.diffusion.dit import DiT, Labelled, PictureFlow
from gdm_course.diffusion.latent_flow import LatentFlow, latent_scale
from gdm_course.diffusion.mixture import MixtureDenoiser
from gdm_course.diffusion.reflow import PlaneFlow, reflow_pairs, straightness
from gdm_course.diffusion.schedule import cosine_schedule
from gdm_course.diffusion.score_sde import ScoreSDE, TrueVelocity
from gdm_course.divergences.samples import energy_distance
from gdm_course.flows.continuous import ContinuousFlow
from gdm_course.flows.ode import DormandPrince, Fixed, euler_step, rk4_step
from gdm_course.flows.solver_error import SolverError, compared, neighbour, solver_error
from gdm_course.learning import teaching
from gdm_course.nets import mlp
from gdm_course.training import generator
from gdm_course.vae.decoders import GaussianPixels
from gdm_course.vae.vae import VAE, LatentModel, StandardNormal

MEANS = torch.tensor([[-1.0, 0.3], [0.8, -0.5], [0.2, 1.1]], dtype=torch.float64)
STD, WEIGHTS = torch.tensor([0.3, 0.5, 0.2]), torch.tensor([0.5, 0.3, 0.2])
EXACT = MixtureDenoiser(MEANS, STD.double(), WEIGHTS.double())


def points(n, seed=1, D=2):
    return torch.randn(n, D, generator=generator(seed), dtype=torch.float64)


def true_flow(**more):
    return fm.FlowMatching(fm.DenoiserVelocity(EXACT), (2,), **more).double()


class Bell(nn.Module):
    """E[x1 - x0 | z] for data N(m, s^2) and the source N(0, 1), every coordinate."""

    def __init__(self, m=0.7, s=0.5):
        super().__init__()
        self.register_buffer("m", torch.tensor(m).double())
        self.s = s

    def forward(self, z, log_snr, y=None):
        t = torch.sigmoid(-log_snr / 2)[:, None]
        var = (1 - t) ** 2 * self.s**2 + t**2
        return -self.m + (t - (1 - t) * self.s**2) / var * (z - (1 - t) * self.m)


def draws(n=40_000, seed=3):
    g = generator(seed)
    k = torch.multinomial(WEIGHTS, n, replacement=True, generator=g)
    eps = torch.randn(n, 2, generator=g).double()
    return MEANS[k] + STD.double()[k, None] * eps


# The velocity -----------------------------------------------------------------------------


def test_the_exact_velocity_is_the_mean_over_all_pairs_by_quadrature():
    """On the line: integrate x1 - x0 over all x0 that may have led to z."""
    means, std = torch.tensor([[-1.0], [0.6]]).double(), torch.tensor([0.3, 0.5]).double()
    w = torch.tensor([0.3, 0.7]).double()
    velocity = fm.DenoiserVelocity(MixtureDenoiser(means, std, w))
    x0 = torch.linspace(-6, 6, 20_001).double()
    prior = (w / std * torch.exp(-(((x0[:, None] - means[:, 0]) / std) ** 2) / 2)).sum(1)
    for t, z in itertools.product((0.1, 0.5, 0.9), (-0.8, 0.1, 1.3)):
        x1 = (z - (1 - t) * x0) / t
        likely = prior * torch.exp(-(x1**2) / 2)
        wanted = (likely * (x1 - x0)).sum() / likely.sum()
        at = torch.tensor([[z]]).double()
        found = velocity(at, fm.clock(t, at))
        torch.testing.assert_close(found[0, 0], wanted, rtol=1e-6, atol=1e-6)


def test_the_velocity_obeys_the_equation_of_continuity():
    """d log p / dt = - div v - v . grad log p, by differences, for z = x |(1 - t, t)|."""
    flow, x, t, h = true_flow(), points(20), 0.4, 1e-4

    def log_p(z, t):
        var = (1 - t) ** 2 * STD.double() ** 2 + t**2
        squares = (z[:, None] - (1 - t) * MEANS).square().sum(-1)
        parts = WEIGHTS.double().log() - squares / (2 * var) - torch.log(2 * math.pi * var)
        return parts.logsumexp(1)

    rate = (log_p(x, t + h) - log_p(x, t - h)) / (2 * h)
    x.requires_grad_()
    v = flow.velocity(x, t)
    div = sum(
        torch.autograd.grad(v[:, d].sum(), x, retain_graph=True)[0][:, d] for d in (0, 1)
    )
    score = torch.autograd.grad(log_p(x, t).sum(), x)[0]
    torch.testing.assert_close(rate, (-div - (v * score).sum(1)), rtol=1e-5, atol=1e-5)


def test_the_loss_has_its_minimum_at_the_exact_velocity():
    """The floor is the variance of x1 - x0 given z; any change adds to it."""
    x = draws()
    flow, other = true_flow(), true_flow()
    other.net = nn.Module()
    other.net.forward = lambda z, snr, y=None: flow.net(z, snr) + 0.3
    torch.manual_seed(0)
    floor = flow.loss(x)
    torch.manual_seed(0)
    more = other.loss(x)
    assert 0.3 < floor < 2
    assert abs(more - floor - 0.09) < 0.02


def test_the_times_of_training_are_even():
    flow = true_flow()
    seen = []
    flow.velocity = lambda x, t: seen.append(t) or x
    flow.loss(points(1000))
    t = seen[0].sort().values
    assert (t - (torch.arange(1000) + 0.5) / 1000).abs().max() < 1 / 1000


def test_a_diffusion_is_a_flow_and_its_paths_are_the_same_points():
    """The ODE of `ScoreSDE` and that of the flow, by many steps, and the truth."""
    stream = ScoreSDE(TrueVelocity(EXACT), (2,))
    x, solver = draws(10), Fixed(rk4_step, 40)
    stream.solver, flow = solver, true_flow(solver=solver)
    torch.testing.assert_close(flow.log_prob(x), stream.log_prob(x), rtol=0, atol=2e-2)
    torch.testing.assert_close(flow.log_prob(x), EXACT.log_p(x, 40.0), rtol=0, atol=2e-2)


def test_a_trained_ddpm_and_its_flow_say_the_same_clean_point():
    torch.manual_seed(0)
    ddpm = DDPM(Denoiser(2, hidden=8), (2,), schedule=cosine_schedule(10)).double()
    flow = fm.FlowMatching(fm.DenoiserVelocity(ddpm.denoise), (2,)).double()
    z, t = points(6), torch.linspace(0.1, 0.9, 6).double()
    r = (t**2 + (1 - t) ** 2).sqrt()[:, None]
    log_snr = 2 * torch.log((1 - t) / t)
    x0 = z - t[:, None] * flow.velocity(z, t)
    torch.testing.assert_close(x0, ddpm.denoise(z / r, log_snr))


# Sampling and likelihood ------------------------------------------------------------------


def test_euler_on_bells_is_a_recursion_of_numbers():
    """The flow of a bell is linear: mean and deviation of its samples without a draw."""
    flow, x1, steps = fm.FlowMatching(Bell(), (2,)).double(), points(5), 7
    a, b = 1.0, 0.0
    for k in range(steps):
        t = min(max(1 - k / steps, fm.LEAST), 1 - fm.LEAST)
        slope = (t - (1 - t) * 0.25) / ((1 - t) ** 2 * 0.25 + t**2)
        a, b = a - slope / steps * a, b - (-0.7 + slope * (b - (1 - t) * 0.7)) / steps
    path = flow.path(x1, steps)
    assert path.shape == (8, 5, 2)
    torch.testing.assert_close(path[-1], a * x1 + b)


def test_many_steps_have_the_moments_of_the_data():
    torch.manual_seed(0)
    x = true_flow().sample(20_000, 60)
    truth = draws(100_000)
    assert (x.mean(0) - truth.mean(0)).abs().max() < 0.03
    assert (x.std(0) / truth.std(0) - 1).abs().max() < 0.03


def test_one_step_is_the_mean_of_the_data():
    """At t = 1 nothing is known: every point goes to E[x0]."""
    x = true_flow().sample(1000, 1)
    mean = (WEIGHTS.double()[:, None] * MEANS).sum(0)
    assert (x - mean).abs().max() < 0.05


def test_log_prob_of_a_bell_is_exact():
    flow = fm.FlowMatching(Bell(), (2,), solver=Fixed(rk4_step, 60)).double()
    x = 0.7 + 0.5 * points(20)
    normal = torch.distributions.Normal(0.7, 0.5)
    torch.testing.assert_close(
        flow.log_prob(x), normal.log_prob(x).sum(1), rtol=0, atol=1e-2
    )


def test_any_source():
    """From a shifted bell: the velocity that carries N(1, 1) to N(1, 4) is known."""

    class Slope(nn.Module):
        def forward(self, z, log_snr, y=None):  # x0 = 1 + e, x1 = 1 + 2 e: (z - 1)/(1 + t)
            t = torch.sigmoid(-log_snr / 2)[:, None]
            return (z - 1) / (1 + t)

    bell = torch.distributions.Independent(
        torch.distributions.Normal(torch.ones(2).double(), 2.0), 1
    )
    source = SimpleNamespace(sample=lambda n: bell.sample((n,)), log_prob=bell.log_prob)
    flow = fm.FlowMatching(Slope(), (2,), source=source)
    flow.register_buffer("kind", torch.zeros(1).double())
    x = 1 + points(9)
    wanted = torch.distributions.Normal(1.0, 1.0).log_prob(x).sum(1)
    torch.testing.assert_close(flow.log_prob(x), wanted, rtol=0, atol=2e-3)
    torch.manual_seed(0)
    assert abs(flow.sample(20_000, 100).std() - 1) < 0.03


# Couplings --------------------------------------------------------------------------------


def test_optimal_pairs_are_the_best_of_all_orders():
    for seed in range(5):
        x0, x1 = points(6, seed), points(6, seed + 50)
        cost = torch.cdist(x0, x1).square()
        best = min(
            sum(cost[i, k].item() for i, k in enumerate(order))
            for order in itertools.permutations(range(6))
        )
        paired = fm.optimal(x0, x1)
        assert abs((x0 - paired).square().sum().item() - best) < 1e-9
        assert torch.equal(paired.sort(0).values, x1.sort(0).values)


def test_on_the_line_the_optimal_pairs_are_sorted():
    x0, x1 = points(50, 1, 1), points(50, 2, 1)
    paired = fm.optimal(x0, x1)
    order = x0[:, 0].argsort()
    assert torch.equal(paired[order, 0], x1[:, 0].sort().values)


def test_given_pairs_are_not_paired_anew():
    flow = true_flow(coupling=lambda x0, x1: pytest.fail("paired"))
    flow.times = torch.zeros
    x0, x1 = points(4), points(4, 2)
    flow.velocity = lambda x, t: x1 - x0 if torch.equal(x, x0) else pytest.fail("no x0")
    assert flow.loss(x0, x1) == 0
    with pytest.raises(ValueError, match="x1 has shape"):
        flow.loss(x0, x1[:, :1])


# Reflow -----------------------------------------------------------------------------------


def test_straightness():
    x0, x1 = points(9, 1), points(9, 2)
    times = torch.linspace(0, 1, 5).double()[:, None, None]
    assert straightness(x0 + times * (x1 - x0)) < 1e-12
    uneven = x0 + times**2 * (x1 - x0)  # speed 2 t: int (2t - 1)^2 dt, by four steps
    assert abs(straightness(uneven) - 5 / 16) < 1e-12
    assert abs(straightness(uneven.flip(0)) - 5 / 16) < 1e-12


def test_pairs_of_reflow_are_the_ends_of_one_path():
    torch.manual_seed(0)
    flow = true_flow()
    x0, x1 = reflow_pairs(flow, 6, 20)
    assert torch.equal(flow.path(x1, 20)[-1], x0)


def test_a_plane_flow_is_the_same_flow_of_other_units():
    torch.manual_seed(0)
    flow = PlaneFlow(2, shift=0.5, scale=2.0, hidden=8, depth=1).double().eval()
    inner = fm.FlowMatching(flow.net, (2,)).double()
    x = points(7)
    wanted = inner.log_prob((x - 0.5) / 2) - 2 * math.log(2)
    torch.testing.assert_close(flow.log_prob(x), wanted)
    torch.manual_seed(1)
    a = flow.sample(5, 4)
    torch.manual_seed(1)
    torch.testing.assert_close(a, inner.sample(5, 4) * 2 + 0.5)
    with pytest.raises(ValueError, match="scale is 0"):
        PlaneFlow(2, scale=0)


def test_energy_distance_by_loops_and_of_bells():
    x, y = points(8, 1), points(5, 2)
    far = [[math.dist(a, b) for b in y.tolist()] for a in x.tolist()]
    own = [
        sum(math.dist(a, b) for a, b in itertools.permutations(t.tolist(), 2))
        / (len(t) * (len(t) - 1))
        for t in (x, y)
    ]
    wanted = 2 * sum(map(sum, far)) / 40 - sum(own)
    assert abs(energy_distance(x, y).item() - wanted) < 1e-12
    same = energy_distance(points(3000, 3), points(3000, 4))
    assert abs(same) < 5e-3 < energy_distance(points(3000, 3), points(3000, 4) + 0.3)


# Latents ----------------------------------------------------------------------------------


def linear_vae():
    """x = z + 0.5 eps, z ~ N(0, I), with its exact posterior N(0.8 x, 0.2)."""
    encoder, decoder = nn.Linear(2, 4), nn.Linear(2, 2)
    with torch.no_grad():
        encoder.weight.copy_(torch.cat([0.8 * torch.eye(2), torch.zeros(2, 2)]))
        encoder.bias.copy_(torch.tensor([0, 0, *[0.5 * math.log(0.2)] * 2]))
        decoder.weight.copy_(torch.eye(2))
        decoder.bias.zero_()
    ends = encoder, nn.Sequential(decoder, nn.Unflatten(-1, (1, 2)))
    return LatentModel((2,), *ends, GaussianPixels(0.5), StandardNormal(2)).double()


class Known(nn.Module):
    """A flow whose density is a Gaussian that is known."""

    def __init__(self, scale):
        super().__init__()
        self.normal, self.shape = torch.distributions.Normal(0.0, scale), (2,)

    def log_prob(self, u):
        return self.normal.log_prob(u).sum(1)

    def sample(self, n, steps):
        return self.normal.sample((n, 2)).double()


def test_the_bound_with_a_flow_prior_is_exact_where_all_is_known():
    """Prior of z N(0, 1), told as u = (z - shift) / scale: then elbo is log p(x)."""
    vae, x = linear_vae(), points(200)
    wanted = torch.distributions.Normal(0.0, 1.25**0.5).log_prob(x).sum(1)
    model = LatentFlow(vae, Known(1 / 1.7), scale=1.7).double()
    torch.testing.assert_close(model.elbo(x), wanted, rtol=1e-4, atol=1e-4)
    wide = LatentFlow(vae, Known(1.0), scale=1.7).double()
    assert (wanted - wide.elbo(x)).mean() > 0.1
    torch.manual_seed(0)
    assert abs(model.sample(20_000).std() - 1.25**0.5) < 0.03


def test_only_the_flow_is_trained():
    torch.manual_seed(0)
    vae = VAE(4, latent=2, hidden=(6,))
    model = LatentFlow(vae, fm.FlowMatching(Denoiser(2, hidden=8), (2,)))
    model.loss((torch.rand(9, 4) < 0.5).float()).backward()
    assert all(p.grad is None for p in vae.parameters())
    assert any(p.grad.abs().sum() > 0 for p in model.prior.flow.parameters())
    with pytest.raises(ValueError, match="scale has numbers that are not above 0"):
        LatentFlow(vae, model.prior.flow, scale=0.0)


def test_latent_scale():
    torch.manual_seed(0)
    shift, scale = latent_scale(linear_vae(), 3 + 1.25**0.5 * points(20_000))
    assert (shift - 2.4).abs().max() < 0.05
    assert (scale - 1).abs().max() < 0.03


# The transformer --------------------------------------------------------------------------


def test_a_dit_starts_at_nothing_and_then_sees_everything():
    torch.manual_seed(0)
    net = DiT((2, 8, 8), patch=4, width=16, depth=2, heads=2, classes=3)
    x, snr = torch.randn(3, 2, 8, 8), torch.zeros(3)
    assert net(x, snr).abs().max() == 0
    for p in net.parameters():
        nn.init.normal_(p, std=0.3)
    before = net(x, snr)
    moved = x.clone()
    moved[:, 0, 0, 0] += 1
    assert ((net(moved, snr) - before).abs().amax((0, 1)) > 0).all()  # attention
    assert not torch.allclose(net(x, snr + 1), before)
    y = torch.tensor([0, 1, 2])
    assert not torch.allclose(net(x, snr, y), before)
    torch.testing.assert_close(Labelled(net, y)(x, snr), net(x, snr, y))
    net(x, snr, y).square().sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    with pytest.raises(ValueError, match="patch is 3: expected a divisor"):
        DiT((1, 8, 8), patch=3)


def test_patches_come_back_to_their_place():
    net = DiT((1, 4, 6), patch=2, width=8, depth=1, heads=2)
    with torch.no_grad():  # the stream is the patch itself, and so is what is read out
        net.cut.weight.copy_(torch.eye(8)[:, :4].reshape(8, 1, 2, 2))
        net.cut.bias.zero_(), net.place.zero_()
        net.norm = nn.Identity()
        net.out.weight.copy_(torch.eye(4, 8))
    x = torch.arange(24.0).view(1, 1, 4, 6)
    torch.testing.assert_close(net(x, torch.zeros(1)), x)


def test_a_picture_flow_hides_labels():
    torch.manual_seed(0)
    model = PictureFlow(
        (1, 4, 4), 5, classes=3, drop=1.0, patch=2, width=8, depth=1, heads=2
    )
    for p in model.parameters():
        nn.init.normal_(p, std=0.3)
    x, y = torch.randint(5, (6, 1, 4, 4)), torch.tensor([0, 1, 2, 0, 1, 2])
    said = []
    for labels in (y, None):
        torch.manual_seed(1)
        torch.rand(6) if labels is None else None  # which to hide is drawn first
        said.append(model.loss(x, labels).item())
    assert abs(said[0] - said[1]) < 1e-6


# The solver's error -----------------------------------------------------------------------


def test_a_coarse_solver_is_told_and_a_fine_one_is_not():
    x = draws(40)
    coarse, fine = (
        true_flow(solver=Fixed(euler_step, 3)),
        true_flow(solver=Fixed(rk4_step, 64)),
    )
    with pytest.warns(SolverError, match=r"off by about .* \(Fixed, 3 steps\)"):
        coarse.log_prob(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fine.log_prob(x)
        with teaching():  # a step of training: not looked at
            coarse.log_prob(x.requires_grad_())


@pytest.mark.parametrize("steps", [1, 2, 4, 8, 16])
def test_the_estimate_is_of_the_size_of_the_error(steps):
    """Beside the exact density: within a factor of three, Euler as well as Runge-Kutta."""
    x = draws(32)
    truth = EXACT.log_p(x, 40.0)
    for step in (euler_step, rk4_step):
        flow = true_flow(solver=Fixed(step, steps))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SolverError)
            off = (flow.log_prob(x) - truth).abs().mean()
        told = solver_error(flow, x).mean()
        assert told > 0.25 * off or off < 0.02
        assert told < 4 * off or off < 0.02


def test_other_models_with_an_ode_are_accountable():
    torch.manual_seed(0)
    rough = ContinuousFlow(2, solver=Fixed(euler_step, 1)).double().eval()
    for p in rough.parameters():
        nn.init.normal_(p, std=1.5)
    with pytest.warns(SolverError, match="ContinuousFlow"):
        rough.log_prob(points(9))
    calls = rough.ode.calls
    assert calls == 1  # of the map that was asked for
    assert rough.ode.solver == Fixed(euler_step, 1)
    stream = ScoreSDE(TrueVelocity(EXACT), (2,), solver=Fixed(rk4_step, 2))
    with pytest.warns(SolverError, match="ScoreSDE"):
        stream.log_prob(draws(9))


@pytest.mark.parametrize("tolerance", [3e-1, 1e-1, 3e-2, 1e-2, 1e-3])
def test_the_estimate_is_of_the_size_of_an_adaptive_solvers_error(tolerance):
    x = draws(32)
    flow = true_flow(solver=DormandPrince(tolerance, tolerance))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SolverError)
        off = (flow.log_prob(x) - EXACT.log_p(x, 40.0)).abs().mean()
    told = solver_error(flow, x).mean()
    assert told > 0.25 * off or off < 0.02
    assert told < 4 * off or told < 0.02


def test_a_fine_adaptive_solver_is_compared_with_a_looser_one():
    strict = DormandPrince(1e-6, 1e-6)
    assert neighbour(strict) == DormandPrince(4e-6, 4e-6)
    flow = true_flow(solver=strict)
    assert solver_error(flow, draws(9)).max() < 1e-2
    flow.solver = lambda f, x, times: [x, x]
    assert compared(type(flow).log_prob, flow, draws(9)) is None


def test_toys_are_sources():
    quick = DormandPrince(1e-3, 1e-3)
    moons, net = toy.get("two_moons"), Denoiser(2, hidden=8, waves=0)
    flow = fm.FlowMatching(net, (2,), source=moons, solver=quick)
    assert flow.loss(torch.randn(5, 2)).isfinite()
    assert flow.eval().log_prob(torch.randn(3, 2)).shape == (3,)


def test_the_latent_bound_is_below_the_importance_weighted_one():
    torch.manual_seed(0)
    vae = VAE(4, latent=2, hidden=(6,)).eval()
    quick = Fixed(rk4_step, 2)
    model = LatentFlow(vae, fm.FlowMatching(mlp_net(), (2,), solver=quick)).eval()
    x = (torch.rand(4, 4) < 0.5).float()
    one = torch.stack([model.elbo(x) for _ in range(20)])
    assert (one.logsumexp(0) - math.log(20) >= one.mean(0)).all()


def mlp_net():
    net = nn.Module()
    net.layer = mlp((2, 8, 2))
    net.forward = lambda x, snr, y=None: net.layer(x)
    return net
