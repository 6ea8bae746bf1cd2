"""The unit diffusion/ddpm: the chain against Bayes, samplers against recursions."""

import math
from itertools import pairwise

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from gdm_course.data import toy
from gdm_course.diffusion import ddpm
from gdm_course.diffusion import schedule as schedules
from gdm_course.diffusion.ddim import ddim, ddim_step, strided
from gdm_course.diffusion.decoders import LevelDecoder, RealDecoder
from gdm_course.diffusion.denoiser import Denoiser
from gdm_course.diffusion.mixture import MixtureDenoiser
from gdm_course.diffusion.schedule import (
    Schedule,
    cosine_schedule,
    linear_schedule,
    log_snr_schedule,
    posterior,
    q_sample,
    step_kl,
)
from gdm_course.diffusion.targets import Clean, Noise, Velocity
from gdm_course.diffusion.unet import UNet
from gdm_course.evaluation.chains import bells_excess, chain_bits, moons_excess
from gdm_course.scale.pictures import labelled_codes
from gdm_course.training import generator

SCHEDULES = [
    linear_schedule(30),
    linear_schedule(30, rescale=False),
    cosine_schedule(30),
    log_snr_schedule(30),
]
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES)
for one in SCHEDULES:
    one.double()


def moons(sigma: float | None = None) -> MixtureDenoiser:
    law = toy.get("two_moons").law
    return MixtureDenoiser(law.means, law.sigma if sigma is None else sigma, law.weights)


# Schedules --------------------------------------------------------------------------------


def test_the_linear_schedule_is_the_papers():
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    schedule = linear_schedule(1000)
    told = schedule.alpha(torch.arange(1001)).double().square()
    torch.testing.assert_close(told[1:], (1 - beta).cumprod(0), rtol=2e-5, atol=0)
    assert told[0] == 1
    assert told[-1] == pytest.approx(4.04e-5, rel=1e-2)


def test_steps_made_for_1000_leave_signal_after_100():
    assert linear_schedule(100, rescale=False).alpha(100).square() == pytest.approx(
        0.3636, abs=1e-3
    )
    assert linear_schedule(100).alpha(100).square() < 1e-4


@every_schedule
def test_noise_grows_and_variance_is_kept(schedule):
    t = torch.arange(schedule.T + 1)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(alpha))
    assert (schedule.log_snr(t).diff() < 0).all()
    assert alpha[0] == 1
    assert sigma[0] == 0


def test_log_snr_falls_in_equal_steps_and_keeps_its_digits():
    schedule = log_snr_schedule(50, high=13.3, low=-5)
    told = schedule.log_snr(torch.arange(1, 51))
    torch.testing.assert_close(told, torch.linspace(13.3, -5, 50), rtol=1e-6, atol=1e-6)
    assert schedule.sigma(1) == pytest.approx(math.exp(-13.3 / 2), rel=1e-5)


def test_the_cosine_is_the_papers():
    f = [math.cos((t / 50 + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(51)]
    told = cosine_schedule(50).alpha(torch.arange(50)).square()
    torch.testing.assert_close(told, torch.tensor(f[:50]) / f[0], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "wrong",
    [
        [0.9, 0.5, 0.1],
        [1, 0.5],
        [1, 0.5, 0.6],
        [1, 0.5, -0.1],
        [[1, 0.5, 0.1]],
        [1, 1, 0.1],
    ],
)
def test_what_is_no_schedule_is_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        Schedule(torch.tensor(wrong))


@pytest.mark.parametrize("make", [linear_schedule, cosine_schedule, log_snr_schedule])
def test_numbers_of_steps_that_cannot_be_are_refused(make):
    for wrong in (0, 1, -3, 2.5):
        with pytest.raises(ValueError, match=f"T is {wrong}: expected a whole number"):
            make(wrong)


def test_the_normal_schedule_is_a_normal_law_of_log_snr():
    told = schedules.normal_schedule(5000, 2.4, 2.4).log_snr(torch.arange(1, 5001))
    assert told.mean() == pytest.approx(2.4, abs=1e-3)
    assert told.std() == pytest.approx(2.4, rel=1e-2)
    assert (told > 0).float().mean() == pytest.approx(0.8413, abs=2e-3)


# The chain --------------------------------------------------------------------------------


@every_schedule
def test_two_stretches_of_noise_are_one(schedule):
    """The steps from s to t shrink by alpha_t / alpha_s and add what sigma_t^2 lacks."""
    x0, zero, one = torch.ones(1, 1).double(), torch.zeros(1, 1), torch.ones(1, 1).double()
    for s, t in ((1, 2), (3, 20), (10, 30)):
        shrink = schedule.alpha(t) / schedule.alpha(s)
        left = schedule.sigma(t) ** 2 - shrink**2 * schedule.sigma(s) ** 2
        assert left > 0
        signal = q_sample(x0, t, zero.double(), schedule)
        noise = q_sample(0 * x0, t, one, schedule)
        before = q_sample(0 * x0, s, one, schedule)
        torch.testing.assert_close(shrink * q_sample(x0, s, 0 * one, schedule), signal)
        torch.testing.assert_close((shrink * before) ** 2 + left, noise**2)


@every_schedule
@pytest.mark.parametrize(("s", "t"), [(1, 2), (5, 25), (29, 30)])
def test_the_posterior_is_bayes_on_a_grid(schedule, s, t):
    x0 = 0.7
    x_t = (schedule.alpha(t) * x0 - 0.8 * schedule.sigma(t)).item()
    shrink = schedule.alpha(t) / schedule.alpha(s)
    width = (schedule.sigma(t) ** 2 - shrink**2 * schedule.sigma(s) ** 2).sqrt()
    mid, sd = schedule.alpha(s) * x0, schedule.sigma(s)
    grid = mid + sd * torch.linspace(-9, 9, 400_001, dtype=torch.float64)
    log_p = Normal(mid, sd).log_prob(grid) + Normal(shrink * grid, width).log_prob(
        torch.tensor(x_t).double()
    )
    p = log_p.softmax(0)
    mean = (p * grid).sum()
    var = (p * (grid - mean) ** 2).sum()
    one = torch.ones(1, 1).double()
    told = posterior(x0 * one, x_t * one, s, t, schedule)
    torch.testing.assert_close(told[0].squeeze(), mean, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(told[1].squeeze(), var, rtol=1e-3, atol=1e-9)


@every_schedule
def test_the_last_step_ends_at_the_guess(schedule):
    x0, x_t = torch.randn(3, 2).double(), torch.randn(3, 2).double()
    mean, var = posterior(x0, x_t, 0, torch.tensor([1, 5, 30]), schedule)
    torch.testing.assert_close(mean, x0)
    assert (var == 0).all()


@every_schedule
def test_the_kl_of_a_step_is_that_of_two_gaussians(schedule):
    torch.manual_seed(0)
    x0, hat, x_t = torch.randn(3, 4, 2).double()
    for s, t in ((1, 2), (5, 25), (29, 30)):
        (m, var), (m_hat, _) = (posterior(x, x_t, s, t, schedule) for x in (x0, hat))
        sd = var.sqrt().expand(4, 2)
        kl = kl_divergence(Normal(m, sd), Normal(m_hat, sd)).sum(1)
        torch.testing.assert_close(step_kl(x0, hat, s, t, schedule), kl)


# Targets ----------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [Noise(), Clean(), Velocity()])
def test_an_answer_determines_what_is_clean(target):
    torch.manual_seed(0)
    x0, eps = torch.randn(2, 5, 3).double()
    angle = torch.linspace(0.1, 1.5, 5).double()[:, None]
    alpha, sigma = angle.cos(), angle.sin()
    out = target.target(x0, eps, alpha, sigma)
    told = target.clean(out, alpha * x0 + sigma * eps, alpha, sigma)
    torch.testing.assert_close(told, x0)


def test_the_velocity_is_the_slope_along_the_angle():
    x0, eps = torch.randn(2, 5, 3).double()
    angle = torch.tensor(0.7).double().requires_grad_()
    where = lambda a: a.cos() * x0 + a.sin() * eps  # noqa: E731
    slope = torch.autograd.functional.jacobian(where, angle)
    v = Velocity().target(x0, eps, angle.cos(), angle.sin())
    torch.testing.assert_close(v.detach(), slope)


class Converted(torch.nn.Module):
    """The exact denoiser, made to answer what a target asks for."""

    def __init__(self, exact, target):
        super().__init__()
        self.exact, self.target = exact, target

    def forward(self, x, log_snr, y=None):
        alpha, sigma = (v.sigmoid().sqrt()[:, None] for v in (log_snr, -log_snr))
        x0 = self.exact(x, log_snr)
        return self.target.target(x0, (x - alpha * x0) / sigma, alpha, sigma)


def test_three_targets_draw_the_same_samples():
    drawn = []
    for target in (Noise(), Clean(), Velocity()):
        net = Converted(moons(), target)
        model = ddpm.DDPM(net, (2,), schedule=cosine_schedule(20).double(), target=target)
        torch.manual_seed(3)
        drawn += [
            (model.sample(50), ddim(model, 50, 10, start=torch.randn(50, 2).double()))
        ]
    for chain, jump in drawn[1:]:
        torch.testing.assert_close(chain, drawn[0][0], atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(jump, drawn[0][1], atol=1e-6, rtol=1e-6)


# The exact denoiser -----------------------------------------------------------------------


def test_the_exact_denoiser_by_quadrature():
    means, std = (
        torch.tensor([[-1.0], [2.0], [0.5]]).double(),
        torch.tensor([0.3, 0.5, 0.1]),
    )
    weights = torch.tensor([0.5, 0.2, 0.3]).double()
    net = MixtureDenoiser(means, std, weights)
    grid = torch.linspace(-4, 5, 90_001, dtype=torch.float64)
    prior = (weights * Normal(means[:, 0], std.double()).log_prob(grid[:, None]).exp()).sum(
        1
    )
    for log_snr in (-3.0, 0.0, 4.0):
        snr = torch.tensor(log_snr).double()
        alpha, sigma = snr.sigmoid().sqrt(), (-snr).sigmoid().sqrt()
        for x in (-1.0, 0.2, 1.5):
            p = prior * Normal(alpha * grid, sigma).log_prob(torch.tensor(x).double()).exp()
            told = net(torch.tensor([[x]]).double(), snr)
            assert told.item() == pytest.approx((p * grid).sum().item() / p.sum().item())
            log_p = (p.sum() * (grid[1] - grid[0])).log()
            assert net.log_p(torch.tensor([[x]]).double(), snr).item() == pytest.approx(
                log_p.item()
            )


@pytest.mark.parametrize("log_snr", [-4.0, 1.0, 5.0, 9.0])
def test_the_score_is_the_slope_of_the_exact_density(log_snr):
    net, x = moons(), torch.randn(20, 2).double()
    snr = torch.full((20,), log_snr).double()
    slope = toy.slope(lambda x: net.log_p(x, snr), x)
    torch.testing.assert_close(net.score(x, snr), slope, rtol=1e-7, atol=1e-7)
    model = ddpm.DDPM(net, (2,), schedule=log_snr_schedule(3, 9, log_snr - 1e-9).double())
    model.target = Clean()
    torch.testing.assert_close(model.score(x, 3), slope, rtol=1e-6, atol=1e-6)


def test_points_without_width_are_averaged():
    points = torch.randn(7, 1, 4, 4)
    net, x = MixtureDenoiser(points), torch.randn(3, 1, 4, 4)
    near = net(points[:3] + 1e-3 * x, torch.tensor(20.0))
    torch.testing.assert_close(near, points[:3])
    far = net(x, torch.tensor(-20.0))
    torch.testing.assert_close(far, points.mean(0).expand(3, 1, 4, 4), atol=1e-3, rtol=0)


# The bound --------------------------------------------------------------------------------


def bound(T: int, law: str = "eight_gaussians", n: int = 20_000) -> float:
    """Mean of -elbo of the exact denoiser, log_snr from 14 to -12."""
    truth = toy.get(law)
    net = MixtureDenoiser(truth.law.means, truth.law.sigma, truth.law.weights)
    schedule = log_snr_schedule(T, 14, -12).double()
    model = ddpm.DDPM(net, (2,), schedule=schedule, target=Clean())
    x = truth.sample(n, torch.Generator().manual_seed(1)).double()
    torch.manual_seed(2)
    with torch.no_grad():
        return -model.elbo(x).mean().item()


def test_the_bound_of_the_exact_denoiser_is_above_the_entropy_and_falls_like_1_over_T():
    entropy = toy.get("eight_gaussians").entropy()
    gaps = [bound(T) - entropy for T in (50, 100, 400)]
    assert gaps[0] > gaps[1] > gaps[2] > 0
    assert 1.8 < gaps[0] / gaps[1] < 2.6
    assert 3.2 < gaps[1] / gaps[2] < 4.8


def test_the_bound_of_gaussian_data_is_exact_where_everything_is_linear():
    """-E elbo of N(0, s^2) in closed form, term by term, against many draws."""
    s2, T = 0.49, 8
    schedule = log_snr_schedule(T, 6, -4).double()
    net = MixtureDenoiser(torch.zeros(1, 1).double(), s2**0.5)
    model = ddpm.DDPM(net, (1,), schedule=schedule, target=Clean())
    a2, v = (
        schedule.alpha(torch.arange(T + 1)) ** 2,
        schedule.sigma(torch.arange(T + 1)) ** 2,
    )
    mse = s2 * v / (a2 * s2 + v)  # of the best guess
    snr = a2 / v
    steps = sum((snr[t - 1] - snr[t]) / 2 * mse[t] for t in range(2, T + 1))
    prior = (a2[T] * s2 + v[T] - 1 - v[T].log()) / 2
    decoder = ((v[1] / a2[1]).log() + math.log(2 * math.pi) + 1) / 2
    torch.manual_seed(0)
    x = s2**0.5 * torch.randn(200_000, 1).double()
    with torch.no_grad():
        told = -model.elbo(x)
    error = told.std() / len(x) ** 0.5
    assert abs(told.mean() - (steps + prior + decoder)) < 5 * error
    entropy = math.log(2 * math.pi * math.e * s2) / 2
    assert steps + prior + decoder > entropy


def test_steps_are_uniform_and_both_ends_are_drawn():
    torch.manual_seed(0)
    t = torch.cat([ddpm.spread_steps(7, 2, 5, torch.device("cpu")) for _ in range(4000)])
    share = torch.bincount(t, minlength=7)[2:] / len(t)
    assert share.tolist() == pytest.approx([0.25] * 4 + [0], abs=0.01)
    few = torch.cat([ddpm.spread_steps(256, 1, 1000, t.device) for _ in range(40)])
    assert few.max() > 990  # `randperm(N) % T` would stop at 256
    assert few.min() < 10


# Decoders ---------------------------------------------------------------------------------


def test_the_level_decoder_sums_to_1_and_finds_the_level():
    decoder, schedule = LevelDecoder(17), log_snr_schedule(5, 5, -5)
    x_1 = torch.randn(6, 3)
    every = torch.cartesian_prod(*[torch.arange(17)] * 3)
    for row in x_1:
        log_p = decoder.log_likelihood(every, row.expand(len(every), 3), schedule)
        assert log_p.exp().sum() == pytest.approx(1, abs=1e-4)
    codes = torch.arange(17)[:, None]
    assert torch.equal(decoder.show(decoder.embed(codes)), codes)
    near = decoder.log_likelihood(codes, schedule.alpha(1) * decoder.embed(codes), schedule)
    shifted = decoder.embed(codes.roll(1)) * schedule.alpha(1)
    assert (near > decoder.log_likelihood(codes, shifted, schedule)).all()


@pytest.mark.parametrize("K", [2, 17, 256])
@pytest.mark.parametrize("high", [-1.0, 5.0, 9.0, 13.0])
@pytest.mark.parametrize("off", [0.0, 0.3, 5.0])
def test_near_levels_are_enough(K, high, off):
    """The softmax over all K levels, as the docstring has it, wherever x_1 is."""
    decoder, schedule = LevelDecoder(K), log_snr_schedule(50, high, -13.0)
    x = torch.randint(K, (5, 3, 4), generator=generator(0))
    alpha, sigma = (f(1).double() for f in (schedule.alpha, schedule.sigma))
    noise = torch.randn(2, *x.shape, generator=generator(1), dtype=torch.float64)
    x_1 = alpha * decoder.embed(x) + sigma * noise[0] + off * noise[1]
    gaps = (x_1[..., None] - alpha * decoder.levels.double()) / sigma
    every = (-gaps.square() / 2).log_softmax(-1)
    wanted = every.gather(-1, x[..., None]).flatten(1).sum(1)
    torch.testing.assert_close(decoder.log_likelihood(x, x_1, schedule), wanted)
    if high == 13.0 and K == 256:
        assert decoder.near(x_1, (sigma / alpha).item()).shape[-1] < 12


def test_the_real_decoder_is_a_density():
    schedule, x_1 = log_snr_schedule(5, 3, -5).double(), torch.tensor([[0.4]]).double()
    grid = torch.linspace(-5, 5, 20_001, dtype=torch.float64)[:, None]
    log_p = RealDecoder().log_likelihood(grid, x_1.expand(len(grid), 1), schedule)
    assert torch.trapezoid(log_p.exp(), grid[:, 0]).item() == pytest.approx(1)


def test_shift_and_scale_are_those_of_the_data():
    """The bound of the same chain on 3 x + 1 is log 3 nats per dimension lower."""
    plain, wide = (
        ddpm.PointDDPM(2, T=50, hidden=8, **how)
        for how in ({}, {"shift": 1.0, "scale": 3.0})
    )
    wide.load_state_dict(plain.state_dict() | {"decoder.shift": torch.tensor(1.0)})
    x, told = torch.randn(6, 2), []
    for model, seen in ((plain, x), (wide, 3 * x + 1)):
        torch.manual_seed(0)
        told.append(model.elbo(seen))
    torch.testing.assert_close(told[1], told[0] - 2 * math.log(3), rtol=1e-4, atol=1e-3)
    torch.manual_seed(0)
    drawn = plain.sample(4)
    torch.manual_seed(0)
    torch.testing.assert_close(wide.sample(4), 3 * drawn + 1)
    for wrong in (0.0, -1.0, math.inf):
        with pytest.raises(ValueError, match="scale is"):
            RealDecoder(scale=wrong)


class Fixed(torch.nn.Module):
    """A bound of a known size: -2 nats for every zero code and -4 for every other."""

    def elbo(self, x):
        return -(2.0 + 2.0 * (x != 0)).flatten(1).sum(1)


def test_the_measures_are_means_of_the_bound():
    codes = torch.tensor([[0, 0], [0, 1], [1, 1], [0, 0]])
    told = chain_bits(Fixed(), codes, 10)
    assert told.value == pytest.approx((2 + 3 + 4 + 2) / 4 / math.log(2))


class Off(torch.nn.Module):
    """The best denoiser of the moons in the chain's units, off by 0.1 in eps."""

    def __init__(self):
        super().__init__()
        law = toy.get("two_moons").law
        self.best = MixtureDenoiser((law.means - 1) / 2, law.sigma / 2, law.weights)
        self.off = 0.1

    def forward(self, x, log_snr, y=None):
        return self.best(x, log_snr) + self.off * (-log_snr[:, None] / 2).exp()


def test_the_excess_is_half_the_integral_of_the_squared_error():
    model = ddpm.DDPM(Off(), (2,), target=Clean(), decoder=RealDecoder(1.0, 2.0)).double()
    x = toy.get("two_moons").sample(2000).double()
    told = moons_excess(model, (x, x[:, 0]))
    assert told.value == pytest.approx(20 / 2 * 2 * 0.1**2, rel=1e-3)
    model.net.off = 0.0
    assert moons_excess(model, (x, x[:, 0])).value == pytest.approx(0, abs=1e-9)
    assert bells_excess(model, (x, x[:, 0])).value > 1


def test_labels_come_with_the_training_pictures():
    splits = labelled_codes("digits")
    x, y = splits.train
    assert len(x) == len(y)
    assert x.shape[1:] == splits.test.shape[1:] == (1, 8, 8)
    assert y.unique().tolist() == [*range(10)]


# Samplers: on Gaussian data each is a recursion of variances ------------------------------


def variance_after(step, schedule: Schedule, times: list[int], s2: float) -> float:
    """The variance of a linear sampler's output: its two coefficients from two calls."""
    var = torch.ones(()).double()
    one, zero = torch.ones(1, 1).double(), torch.zeros(1, 1).double()
    net = MixtureDenoiser(zero, s2**0.5)
    for t, s in pairwise(times):
        guess = lambda x, t=t: net(x, schedule.log_snr(t))  # noqa: E731
        pull = step(one, guess(one), s, t, zero)
        kick = step(zero, guess(zero), s, t, one)
        var = (pull**2 * var + kick**2).squeeze()
    return var.item()


def expected(schedule: Schedule, times: list[int], s2: float, eta: float) -> float:
    """The same recursion, written out in numbers with DDIM's own formulas."""
    ab = (schedule.alpha(torch.arange(schedule.T + 1)) ** 2).tolist()
    var = 1.0
    for t, s in pairwise(times):
        gain = ab[t] ** 0.5 * s2 / (ab[t] * s2 + 1 - ab[t])  # x0_hat = gain x_t
        noise = eta**2 * (1 - ab[s]) / (1 - ab[t]) * (1 - ab[t] / ab[s])
        eps = (1 - ab[t] ** 0.5 * gain) / (1 - ab[t]) ** 0.5
        var = (ab[s] ** 0.5 * gain + (1 - ab[s] - noise) ** 0.5 * eps) ** 2 * var + noise
    return var


@every_schedule
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("steps", [3, 10, 30])
def test_ddim_on_gaussian_data_is_its_recursion(schedule, eta, steps):
    def step(x, x0_hat, s, t, noise):
        return ddim_step(x, x0_hat, s, t, schedule, eta, noise)

    times = strided(30, steps)
    told = variance_after(step, schedule, times, 0.3)
    assert told == pytest.approx(expected(schedule, times, 0.3, eta), rel=1e-6)


@every_schedule
def test_eta_1_is_a_step_of_the_chain(schedule):
    def chain(x, x0_hat, s, t, noise):
        mean, var = posterior(x0_hat, x, s, t, schedule)
        return mean + var.sqrt() * noise

    torch.manual_seed(0)
    x, hat, noise = torch.randn(3, 6, 2).double()
    for s, t in ((0, 1), (1, 2), (4, 19), (29, 30)):
        told = ddim_step(x, hat, s, t, schedule, 1.0, noise)
        torch.testing.assert_close(told, chain(x, hat, s, t, noise))
    times = list(range(30, -1, -1))
    told = variance_after(chain, schedule, times, 0.3)
    assert told == pytest.approx(expected(schedule, times, 0.3, 1.0), rel=1e-6)


def test_ddim_is_a_rotation_in_the_clock_of_the_angle():
    schedule = cosine_schedule(30).double()
    x, hat = torch.randn(2, 5, 2).double()
    for s, t in ((0, 1), (4, 19)):
        (phi_s, phi_t) = (schedule.sigma(k).asin() for k in (s, t))
        v = (schedule.alpha(t) * x - hat) / schedule.sigma(t)
        d = phi_t - phi_s
        told = ddim_step(x, hat, s, t, schedule)
        torch.testing.assert_close(told, x * d.cos() - v * d.sin(), rtol=1e-6, atol=1e-6)


def test_many_ddim_steps_keep_the_variance_and_few_do_not():
    schedule = cosine_schedule(1000).double()
    step = lambda x, hat, s, t, e: ddim_step(x, hat, s, t, schedule, 0.0, e)  # noqa: E731
    many, few = (variance_after(step, schedule, strided(1000, n), 0.3) for n in (1000, 4))
    assert many == pytest.approx(0.3, rel=0.01)
    assert abs(few - 0.3) > 0.01


def test_strided_times_begin_and_end_right():
    assert strided(10, 10) == list(range(10, -1, -1))
    assert strided(1000, 3) == [1000, 667, 333, 0]
    for wrong in (0, 11, -1, 2.5):
        with pytest.raises(ValueError, match=f"steps is {wrong}: expected"):
            strided(10, wrong)


# Models -----------------------------------------------------------------------------------


def test_a_trained_chain_draws_gaussian_data():
    """A short training on N(0.5, 0.3^2): mean and width of samples come out right."""
    torch.manual_seed(0)
    net = MixtureDenoiser(torch.full((1, 2), 0.5).double(), 0.3)
    model = ddpm.DDPM(net, (2,), schedule=cosine_schedule(200).double(), target=Clean())
    x = model.sample(4000)
    assert x.mean(0).tolist() == pytest.approx([0.5, 0.5], abs=0.02)
    assert x.std(0).tolist() == pytest.approx([0.3, 0.3], abs=0.015)


@pytest.mark.parametrize("net", [Denoiser(2, classes=3), UNet(1, width=8, classes=3)])
def test_a_network_depends_on_noise_and_label_and_none_is_a_label(net):
    torch.manual_seed(0)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.2)
    x = torch.randn(2, 2) if isinstance(net, Denoiser) else torch.randn(2, 1, 8, 8)
    snr, y = torch.tensor([1.0, 2.0]), torch.tensor([0, 2])
    base = net(x, snr, y)
    assert not torch.allclose(base, net(x, snr + 1, y))
    assert not torch.allclose(base, net(x, snr, y.flip(0)))
    torch.testing.assert_close(net(x, snr), net(x, snr, torch.tensor([3, 3])))
    assert not torch.allclose(base, net(x, snr))
    with pytest.raises(ValueError, match="expected codes 0 to 3"):
        net(x, snr, torch.tensor([0, 4]))
    assert net(x, torch.tensor([torch.inf, -torch.inf])).isfinite().all()


@pytest.mark.parametrize("size", [7, 8, 14, 28, 32])
@pytest.mark.parametrize("mult", [(1,), (1, 2), (1, 2, 2)])
def test_a_unet_takes_any_size_and_every_weight_learns(size, mult):
    torch.manual_seed(0)
    net = UNet(2, width=4, mult=mult, classes=2, C_condition=1)
    for p in net.parameters():  # at first the last layers are 0
        torch.nn.init.normal_(p, std=0.3)
    x, given = torch.randn(2, 2, size, size), torch.randn(2, 1, size, size)
    out = net(x, torch.zeros(2), torch.tensor([0, 1]), given)
    assert out.shape == x.shape
    (
        out.square().mean() + net(x, torch.zeros(2), condition=given).square().mean()
    ).backward()
    assert all(p.grad.abs().sum() > 0 for p in net.parameters())
    with pytest.raises((ValueError, TypeError), match=r"condition .*expected"):
        net(x, torch.zeros(2), torch.tensor([0, 1]))


def test_the_skips_carry_what_the_coarse_way_loses():
    """Without skips, a picture whose half-size version is the same cannot be told apart."""
    torch.manual_seed(0)
    net = UNet(1, width=4, mult=(1, 1), skips=False)
    assert len([*net.body.up[-1].parameters()]) < len([*UNet(1, width=4).parameters()])
    assert net(torch.randn(1, 1, 8, 8), torch.zeros(1)).shape == (1, 1, 8, 8)


def test_labels_are_hidden_in_their_share():
    torch.manual_seed(0)
    net, y = Denoiser(2, classes=3), torch.ones(4000, dtype=torch.int64)
    told = ddpm.hidden(y, net, 0.2)
    assert (told == 3).float().mean() == pytest.approx(0.2, abs=0.03)
    assert ((told == 3) | (told == 1)).all()
    assert ddpm.hidden(y, net, 0.0) is y
    assert ddpm.hidden(None, net, 0.5) is None


def test_the_loss_of_the_bound_is_the_bound():
    torch.manual_seed(0)
    model = ddpm.BoundDDPM(Denoiser(3), (3,), schedule=cosine_schedule(5))
    x = torch.randn(6, 3)
    torch.manual_seed(1)
    loss = model.loss(x)
    torch.manual_seed(1)
    torch.testing.assert_close(loss, -model.elbo(x).mean() / 3)
