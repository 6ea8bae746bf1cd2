"""One step: Gaussian data, where the whole map is a formula, and losses by hand."""

import copy
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from gdm_course.data import toy
from gdm_course.diffusion import consistency as co
from gdm_course.diffusion import meanflow as mf
from gdm_course.diffusion import moment_matching as mm
from gdm_course.diffusion import shortcut as sh
from gdm_course.diffusion.denoiser import Denoiser
from gdm_course.diffusion.flow_matching import DenoiserVelocity, FlowMatching
from gdm_course.diffusion.mean_velocity import JumpNet, JumpUNet, MeanVelocity
from gdm_course.diffusion.mixture import MixtureDenoiser
from gdm_course.evaluation.energy_distance import energy_estimate
from gdm_course.training import generator, seed_everything

V = torch.tensor([0.25, 2.0], dtype=torch.float64)  # variances of Gaussian data


def draws(n=7, seed=1):
    return torch.randn(n, 2, generator=generator(seed), dtype=torch.float64)


def column(v):
    return v[:, None]


class ExactEnd(nn.Module):
    """What a network must say so that f(z, s) is z sqrt((V + low^2) / (V + s^2))."""

    def __init__(self, low):
        super().__init__()
        self.low, self.D = low, 2
        self.register_buffer("one", torch.ones((), dtype=torch.float64))

    def forward(self, x, log_snr, y=None):
        s = torch.exp(-log_snr / 2)[:, None]
        z = x * (s**2 + 1).sqrt()
        end = z * ((V + self.low**2) / (V + s**2)).sqrt()
        skip = 1 / ((s - self.low) ** 2 + 1)
        return (skip * z - end) / ((s - self.low) / (s**2 + 1).sqrt())


def size(t):
    """The standard deviation of z_t = (1 - t) x0 + t eps: (B,) -> (B, 2)."""
    return ((1 - column(t)) ** 2 * V + column(t) ** 2).sqrt()


class ExactMean(nn.Module):
    """The mean velocity of Gaussian data: z moves in proportion to its own size."""

    def __init__(self):
        super().__init__()
        self.register_buffer("one", torch.ones((), dtype=torch.float64))

    def forward(self, z, t, r):
        far = column(t - r)
        var = (1 - column(t)) ** 2 * V + column(t) ** 2
        now = z * (column(t) - (1 - column(t)) * V) / var
        mean = (z - z * size(r) / size(t)) / far.where(far > 0, 1)
        return mean.where(far > 0, now)


def velocity(z, t):
    return ExactMean()(z, t, t)


# The truth for one step -------------------------------------------------------------------


def test_the_solution_map_of_gaussian_data_is_a_stretch():
    def denoise(x, log_snr):
        return x * V * s2(log_snr)[0] / (V * s2(log_snr)[1] + s2(log_snr)[2])

    def s2(log_snr):
        alpha = log_snr.sigmoid().sqrt()[:, None]
        return alpha, alpha**2, (-log_snr).sigmoid()[:, None]

    eps = draws()
    errors = [
        (co.solution_map(denoise, eps, n) - eps * V.sqrt()).abs().max() for n in (50, 100)
    ]
    assert errors[1] < 1e-2
    assert errors[1] < 0.4 * errors[0]


def test_the_solution_map_agrees_with_runge_kutta_in_the_clock_of_flows():
    law = toy.get("eight_gaussians").law
    best = MixtureDenoiser(law.means, law.sigma, law.weights)
    eps = draws(20)
    flow = FlowMatching(DenoiserVelocity(best), (2,)).double()
    other = flow.path(eps, 1500)[-1]
    found = co.solution_map(best, eps, 200)
    assert (found - other).norm(dim=1).median() < 0.02


# Consistency ------------------------------------------------------------------------------


def test_the_boundary_is_exact_whatever_the_network_says():
    seed_everything(0)
    model = co.ConsistencyModel(Denoiser(2), low=0.3, sigma_data=0.7).double()
    z = draws()
    assert torch.equal(model(z, 0.3), z)
    assert not torch.equal(model(z, 0.31), z)
    c_skip, c_out = co.boundary(torch.tensor([0.3, 1.0]), 0.3, 0.7)
    assert c_skip[0] == 1
    assert c_out[0] == 0
    assert c_out[1].item() == pytest.approx(0.7 * 0.7 / math.hypot(1.0, 0.7))


def test_an_exact_network_gives_the_map_and_two_steps_keep_the_law():
    """Jump, noise of std sqrt(s^2 - low^2), jump: each law is a variance."""
    low, high = 0.8, 4.0
    model = co.ConsistencyModel(ExactEnd(low), low=low, high=high)
    z = draws()
    right = z * ((V + low**2) / (V + 9)).sqrt()
    torch.testing.assert_close(model(z, 3.0), right, rtol=1e-12, atol=1e-12)
    seed_everything(0)
    x = model.sample(100_000, 2)
    first = high**2 * (V + low**2) / (V + high**2)
    s2 = low * high  # the level in the middle of log s, squared
    var = (first + s2 - low**2) * (V + low**2) / (V + s2)
    assert (x.var(0) / var - 1).abs().max() < 6 * math.sqrt(2 / 1e5)
    wrong = (first + s2) * (V + low**2) / (V + s2)
    assert (wrong / var - 1).max() > 12 * math.sqrt(2 / 1e5)


class Recorder(nn.Module):
    """Says 0, and remembers what it saw."""

    def __init__(self):
        super().__init__()
        self.D, self.seen, self.p = 2, [], nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(self, x, log_snr, y=None):
        s = torch.exp(-log_snr / 2)[:, None]
        self.seen.append((x * (s * s + 1).sqrt(), s))  # z, s
        return 0 * x + self.p


def test_both_levels_get_the_same_noise_and_are_neighbours():
    net, x = Recorder(), draws(400)
    model, N = co.ConsistencyModel(net, N=12), 12
    loss = model.loss(x)
    (z, more), (w, less) = net.seen
    torch.testing.assert_close((z - x) / more, (w - x) / less, rtol=1e-6, atol=1e-6)

    def root(s):
        return s ** (1 / 7)

    place = (root(more) - root(0.01)) / (root(20.0) - root(0.01)) * (N - 1)
    steps = (root(more) - root(less)) / (root(20.0) - root(0.01)) * (N - 1)
    torch.testing.assert_close(steps, torch.ones_like(steps), rtol=1e-3, atol=1e-3)
    assert place.round().unique().numel() > 8
    assert place.max() < N - 0.9

    def skip(s):
        return 1 / ((s - 0.01) ** 2 + 1)

    gap = (skip(more) * z - skip(less) * w).square().sum(1)
    hand = ((gap + 0.03**2).sqrt() - 0.03) / (more - less)[:, 0]
    assert loss.item() == pytest.approx(hand.mean().item(), rel=1e-5)


@pytest.mark.parametrize("stop", [True, False])
def test_the_teacher_gets_a_gradient_only_if_asked(stop):
    seed_everything(0)
    net, x = Denoiser(2, hidden=8, depth=1).double(), draws(50)
    model = co.ConsistencyModel(net, stop=stop)

    def slope(student, teacher):
        seed_everything(1)
        less, more = (v.double()[:, None] for v in co.neighbours(50, 0.01, 20.0, 40))
        eps = torch.randn_like(x)
        a, b = student(x + more * eps, more[:, 0]), teacher(x + less * eps, less[:, 0])
        loss = (((a - b).square().sum(1) + 0.03**2).sqrt() / (more - less)[:, 0]).mean()
        return torch.autograd.grad(loss, net.out.weight)[0]

    right = slope(model, copy.deepcopy(model) if stop else model)
    seed_everything(1)
    model.loss(x).backward()
    torch.testing.assert_close(net.out.weight.grad, right, rtol=1e-6, atol=1e-9)


# Mean velocity ----------------------------------------------------------------------------


def some_times(n=7):
    r, t = torch.rand(2, n, generator=generator(3), dtype=torch.float64).sort(0).values
    return t, r


def test_an_exact_mean_velocity_lands_in_any_number_of_jumps():
    model, eps = MeanVelocity(ExactMean(), (2,)), draws()
    for n in (1, 2, 5):
        torch.testing.assert_close(model.walk(eps, n), eps * V.sqrt(), rtol=1e-9, atol=1e-9)


def test_halves_of_an_exact_mean_velocity_are_the_whole():
    model, z = sh.Shortcut(ExactMean(), (2,), K=3), draws(6)
    d = torch.tensor([1, 0.5, 0.5, 1, 0.5, 0.25]).double()
    t = torch.tensor([1, 1, 0.5, 1, 0.5, 0.75]).double()
    whole, found = ExactMean()(z, t, t - d), model.halves(z, t, d)
    torch.testing.assert_close(found[:5], whole[:5], rtol=1e-10, atol=1e-10)
    first = velocity(z[5:], t[5:])  # the shortest jump: two steps of Euler
    second = velocity(z[5:] - first / 8, t[5:] - 1 / 8)
    torch.testing.assert_close(found[5:], (first + second) / 2, rtol=1e-12, atol=1e-12)


def test_jumps_begin_where_as_many_fit():
    d, t = sh.dyadic(5000, 4)
    assert set(d.tolist()) == {1.0, 0.5, 0.25, 0.125}
    assert t.max() == 1
    assert torch.equal(t / d, (t / d).round())
    assert (t >= d).all()
    assert set(t[d == 0.25].tolist()) == {0.25, 0.5, 0.75, 1.0}


def test_shortcut_and_meanflow_without_jumps_are_flow_matching():
    """share = 0, same = 1: the mean squared error of eps - x0, on the same draws."""
    x = draws(64)
    for model in (
        sh.Shortcut(ExactMean(), (2,), share=0.0),
        mf.MeanFlow(ExactMean(), (2,), same=1.0, power=0.0),
        mf.ImprovedMeanFlow(ExactMean(), (2,), same=1.0, power=0.0),
    ):
        seed_everything(4)
        loss = model.loss(x)
        seed_everything(4)
        eps = torch.randn_like(x)
        if isinstance(model, mf.MeanFlow):
            t, _ = mf.times(64, 1.0)
        else:
            sh.dyadic(0, 6)
            t = torch.rand(64)
        t = t.double()
        z = (1 - column(t)) * x + column(t) * eps
        assert loss.item() == pytest.approx(
            (velocity(z, t) - (eps - x)).square().mean().item(), rel=1e-9
        )


def test_the_identity_of_mean_velocities():
    z, (t, r) = draws(), some_times()
    v = velocity(z, t)
    u, slope = mf.mean_and_slope(ExactMean(), z, t, r, v)
    torch.testing.assert_close(u, v - column(t - r) * slope, rtol=1e-9, atol=1e-10)
    for kind in (mf.MeanFlow, mf.ImprovedMeanFlow):
        error = kind(ExactMean(), (2,)).error(z, t, r, v)
        assert error.abs().max() < 1e-9


def test_the_slope_is_that_of_finite_differences():
    seed_everything(0)
    net, z, v = JumpNet(2).double(), draws(), draws(seed=2)
    t, r = some_times()
    _, slope = mf.mean_and_slope(net, z, t, r, v)
    h = 1e-5
    ahead, behind = net(z + h * v, t + h, r), net(z - h * v, t - h, r)
    torch.testing.assert_close(slope, (ahead - behind) / (2 * h), rtol=1e-6, atol=1e-7)


def test_the_targets_have_no_gradient():
    seed_everything(0)
    net, x = JumpNet(2, hidden=8, depth=1).double(), draws(40)
    frozen = copy.deepcopy(net)
    for kind in (mf.MeanFlow, mf.ImprovedMeanFlow):
        seed_everything(5)
        loss = kind(net, (2,), power=0.0).loss(x)
        found = torch.autograd.grad(loss, net.out.weight)[0]
        seed_everything(5)
        eps = torch.randn_like(x)
        t, r = (w.double() for w in mf.times(40, 0.5))
        z, v = (1 - column(t)) * x + column(t) * eps, eps - x
        along = v if kind is mf.MeanFlow else frozen(z, t, t)
        _, slope = mf.mean_and_slope(frozen, z, t, r, along.detach())
        target = v - column(t - r) * slope.detach()
        right = torch.autograd.grad((net(z, t, r) - target).square().mean(), net.out.weight)
        torch.testing.assert_close(found, right[0], rtol=1e-8, atol=1e-10)


def test_times_are_ordered_and_a_share_is_equal():
    t, r = mf.times(20_000, 0.3)
    assert (t >= r).all()
    assert r.min() >= 0
    assert t.max() <= 1
    assert abs((t == r).double().mean() - 0.3) < 6 * math.sqrt(0.21 / 20_000)


def test_a_unet_of_two_times_hears_both():
    seed_everything(0)
    net, z = JumpUNet(1, width=4), torch.randn(2, 1, 8, 8)
    for p in net.parameters():
        nn.init.normal_(p, std=0.3)
    t, r = torch.tensor([0.8, 0.8]), torch.tensor([0.1, 0.5])
    said = net(z[:1].expand(2, -1, -1, -1), t, r)
    assert (said[0] - said[1]).abs().max() > 1e-4
    assert (net(z, t, r) - net(z, t - 0.1, r - 0.1)).abs().max() > 1e-4
    assert MeanVelocity(net, (1, 8, 8)).sample(3, 2).shape == (3, 1, 8, 8)


# Moments, and the measure -----------------------------------------------------------------


def test_the_energy_of_clouds_is_scipys_and_0_for_equal_ones():
    a, b = draws(6).T[:, :, None], draws(6, 2).T[:, :, None]  # two groups of 6 numbers
    right = [stats.energy_distance(p.ravel(), q.ravel()) ** 2 for p, q in zip(a, b)]
    np.testing.assert_allclose(mm.energy(a, b), right, atol=5e-3)
    assert mm.energy(a, a.flip(1)).abs().max() < 1e-12


def test_an_exact_mean_velocity_and_one_pair_is_a_distance():
    """With M = 1 the loss is 2 |a - b| per gap: Consistency."""
    x = draws(30)
    model = mm.MomentMatching(ExactMean(), (2,), M=1)
    seed_everything(6)
    loss = model.loss(x)
    seed_everything(6)
    r, t = torch.rand(2, 30, 1).sort(0).values.double()[..., 0]
    m, eps = torch.maximum(r, t - 0.05), torch.randn_like(x)
    a, b = (((1 - column(k)) * x + column(k) * eps) * size(r) / size(k) for k in (t, m))
    hand = (2 * ((a - b).square().sum(1) + 1e-6).sqrt() - 2e-3) / (t - m).clamp(min=1e-3)
    assert loss.item() == pytest.approx(hand.mean().item(), rel=1e-6)


def test_a_sampler_of_the_truth_has_the_energy_distance_0():
    class Truth(nn.Module):
        def sample(self, n):
            return law.sample(n, g).float()

    law, g = toy.get("eight_gaussians").law, generator(0)
    value, error = energy_estimate(Truth(), law.sample(10_000, g).float(), 1000)[:2]
    assert abs(value) < 6 * error < 60


@pytest.mark.parametrize(
    "make",
    [
        lambda: co.ConsistencyModel(Denoiser(2), N=1),
        lambda: co.ConsistencyModel(Denoiser(2), low=2.0, high=1.0),
        lambda: sh.Shortcut(JumpNet(2), (2,), share=1.5),
        lambda: mf.MeanFlow(JumpNet(2), (2,), same=-0.1),
        lambda: mm.MomentMatching(JumpNet(2), (2,), gap=0.0),
        lambda: JumpNet(0),
    ],
)
def test_what_cannot_be_is_refused(make):
    with pytest.raises(ValueError, match="expected"):
        make()
