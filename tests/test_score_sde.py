"""Streams of noise and their reversal: moments, Fokker-Planck, Gaussian data by numbers."""

import math
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal

from gdm_course.data import toy
from gdm_course.diffusion import fit_plane
from gdm_course.diffusion import score_sde as ss
from gdm_course.diffusion import sde as streams
from gdm_course.diffusion import solvers as so
from gdm_course.diffusion.edm import EDM, ImageEDM, Preconditioned, edm_weight, precondition
from gdm_course.diffusion.mixture import MixtureDenoiser
from gdm_course.diffusion.plane import PlaneSDE
from gdm_course.diffusion.targets import Velocity
from gdm_course.flows.ode import DormandPrince, Fixed, rk4_step
from gdm_course.training import generator

SDES = {"VP": streams.VP(), "SubVP": streams.SubVP(), "VE": streams.VE()}
every = pytest.mark.parametrize("sde", SDES.values(), ids=SDES)
MEANS = torch.tensor([[-1.0, 0.3], [0.8, -0.5], [0.2, 1.1]], dtype=torch.float64)
STD, WEIGHTS = torch.tensor([0.3, 0.5, 0.2]), torch.tensor([0.5, 0.3, 0.2])
EXACT = MixtureDenoiser(MEANS, STD.double(), WEIGHTS.double())


def number(value):
    return torch.tensor(value, dtype=torch.float64)


def points(n, seed=1, D=2):
    return torch.randn(n, D, generator=generator(seed), dtype=torch.float64)


def log_p(sde, x, t):
    """The mixture after the time t, from its own formula."""
    alpha, sigma = sde.alpha(t), sde.sigma(t)
    var = alpha**2 * STD.double() ** 2 + sigma**2
    squares = (x[:, None] - alpha * MEANS).square().sum(-1)
    parts = WEIGHTS.double().log() - squares / (2 * var) - torch.log(2 * math.pi * var)
    return parts.logsumexp(1)


# Streams ----------------------------------------------------------------------------------


@every
def test_alpha_and_sigma_solve_the_equations_of_the_moments(sde):
    """Mean m' = f m and variance V' = 2 f V + g^2, by Runge-Kutta, from a point."""

    def field(t, state):
        t, one = number(t), number(1.0)
        f = sde.drift(one, t)
        return f * state[0], 2 * f * state[1] + sde.diffusion(t) ** 2

    times = [0.0, 0.1, 0.4, 1.0]
    states = Fixed(rk4_step, 800)(field, (number(1.0), number(0.0)), times)
    for t, (m, V) in zip(times, states):
        torch.testing.assert_close(sde.alpha(number(t)), m, rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(sde.sigma(number(t)), V.sqrt(), rtol=1e-6, atol=1e-9)


@every
def test_paths_have_these_moments(sde):
    g, x, steps = generator(3), torch.full((20_000,), 0.7), 500
    for k in range(steps):
        t = torch.tensor((k + 0.5) / steps)
        kick = sde.diffusion(t) * steps**-0.5 * torch.randn(x.shape, generator=g)
        x = x + sde.drift(x, t) / steps + kick
    sigma = sde.sigma(torch.tensor(1.0))
    assert abs(x.mean() - 0.7 * sde.alpha(torch.tensor(1.0))) < 6 * sigma / len(x) ** 0.5
    assert abs(x.std() / sigma - 1) < 0.03


@every
def test_t_of_inverts_the_ratio(sde):
    t = torch.linspace(1e-3, 1, 9, dtype=torch.float64)
    torch.testing.assert_close(sde.t_of(streams.log_snr_of(sde, t)), t)


@every
def test_the_rate_of_the_ratio_is_g_over_sigma(sde):
    """d log_snr / dt = -g^2 / sigma^2: what a likelihood weighs errors of eps by."""
    t = torch.linspace(0.05, 0.95, 7, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(streams.log_snr_of(sde, t).sum(), t)
    torch.testing.assert_close(slope, -((sde.diffusion(t) / sde.sigma(t)) ** 2))


# Backwards --------------------------------------------------------------------------------


@every
def test_one_denoiser_gives_the_score_of_every_stream(sde):
    x = points(6).requires_grad_()
    for t in (0.02, 0.3, 0.9):
        (slope,) = torch.autograd.grad(log_p(sde, x, number(t)).sum(), x)
        torch.testing.assert_close(streams.score_of(EXACT, sde)(x.detach(), t), slope)
    t = torch.linspace(0.1, 0.9, 6, dtype=torch.float64)
    rows = [streams.score_of(EXACT, sde)(x[i : i + 1], t[i].item()) for i in range(6)]
    torch.testing.assert_close(streams.score_of(EXACT, sde)(x, t), torch.cat(rows))


def trace(field, x):
    """Divergence by autograd of every coordinate."""
    x = x.detach().requires_grad_()
    v = field(x)
    columns = range(x.shape[1])
    rows = [torch.autograd.grad(v[:, d].sum(), x, retain_graph=True)[0] for d in columns]
    return sum(row[:, d] for d, row in enumerate(rows)).detach()


@every
@pytest.mark.parametrize("noise", [0.0, 0.5, 1.0, 1.5])
def test_reversed_streams_carry_the_same_densities(sde, noise):
    """Fokker-Planck with time running back: the drift b, and noise^2 g^2 / 2 of spread.

    -d log p/dt = div b + b . s + noise^2 g^2 / 2 (div s + |s|^2); for noise 0 this is the
    continuity equation of the ODE.
    """
    x, score, h = points(7), streams.score_of(EXACT, sde), 1e-5
    for t in (0.1, 0.45, 0.8):
        b = partial(streams.reverse_drift, sde, score, t=t, noise=noise)
        s = score(x, t)
        late, early = log_p(sde, x, number(t + h)), log_p(sde, x, number(t - h))
        spread = (noise * sde.diffusion(number(t))) ** 2 / 2
        right = trace(b, x) + (b(x) * s).sum(1)
        right = right + spread * (trace(lambda x, t=t: score(x, t), x) + s.square().sum(1))
        torch.testing.assert_close((early - late) / (2 * h), right, rtol=1e-5, atol=1e-5)


@every
def test_any_other_sign_fails(sde):
    """The test above would notice: three wrong drifts miss by a factor."""
    x, score, t, h = points(7), streams.score_of(EXACT, sde), 0.4, 1e-5
    at, s = number(t), score(x, t)
    change = (log_p(sde, x, at - h) - log_p(sde, x, at + h)) / (2 * h)
    for f_sign, g_sign in ((1, 1), (-1, -1), (-1, 1)):
        if f_sign < 0 and isinstance(sde, streams.VE):
            continue  # without a drift its sign cannot be wrong

        def b(x, f_sign=f_sign, g_sign=g_sign):
            pull = g_sign * sde.diffusion(at) ** 2 / 2 * score(x, t)
            return f_sign * sde.drift(x, at) + pull

        right = trace(b, x) + (b(x) * s).sum(1)
        assert (change - right).abs().max() > 0.1


@every
def test_all_streams_are_one_ode(sde):
    """Along log_snr the points x / sqrt(alpha^2 + sigma^2) move alike."""
    x, ends = points(5), torch.tensor([-2.0, 3.0], dtype=torch.float64)
    times = sde.t_of(ends).tolist()
    score = streams.score_of(EXACT, sde)
    field = lambda t, x: streams.reverse_drift(sde, score, x, t, 0.0)  # noqa: E731
    scale = [(sde.alpha(number(t)) ** 2 + sde.sigma(number(t)) ** 2).sqrt() for t in times]
    end = Fixed(rk4_step, 400)(field, x * scale[0], times)[-1] / scale[1]
    phi = [2 / math.pi * math.atan(math.exp(-level / 2)) for level in ends.tolist()]
    one = Fixed(rk4_step, 400)(ss.Stream(ss.TrueVelocity(EXACT)), x, phi)[-1]
    torch.testing.assert_close(end, one, rtol=1e-5, atol=1e-5)


@every
def test_euler_maruyama_is_a_recursion_in_numbers_on_a_gaussian(sde):
    """x <- a x + b xi: a from one path without noise, b from the spread."""
    S, times = 0.6, torch.linspace(1, 0.05, 30).tolist()
    denoise = MixtureDenoiser(torch.zeros(1, 1, dtype=torch.float64), number(S))
    score = streams.score_of(denoise, sde)
    for noise in (0.0, 1.0):
        factor, variance = 1.0, 0.0
        for t, s in pairwise(times):
            at = number(t)
            total = sde.alpha(at) ** 2 * S**2 + sde.sigma(at) ** 2
            f, g2 = sde.drift(number(1.0), at), sde.diffusion(at) ** 2
            a = (1 - (t - s) * (f + (1 + noise**2) / 2 * g2 / total)).item()
            variance = a * a * variance + (noise**2 * g2 * (t - s)).item()
            factor *= a
        n = 1 if noise == 0 else 40_000
        x = torch.full((n, 1), 2.0, dtype=torch.float64)
        end = streams.euler_maruyama(sde, score, x, times, noise, generator(4))
        if noise == 0:
            assert end.item() == pytest.approx(2 * factor, rel=1e-9)
        else:
            assert end.var().item() == pytest.approx(variance, rel=0.05)
            assert abs(end.mean() - 2 * factor) < 6 * (variance / n) ** 0.5


# Solvers ----------------------------------------------------------------------------------

LEVELS = so.karras_sigmas(8, 0.02, 20.0)
GAUSS = 0.7
BELL = lambda z, s: GAUSS**2 / (GAUSS**2 + s * s) * z  # noqa: E731


def test_euler_is_ddim():
    """x_s = alpha_s x0 + sigma_s eps, eps from x_t and x0: DDIM without noise."""
    z = points(4)
    for s, s_next in pairwise(LEVELS):
        (a, b), (a2, b2) = (
            (1 / math.hypot(1, v), v / math.hypot(1, v)) for v in (s, s_next)
        )
        x0 = BELL(z, s)
        eps = (a * z - a * x0) / b
        z = (a2 * x0 + b2 * eps) / a2
    torch.testing.assert_close(so.euler(BELL, points(4), LEVELS), z)


def test_euler_is_a_rotation():
    """With alpha = cos phi: x cos d - v sin d."""
    exact = so.per_noise(EXACT)
    s, s_next, x = 1.3, 0.4, points(5)
    phi, later = math.atan(s), math.atan(s_next)
    v = ss.TrueVelocity(EXACT)(x, x.new_full((5,), -2 * math.log(s)))
    turned = x * math.cos(phi - later) - v * math.sin(phi - later)
    z = so.euler(exact, x / math.cos(phi), (s, s_next))
    torch.testing.assert_close(z * math.cos(later), turned)


def test_heun_on_a_gaussian():
    c = lambda s: s / (GAUSS**2 + s * s)  # noqa: E731  the slope of dz/ds = c(s) z
    factor = 1.0
    for s, s_next in pairwise(LEVELS):
        h = s_next - s
        factor *= (
            1 + h / 2 * (c(s) + c(s_next) * (1 + h * c(s))) if s_next else 1 - s * c(s)
        )
    torch.testing.assert_close(so.heun(BELL, points(3), LEVELS), factor * points(3))


def test_dpm_solver_on_a_gaussian():
    """The paper's form, with alpha and sigma and lambda = log(alpha / sigma)."""
    x, last, history = 1 / math.hypot(1, LEVELS[0]), math.nan, []
    alpha = lambda s: 1 / math.hypot(1, s)  # noqa: E731
    for s, s_next in pairwise(LEVELS):
        history.append(BELL(x / alpha(s), s))
        if s_next == 0:
            x = history[-1]
            continue
        h = math.log(1 / s_next) - math.log(1 / s)
        D = history[-1]
        if len(history) > 1:
            r = math.log(last / s) / h
            D = (1 + 1 / (2 * r)) * history[-1] - history[-2] / (2 * r)
        sigmas = s_next * alpha(s_next) / (s * alpha(s))
        x, last = sigmas * x - alpha(s_next) * (math.exp(-h) - 1) * D, s
    found = so.dpm_solver_2m(BELL, points(3), LEVELS)
    torch.testing.assert_close(found, x * points(3))


@pytest.mark.parametrize(
    ("solver", "order"), [(so.euler, 1), (so.heun, 2), (so.dpm_solver_2m, 2)]
)
def test_orders_on_a_mixture(solver, order):
    z, exact = 5 * points(40), so.per_noise(EXACT)
    grid = lambda n: so.karras_sigmas(n + 1, 0.05, 5.0)[:-1]  # noqa: E731
    truth = so.heun(exact, z, grid(800))
    errors = [(solver(exact, z, grid(n)) - truth).norm(dim=1).mean() for n in (40, 80)]
    assert abs((errors[0] / errors[1]).log2().item() - order) < 0.25


@pytest.mark.parametrize("solver", [so.euler, so.heun, so.dpm_solver_2m])
def test_the_last_step_to_zero_is_the_denoised_point(solver):
    z, exact = points(3), so.per_noise(EXACT)
    torch.testing.assert_close(solver(exact, z, (0.5, 0.0)), exact(z, 0.5))


def test_grids_of_levels():
    for rho in (1.0, 7.0, math.inf):
        levels = so.karras_sigmas(6, 0.1, 10.0, rho)
        assert levels[-1] == 0
        assert levels[0] == pytest.approx(10)
        assert levels[-2] == pytest.approx(0.1)
    even = torch.tensor(so.karras_sigmas(6, 0.1, 10.0, 1.0)[:-1]).diff()
    torch.testing.assert_close(even, even[:1].expand(5))
    ratios = torch.tensor(so.karras_sigmas(6, 0.1, 10.0, math.inf)[:-1]).log().diff()
    torch.testing.assert_close(ratios, ratios[:1].expand(5))
    torch.testing.assert_close(
        torch.tensor(so.karras_sigmas(6, 0.1, 10.0, 1e5)[:-1]).log().diff(),
        ratios,
        rtol=1e-3,
        atol=1e-3,
    )
    turns = torch.tensor(so.angle_sigmas(6, 0.1, 10.0)[:-1]).atan().diff()
    torch.testing.assert_close(turns, turns[:1].expand(5))


# The model --------------------------------------------------------------------------------


def ideal(denoise=EXACT, **more):
    return ss.ScoreSDE(ss.TrueVelocity(denoise), MEANS.shape[1:], **more)


def test_the_ode_of_a_perfect_network_gives_the_density():
    x = points(30)
    zero = number(0.0)
    for solver in (None, DormandPrince(1e-6, 1e-6)):
        found = ideal(solver=solver).log_prob(x)
        torch.testing.assert_close(found, log_p(streams.VP(), x, zero), rtol=0, atol=5e-3)


def test_the_path_of_a_gaussian_is_a_stretch():
    """x(t) = x(0) std(t) / std(0), the closed form."""
    S = 0.4
    stream = ss.Stream(
        ss.TrueVelocity(MixtureDenoiser(torch.zeros(1, 2).double(), number(S)))
    )
    times = (1.0, 0.6, 0.2)
    path = Fixed(rk4_step, 50)(stream, points(4), times)
    std = [
        math.hypot(S * math.cos(t * math.pi / 2), math.sin(t * math.pi / 2)) for t in times
    ]
    for x, s in zip(path, std):
        torch.testing.assert_close(x, points(4) * s / std[0], rtol=1e-5, atol=1e-5)


def test_samples_of_a_perfect_network_are_the_data():
    torch.manual_seed(0)
    model = ideal()
    x = model.sample(4000, 60)
    law = log_p(streams.VP(), x, number(0.0))
    nearest = (x[:, None] - MEANS).square().sum(-1).argmin(1).bincount(minlength=3) / 4000
    g = generator(9)
    k = torch.multinomial(WEIGHTS, 4000, True, generator=g)
    y = MEANS[k] + STD[k, None] * torch.randn(4000, 2, generator=g)
    true = (y[:, None] - MEANS).square().sum(-1).argmin(1).bincount(minlength=3) / 4000
    assert (nearest - true).abs().max() < 0.04
    assert abs(law.mean() - log_p(streams.VP(), y, number(0.0)).mean()) < 0.1


class Small(nn.Module):
    """A network with random weights, whose density nobody knows."""

    def __init__(self, D=2):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(D + 1, 16), nn.SiLU(), nn.Linear(16, D))

    def forward(self, x, log_snr, y=None):
        return self.net(torch.cat([x, log_snr[:, None] / 5], 1))


def small(cls=ss.ScoreSDE, seed=0, **more):
    torch.manual_seed(seed)
    return cls(Small(), (2,), **more).double()


def test_the_density_has_mass_one():
    model, n, half = small(), 60, 6.0
    at = (torch.arange(n).double() + 0.5) / n * 2 * half - half
    total = model.log_prob(torch.cartesian_prod(at, at)).exp().sum() * (2 * half / n) ** 2
    assert abs(total - 1) < 1e-3


def test_the_loss_is_zero_where_the_answer_is_known():
    """One data point at 0: v = alpha eps, all of it x alpha / sigma."""

    class Point(nn.Module):
        def forward(self, x, log_snr, y=None):
            return x * torch.exp(log_snr / 2)[:, None]

    model = ss.ScoreSDE(Point(), (2,))
    assert model.loss(torch.zeros(50, 2)) < 1e-9
    assert model.loss(torch.ones(50, 2)) > 0.1


def test_a_score_of_the_model_is_the_slope_of_a_perfect_one():
    x = points(5)
    for sde in SDES.values():
        expected = streams.score_of(EXACT, sde)(x, 0.3)
        torch.testing.assert_close(ideal(sde=sde).score(x, 0.3), expected)


@pytest.mark.parametrize("levels", [ss.angle_levels, ss.edm_levels])
def test_levels_are_stratified_and_of_their_law(levels):
    torch.manual_seed(0)
    s = levels(4000)
    assert s.shape == (4000,)
    assert levels(0).shape == (0,)
    if levels is ss.angle_levels:
        u = s.atan() * 2 / math.pi
    else:
        u = torch.special.ndtr((s.log() + 1.2) / 1.2)
    kept = (s > 1.01e-3) & (s < 990)
    cells = (u * 4000).floor()[kept]
    assert (cells - torch.arange(4000)[kept]).abs().max() <= 1
    assert abs(u.mean() - 0.5) < 1e-3


def test_far_out_and_off_the_numbers_is_minus_infinity():
    model = small()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1e4)
    assert (model.log_prob(points(4) * 1e200) == -math.inf).all()


# EDM --------------------------------------------------------------------------------------


def test_the_three_wishes():
    s, sd = torch.logspace(-2, 2, 9, dtype=torch.float64), 0.5
    c_skip, c_out, c_in = precondition(s, sd)
    torch.testing.assert_close(c_in**2 * (sd**2 + s**2), torch.ones_like(s))
    variance = lambda skip: (1 - skip) ** 2 * sd**2 + skip**2 * s**2  # noqa: E731
    torch.testing.assert_close(variance(c_skip), c_out**2)
    for skip in (c_skip * 1.01, c_skip * 0.99):
        assert (variance(skip) > c_out**2).all()
    torch.testing.assert_close(edm_weight(s, sd), 1 / c_out**2)


def test_with_unit_data_it_is_velocity():
    net, z = Small().double(), points(6)
    s = torch.logspace(-2, 2, 6, dtype=torch.float64)
    log_snr = -2 * s.log()
    alpha, sigma = ss.signal_and_noise(log_snr, z)
    x = alpha * z
    clean = Velocity().clean(net(x, log_snr), x, alpha, sigma)
    found = Preconditioned(net, sigma_data=1.0)(z, s)
    torch.testing.assert_close(found, clean, rtol=1e-12, atol=1e-12)


def test_small_data_are_unit_data_in_another_unit():
    net, z, s = Small().double(), points(6), 0.3
    one, half = (Preconditioned(net, sigma_data=sd) for sd in (1.0, 0.5))
    torch.testing.assert_close(half(z / 2, s / 2), one(z, s) / 2)


def test_both_losses_are_one_at_unit_data():
    """Only the distribution of the noise levels tells EDM from v-prediction."""
    x = points(64)
    losses = []
    for model in (small(), small(EDM, sigma_data=1.0)):
        torch.manual_seed(5)
        losses.append(model.loss(x))
    torch.testing.assert_close(*losses)


def test_the_loss_of_nothing_is_one():
    """F = 0 leaves the target, whose variance is 1 at every level."""
    model = small(EDM, sigma_data=0.5)
    nn.init.zeros_(model.net.net[-1].weight)
    nn.init.zeros_(model.net.net[-1].bias)
    torch.manual_seed(0)
    assert model.loss(0.5 * points(40_000)).item() == pytest.approx(1, abs=0.03)


def test_edm_asks_twice_a_step_but_once_in_the_last(monkeypatch):
    model, asked = small(EDM), []
    plain = Preconditioned.forward
    monkeypatch.setattr(
        Preconditioned, "forward", lambda self, z, s: asked.append(s) or plain(self, z, s)
    )
    assert model.sample(3, steps=18).shape == (3, 2)
    assert len(asked) == 35


def test_a_width_of_data_must_be_positive():
    with pytest.raises(ValueError, match="sigma_data is 0"):
        Preconditioned(Small(), sigma_data=0)


def test_the_density_of_small_data_is_that_of_unit_data_in_another_unit():
    """p(x) = p_unit(x / sigma_data) / sigma_data^D, and its mass is one."""
    model, x = small(EDM, sigma_data=0.5), points(5)
    unit = ss.ScoreSDE(model.net, (2,))
    expected = unit.log_prob(x) + 2 * math.log(2)
    torch.testing.assert_close(model.log_prob(x / 2), expected)
    plane = PlaneSDE(2, scale=0.5, hidden=4, depth=1).double()
    unit = ss.ScoreSDE(plane.net, (2,))
    torch.testing.assert_close(plane.log_prob(x / 2), unit.log_prob(x) + 2 * math.log(2))
    torch.manual_seed(3)
    losses = [plane.loss(x)]
    torch.manual_seed(3)
    twin = ss.ScoreNetwork(plane.net, (2,), levels=plane.levels)
    torch.testing.assert_close(losses[0], twin.loss(2 * x))


def test_a_bound_of_pictures_is_the_density_in_a_bin():
    """A network that says 0 is a Gaussian of width sigma_data: the bound by its own law."""
    torch.manual_seed(0)
    model = ImageEDM((1, 2, 2), 9, sigma_data=0.5, width=4).double()
    codes = torch.randint(9, (400, 1, 2, 2), generator=generator(3))
    found = model.elbo(codes)  # the U-Net's last layer is 0 at first
    law, edge = torch.distributions.Normal(0.0, 0.5), torch.linspace(-1, 1, 9).double()
    u = torch.linspace(-0.125, 0.125, 2001).double()
    each = law.log_prob(edge[:, None] + u).mean(1) + math.log(0.25)
    expected = each[codes].flatten(1).sum(1)
    assert abs((found - expected).mean()) < 6 * (found - expected).std() / 20
    exact = (law.cdf(edge + 0.125) - law.cdf(edge - 0.125)).log()[codes].flatten(1).sum(1)
    assert found.mean() < exact.mean() + 0.01


def test_weights_are_stored_once():
    names = [*small().state_dict()]
    assert len(names) == len({name.rpartition("net.")[2] for name in names})


# The family's model of the plane ----------------------------------------------------------


def test_fit_plane_is_a_density_closer_than_one_gaussian():
    truth, g = toy.get("two_moons"), generator(5)
    x, held_out = truth.sample(3000, g).float(), truth.sample(300, g).float()
    single = MultivariateNormal(x.mean(0), x.T.cov())
    model = fit_plane(x, steps=150)
    with torch.no_grad():
        gap = (truth.log_prob(held_out) - model.log_prob(held_out)).mean()
    assert gap < 0.6 * (truth.log_prob(held_out) - single.log_prob(held_out)).mean()
    torch.manual_seed(0)
    assert abs(model.sample(500).square().mean() / x.square().mean() - 1) < 0.2
