"""Far out, and at extreme widths: log-densities against 60 digits, and their slopes."""

import math

import mpmath as mp
import pytest
import torch

from gdm_course.autoregressive.logistics import DiscretisedLogistics
from gdm_course.autoregressive.nade import RNADE, Quantised, SoftmaxNADE, gaussian_mixture
from gdm_course.autoregressive.sound import (
    BinnedLogistics,
    BinnedNormal,
    edges,
    log_logistic_interval,
)
from gdm_course.data import energies, laws, toy
from gdm_course.foundations.densities import GaussianMixture
from gdm_course.nets import log_normal_below, log_normal_interval
from gdm_course.vae.decoders import DiscretisedLogistic, GaussianPixels, logistic_bin
from gdm_course.vae.mixture import Mixture
from gdm_course.vae.vae import VAE, diagonal_gaussian

mp.mp.dps = 60
PRECISE = {torch.float32: 2e-6, torch.float64: 1e-13}  # relative, or absolute below 1
both = pytest.mark.parametrize("dtype", PRECISE, ids=str)


def log_normal(a, b):
    """log P(a < eps < b) in 60 digits, in the left tail by symmetry."""
    a, b = (-b, -a) if a + b > 0 else (a, b)
    return mp.log((mp.erfc(-b / mp.sqrt(2)) - mp.erfc(-a / mp.sqrt(2))) / 2)


def log_logistic(a, b):
    """log [sigmoid(b) - sigmoid(a)] in 60 digits, in the left tail by symmetry."""
    a, b = (-b, -a) if a + b > 0 else (a, b)
    return mp.log(1 / (1 + mp.exp(-b)) - 1 / (1 + mp.exp(-a)))


def exactly(t: torch.Tensor) -> mp.mpf:
    return mp.mpf(t.item())


def error(got: torch.Tensor, truth: mp.mpf) -> float:
    return float(abs(exactly(got) - truth) / max(1, abs(truth)))


# Intervals --------------------------------------------------------------------------------

MIDDLES = (0.0, 1e-6, 0.01, 0.5, 1.0, -3.0, 10.0, 30.0, -1e2, 1e3, 1e4, 1e6)
SIZES = (1e-7, 1e-5, 1e-3, 0.01, 0.1, 0.19, 0.2, 1.0, 2.0, 5.0, 20.0, 100.0, 1e4)


@both
@pytest.mark.parametrize("middle", MIDDLES)
def test_the_normal_mass_of_an_interval_and_its_slopes(middle, dtype):
    for size in SIZES:
        m, w = (torch.tensor(v, dtype=dtype, requires_grad=True) for v in (middle, size))
        got = log_normal_interval(m, w)
        a, b = exactly(m) - exactly(w) / 2, exactly(m) + exactly(w) / 2
        truth = log_normal(a, b)
        assert error(got, truth) < PRECISE[dtype], size
        in_m, in_w = torch.autograd.grad(got, (m, w))
        at_a, at_b, mass = mp.npdf(a), mp.npdf(b), mp.exp(truth)
        assert error(in_m, (at_b - at_a) / mass) < 50 * PRECISE[dtype], size
        assert error(in_w, (at_b + at_a) / 2 / mass) < 50 * PRECISE[dtype], size


@both
def test_the_normal_mass_below_a_point_and_its_slope(dtype):
    for at in (-1e9, -1e6, -1e3, -40.0, -5.0, -0.1, 0.0, 0.1, 5.0, 40.0, 1e6):
        x = torch.tensor(at, dtype=dtype, requires_grad=True)
        got = log_normal_below(x)
        truth = (
            log_normal(-mp.inf, exactly(x))
            if at < 6
            else mp.log1p(-mp.erfc(mp.mpf(at) / mp.sqrt(2)) / 2)
        )
        assert error(got, truth) < PRECISE[dtype]
        (slope,) = torch.autograd.grad(got, x)
        assert error(slope, mp.npdf(exactly(x)) / mp.exp(truth)) < 50 * PRECISE[dtype]


@both
def test_the_logistic_mass_of_an_interval(dtype):
    for left in (-1e6, -300.0, -3.0, 0.0, 3.0, 300.0, 1e6):
        for size in (1e-6, 1e-3, 1.0, 50.0):
            a, w = torch.tensor(left, dtype=dtype), torch.tensor(size, dtype=dtype)
            got = log_logistic_interval(a, a + w, w)
            truth = log_logistic(exactly(a), exactly(a) + exactly(w))
            assert error(got, truth) < PRECISE[dtype], (left, size)


# Codes of sound and of pictures -----------------------------------------------------------


@both
@pytest.mark.parametrize("K", [2, 256, 65536])
@pytest.mark.parametrize("log_s", [-1e3, -20.0, -5.0, 0.0, 3.0, 1e3])
@pytest.mark.parametrize("mu", [0.0, 0.3, 1.5, -40.0, 1e6])
def test_binned_densities_anywhere(mu, log_s, K, dtype):
    codes = torch.tensor([0, 1, K // 2, K - 2, K - 1]).clamp(0, K - 1)
    at, width = (torch.full((5,), v, dtype=dtype, requires_grad=True) for v in (mu, log_s))
    normal = BinnedNormal(at, width, K)
    bumps = BinnedLogistics(at[:, None] * 0, at[:, None], width[:, None], K)
    for read, mass in ((normal, log_normal), (bumps, log_logistic)):
        got = read.log_prob(codes)
        assert (got < 1e-6).all()  # neither nan nor above 0
        slopes = torch.autograd.grad(got.sum(), (at, width))
        assert all(slope.isfinite().all() for slope in slopes)
        s = mp.exp(exactly(normal.log_sigma[0]))
        if abs(mu) > 2:
            continue
        for code, value in zip(codes.tolist(), got):
            a = (mp.mpf(2 * code) / K - 1 - exactly(at[0])) / s
            b = (mp.mpf(2 * code + 2) / K - 1 - exactly(at[0])) / s
            a, b = (-mp.inf if code == 0 else a), (mp.inf if code == K - 1 else b)
            near = float(min(abs(a), abs(b))) if a * b > 0 else 0.0
            slack = 10 * (1 if dtype == torch.float64 else 1 + min(near, 1e3))
            assert error(value, mass(a, b)) < slack * PRECISE[dtype], code


@both
@pytest.mark.parametrize("log_s", [-1e3, -30.0, -5.0, 0.0, 5.0, 19.0, 1e3])
def test_logistic_heads_of_pictures_anywhere(log_s, dtype):
    """Probabilities sum to 1 whatever the network says, and their slopes are finite."""
    K = 17
    for mu in (0.0, 0.3, -1.0, 1.0, 50.0, -1e8):
        told = torch.tensor([0.0, mu, log_s], dtype=dtype, requires_grad=True)
        grey = told[1:] * torch.tensor([8.0, 1.0], dtype=dtype)
        x = torch.arange(K)
        heads = DiscretisedLogistics(told.expand(K, 3), K).log_prob(x)
        cells = logistic_bin(x.to(dtype), grey[0], grey[1], K)
        decoder = DiscretisedLogistic(grey[0].expand(K), grey[1].expand(K), K).log_prob(x)
        for log_p in (heads, cells, decoder):
            assert not log_p.isnan().any()
            assert log_p.exp().sum().item() == pytest.approx(1, abs=3e-5)
            (slope,) = torch.autograd.grad(log_p.sum(), told, retain_graph=True)
            assert slope.isfinite().all()


def test_the_right_limits_of_a_logistic_bin():
    """Very wide: each code of the middle weighs its share; very narrow: one has it all."""
    wide = logistic_bin(torch.tensor([4.0, 5.0]), torch.tensor(5.0), torch.tensor(15.0), 9)
    assert wide.tolist() == pytest.approx([-15 - math.log(4)] * 2, abs=1e-5)
    narrow = logistic_bin(
        torch.tensor([4.0, 5.0]), torch.tensor(5.0), torch.tensor(-9.0), 9
    )
    assert narrow[1].item() == pytest.approx(0, abs=1e-6)
    assert narrow[0].item() == pytest.approx(-0.5 * math.exp(9), rel=1e-6)


def test_edges_are_open_only_outside():
    codes = torch.arange(4)
    left, right, size = edges(codes, torch.zeros(4), torch.zeros(4), 4)
    assert left.tolist() == [-math.inf, -0.5, 0, 0.5]
    assert right.tolist() == [-0.5, 0, 0.5, math.inf]
    assert size.tolist() == [math.inf, 0.5, 0.5, math.inf]


# Real numbers -----------------------------------------------------------------------------


@both
def test_a_mixture_of_gaussians_says_a_number_whatever_the_network_said(dtype):
    for log_sigma in (-1e4, -20.0, 0.0, 20.0, 1e4):
        told = torch.tensor([0.0, 0.0, 1.0, -1.0, log_sigma, 0.0], dtype=dtype)
        for at in (0.0, 1.0, 1e4, -1e8):
            log_p = gaussian_mixture(told.requires_grad_()).log_prob(told.new_tensor(at))
            assert log_p.isfinite()
            assert torch.autograd.grad(log_p, told)[0].isfinite().all()
    told = torch.tensor([0.0, 2.0, -3.0], dtype=dtype)  # one Gaussian, N(2, e^-6)
    got = gaussian_mixture(told).log_prob(told.new_tensor(1e3))
    truth = -(mp.mpf(998) ** 2) * mp.exp(6) / 2 + 3 - mp.log(2 * mp.pi) / 2
    assert error(got, truth) < 10 * PRECISE[dtype]


@both
def test_far_from_the_data_rnade_is_small(dtype):
    torch.manual_seed(0)
    model, a = RNADE(2).to(dtype), torch.linspace(0, 6.28, 64, dtype=dtype)
    for radius in (1e2, 1e4, 1e8):
        x = radius * torch.stack([a.cos(), a.sin()], 1)
        loss = model.loss(x)
        assert loss.isfinite()
        loss.backward()
        assert all(p.grad.isfinite().all() for p in model.parameters())
        assert (model.log_prob(x) < -5).all()


@pytest.mark.parametrize("log_sigma", [-200.0, -45.0, 45.0, 200.0])
def test_extreme_widths_of_gaussians(log_sigma):
    pixels = GaussianPixels()
    q = diagonal_gaussian(torch.tensor([[0.0, 0.0, log_sigma, 0.0]]))
    mixture, record = GaussianMixture(2, K=2), [torch.zeros(2), torch.zeros(2, 2)]
    with torch.no_grad():
        pixels.log_sigma.fill_(log_sigma)
        mixture.log_sigma[0] = log_sigma
    x = torch.tensor([[0.0, 0.0], [1.0, 1e4]])
    record = Mixture(*record, torch.tensor([log_sigma, 0.0]))
    for log_p in (pixels(x).log_prob(x), mixture.log_prob(x), record.log_prob(x)):
        assert log_p.isfinite().all()
    assert q.log_prob(q.rsample()).isfinite().all()
    assert record.posterior(x).isfinite().all()


def test_gaussian_pixels_far_out():
    torch.manual_seed(0)
    model = VAE(3, latent=2, hidden=(8,), observation=GaussianPixels())
    for scale in (1e2, 1e5, 1e9):
        x = scale * torch.randn(5, 3)
        assert model.elbo(x).isfinite().all()
        assert model.iwae(x, 4).isfinite().all()


# The largest data point -------------------------------------------------------------------


def test_the_last_bin_of_quantised_data_is_closed():
    """Bounds that are the data's own: every point has a density, the largest too."""
    torch.manual_seed(0)
    for bins in (3, 7, 64, 1000):
        x = torch.rand(200, 2) * torch.tensor([1e-3, 1e3]) + 0.1
        low, high = x.amin(0), x.amax(0)
        model = Quantised(SoftmaxNADE(2, bins), low, high, bins=bins)
        assert model.log_prob(x).isfinite().all()
        corner = model.log_prob(torch.stack([low, high]))
        inside = model.log_prob(torch.stack([low, high]).lerp(x.mean(0), 1e-4))
        torch.testing.assert_close(corner, inside)
        step = (high - low) * 1e-3
        assert model.log_prob(torch.stack([low - step, high + step])).eq(-math.inf).all()


def test_bounds_without_room_are_refused():
    for high in (torch.zeros(2), torch.tensor([1.0, -1.0])):
        with pytest.raises(ValueError, match="is not below high"):
            Quantised(SoftmaxNADE(2, 4), torch.zeros(2), high, bins=4)


# The toy laws -----------------------------------------------------------------------------

EVERYWHERE = [(toy, name) for name in toy.names()]
EVERYWHERE += [(energies, name) for name in energies.names()]


@both
@pytest.mark.parametrize(
    ("room", "name"), EVERYWHERE, ids=lambda v: v if isinstance(v, str) else ""
)
def test_truths_have_a_density_and_a_score_however_far(room, name, dtype):
    truth, a = room.get(name), torch.linspace(0, 6.2832, 81, dtype=torch.float64)
    ring = torch.stack([a.cos(), a.sin()], 1)
    axes = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1], [1, 1]])
    ring = torch.cat([ring, axes.double()]).to(dtype)
    for radius in (1e1, 1e3, 3e3, 1e4, 1e7):
        log_p, score = truth.log_prob(radius * ring), truth.score(radius * ring)
        assert log_p.isfinite().all()
        assert score.isfinite().all()
        exact = truth.log_prob((radius * ring).double())
        torch.testing.assert_close(log_p.double(), exact, rtol=1e-4, atol=1e-3)
    assert not truth.log_prob(torch.tensor([[1e30, -1e30]], dtype=dtype)).isnan().any()


@both
def test_the_edge_of_a_blurred_square_in_60_digits(dtype):
    for t in (0.0, 0.3, 0.5, 0.6, 2.0, 30.0, -1e4, 1e6):
        got = laws.log_edge(torch.tensor(t, dtype=dtype), 0.5, 0.04)
        t, sigma = exactly(torch.tensor(t, dtype=dtype)), mp.mpf("0.04")
        truth = log_normal((abs(t) - 0.5) / sigma, (abs(t) + 0.5) / sigma)
        assert error(got, truth) < 10 * PRECISE[dtype], t


@both
def test_the_blurred_score_far_out_is_that_of_the_nearest_square(dtype):
    """For x -> infinity the score of N(c, s^2) blurs: d/dx log p -> -(x - edge) / s^2."""
    board = toy.get("checkerboard")
    for x in (3e3, 1e5, 1e7):
        score = board.score(torch.tensor([[x, 0.5]], dtype=dtype))[0, 0]
        assert score.item() == pytest.approx(-(x - 2) / 0.04**2, rel=1e-4)


def test_no_toys_are_none():
    for name in toy.names():
        assert toy.get(name).sample(0).shape == (0, 2)
        for wrong in (-1, 2.5):
            with pytest.raises(ValueError, match="n is"):
                toy.get(name).sample(wrong)
