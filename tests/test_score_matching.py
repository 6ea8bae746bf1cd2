"""Score matching and noise-contrastive estimation, against closed forms and quadrature."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal

from gdm_course.data import toy
from gdm_course.energy import score_matching as sm
from gdm_course.energy.nce import NCE, GaussianNoise, info_nce
from gdm_course.energy.network import EnergyNet
from gdm_course.energy.normalise import cell_centres, log_z_grid
from gdm_course.training import forever, generator, train

COVARIANCE = torch.tensor([[1.5, 0.6], [0.6, 0.8]], dtype=torch.float64)


class Linear(nn.Module):
    """s(x) = A x, whose best A is known: minus the inverse of the data's second moments."""

    D = 2

    def __init__(self):
        super().__init__()
        self.A = nn.Parameter(-torch.eye(2, dtype=torch.float64))

    def score(self, x):
        return x @ self.A.T

    def at(self, x):
        x = x.detach().requires_grad_()
        return x, self.score(x)


def gaussian(n, seed=0):
    L = torch.linalg.cholesky(COVARIANCE)
    return torch.randn(n, 2, dtype=torch.float64, generator=generator(seed)) @ L.T


# The pieces -------------------------------------------------------------------------------


def test_trace_and_product_equal_the_jacobian():
    net = sm.ScoreModel(3).double()
    x, s = net.at(torch.randn(5, 3, dtype=torch.float64))
    J = torch.stack(
        [torch.autograd.functional.jacobian(lambda t: net.score(t[None])[0], r) for r in x]
    )
    torch.testing.assert_close(
        sm.trace_of_jacobian(s, x), J.diagonal(dim1=1, dim2=2).sum(1)
    )
    v = torch.randn(5, 3, dtype=torch.float64)
    expected = torch.einsum("bi,bij,bj->b", v, J, v)
    torch.testing.assert_close(sm.product_with_jacobian(s, x, v), expected)


def test_the_variance_of_hutchinsons_estimate():
    """2 sum of squares off the diagonal for signs, 2 |A|^2 for normal v; A symmetric."""
    A = torch.randn(4, 4, generator=generator(1), dtype=torch.float64)
    A, n = (A + A.T) / 2, 40_000
    x = torch.randn(n, 4, dtype=torch.float64).requires_grad_()
    torch.manual_seed(0)
    draws = {"signs": sm.signs_like(x), "normal": torch.randn_like(x)}
    off = A - A.diag().diag()
    for kind, exact in {"signs": off, "normal": A}.items():
        got = sm.product_with_jacobian(x @ A, x, draws[kind].detach())
        variance = 2 * exact.square().sum().item()
        assert got.mean().item() == pytest.approx(
            A.trace().item(), abs=6 * (variance / n) ** 0.5
        )
        assert got.var().item() == pytest.approx(variance, rel=0.2)


@pytest.mark.parametrize("kind", [sm.ScoreModel, sm.SlicedScoreModel])
def test_the_best_linear_score_is_minus_the_precision(kind):
    """The loss is quadratic in A: its gradient vanishes at -C^-1 and at nothing near it."""
    x, model = gaussian(4000), Linear()
    C = x.T @ x / len(x)
    with torch.no_grad():
        model.A.copy_(-torch.linalg.inv(C))
    torch.manual_seed(0)
    loss = kind.loss(model, x)
    (slope,) = torch.autograd.grad(loss, model.A)
    noise = 0 if kind is sm.ScoreModel else 6 / len(x) ** 0.5
    assert slope.abs().max() <= 1e-10 + noise
    if kind is sm.ScoreModel:  # J* = -E|s_p|^2 / 2
        assert loss.item() == pytest.approx(-torch.linalg.inv(C).trace().item() / 2)


def test_the_loss_is_half_the_fisher_divergence_and_a_constant():
    """J(s) - J(s_p) = E |s - s_p|^2 / 2, by quadrature over all of a density."""
    truth = toy.get("eight_gaussians")
    points, volume = cell_centres(truth.bounds, 120)
    weight = truth.log_prob(points).exp() * volume
    net = sm.ScoreModel(2, scale=0.5).double()

    def J(score):
        x = points.clone().requires_grad_()
        s = score(x)
        values = s.square().sum(1) / 2 + sm.trace_of_jacobian(s, x)
        return (weight * values.detach()).sum().item()

    def true_score(x):
        (s,) = torch.autograd.grad(truth.log_prob(x).sum(), x, create_graph=True)
        return s

    apart = (net.score(points) - truth.score(points)).square().sum(1).detach()
    gap = J(net.score) - J(true_score)
    assert gap == pytest.approx((weight * apart).sum().item() / 2, rel=5e-3)


def test_denoising_is_lowest_at_the_score_of_the_blurred_density_and_not_at_0():
    """For x ~ N(0, C): s(x) = -(C + sigma^2)^-1 x, floor D/2 - sigma^2 E|s|^2 / 2."""
    sigma, x = 0.7, gaussian(200_000)

    class Known(sm.DenoisingScoreModel):
        def score(self, x):
            return -x @ torch.linalg.inv(COVARIANCE + sigma**2 * torch.eye(2))

    model = Known(2, sigma=sigma).double()
    torch.manual_seed(1)
    precision = torch.linalg.inv(COVARIANCE + sigma**2 * torch.eye(2, dtype=torch.float64))
    floor = 1 - sigma**2 * precision.trace().item() / 2
    assert model.loss(x).item() == pytest.approx(floor, abs=0.015)
    clean = MultivariateNormal(torch.zeros(2, dtype=torch.float64), COVARIANCE)
    noisy = torch.tensor([[1.0, -0.5]], dtype=torch.float64)
    posterior = COVARIANCE @ precision @ noisy[0]
    torch.testing.assert_close(model.denoise(noisy)[0], posterior)
    assert clean.log_prob(x[:5]).shape == (5,)


# Training: one sign for all ---------------------------------------------------------------


def objectives():
    noise = GaussianNoise(torch.randn(8000, 2, generator=generator(3)), 1.5)
    small = {"waves": 16, "scale": 0.3}
    return {
        "explicit": lambda: sm.ScoreModel(2, **small),
        "sliced": lambda: sm.SlicedScoreModel(2, **small),
        "denoising": lambda: sm.DenoisingScoreModel(2, sigma=0.2, **small),
        "noises": lambda: sm.NoiseConditionalModel(2, sigmas=(1.0, 0.5, 0.2), **small),
        "NCE": lambda: NCE(EnergyNet(2, **small, width=2.0), noise),
    }


@pytest.mark.parametrize("name", objectives())
def test_after_training_on_a_bell_the_score_points_home(name):
    """It would have noticed an energy upside down, whatever the objective."""
    torch.manual_seed(0)
    model, x = objectives()[name](), torch.randn(8000, 2)
    for _ in train(model, forever(x, 128), 250, lr=lambda k: 8e-3 * (1 - k / 250)):
        pass
    at = torch.randn(500, 2)
    held = model.model if name == "NCE" else model
    blur = {"denoising": 1.04, "noises": 1.04}.get(name, 1.0)
    off = held.score(at) + at / blur
    assert off.square().sum(1).mean() < 0.2**2 * at.square().sum(1).mean() + 0.02
    if name == "NCE":
        low, high = held.energy(torch.tensor([[0.0, 0.0], [3.0, 0.0]]))
        assert low < high


def test_c_comes_to_be_log_z_and_without_the_count_it_is_off_by_log_nu():
    noise = objectives()["NCE"]().noise
    found = {}
    for count in (True, False):
        torch.manual_seed(0)
        model = NCE(EnergyNet(2, width=2.0, scale=0.3), noise, nu=4, count=count)
        x = torch.randn(8000, 2)
        for _ in train(model, forever(x, 128), 250, lr=lambda k: 8e-3 * (1 - k / 250)):
            pass
        with torch.no_grad():
            log_z = log_z_grid(model.model.energy, ((-7, 7), (-7, 7)), 150)
            found[count] = model.c.item() - log_z.item()
    assert abs(found[True]) < 0.06
    assert found[False] - found[True] == pytest.approx(math.log(4), abs=0.06)


def test_the_best_logit_is_the_log_ratio_of_the_densities():
    """The loss over two Gaussians is lowest, by quadrature, at E = -log p and c = 0."""
    x, dx = torch.linspace(-9, 9, 3001, dtype=torch.float64), 18 / 3000
    log_p = -(x**2) / 2 - 0.5 * math.log(2 * math.pi)
    log_n = -(x**2) / 8 - 0.5 * math.log(8 * math.pi)
    soft, nu = torch.nn.functional.softplus, 3

    def loss(E, c):
        G = -E - c - log_n - math.log(nu)
        return ((log_p.exp() * soft(-G) + nu * log_n.exp() * soft(G)) * dx).sum()

    best = loss(-log_p, 0.0)
    for a, c in [(1.1, 0.0), (0.9, 0.0), (1.0, 0.1), (1.0, -0.1)]:
        assert loss(-a * log_p, c) > best + 1e-6


# Samples, and blindness -------------------------------------------------------------------


def test_annealed_chains_find_the_weights_of_far_modes():
    """With the exact scores of 0.8 and 0.2 at +-3; not without the noises between."""
    torch.manual_seed(0)
    places, weights = torch.tensor([-3.0, 3.0]), torch.tensor([0.2, 0.8])

    class Exact(sm.NoiseConditionalModel):
        def score(self, x, sigma=None):
            s2 = 0.25 + torch.as_tensor(sigma) ** 2
            d = x - places
            share = (weights.log() - d**2 / (2 * s2)).softmax(1)
            return -(share * d).sum(1, keepdim=True) / s2

    sigmas = (6.0, 3.0, 1.5, 0.7, 0.3, 0.1)
    right = (Exact(1, sigmas=sigmas).sample(4000) > 0).float().mean().item()
    assert right == pytest.approx(0.8, abs=0.06)
    jump = (Exact(1, sigmas=(6.0, 0.1)).sample(4000) > 0).float().mean().item()
    assert jump < 0.7


@pytest.mark.parametrize("kind", [sm.ScoreModel, sm.NoiseConditionalModel])
def test_samples_have_a_shape_and_none_is_none(kind):
    model = kind(3)
    assert model.sample(4, 2).shape == (4, 3)
    assert model.sample(0).shape == (0, 3)
    assert not model.sample(2, 1).requires_grad


def test_the_energys_score_is_minus_its_slope_and_can_be_learned_through():
    net = EnergyNet(2).double()
    nn.init.normal_(net.f[1][-1].weight)
    x = torch.randn(4, 2, dtype=torch.float64)
    h = 1e-6 * torch.eye(2, dtype=torch.float64)
    slope = torch.stack([(net.energy(x + d) - net.energy(x - d)) / 2e-6 for d in h], 1)
    torch.testing.assert_close(net.score(x), -slope, rtol=1e-5, atol=1e-6)
    net.score(x).square().sum().backward()
    assert all(p.grad is not None for p in net.f[1][:-1].parameters())


def test_info_nce_stays_below_what_the_partners_share():
    """Correlated bells share -log(1 - r^2) / 2 nats; the best scores reach it with many."""
    torch.manual_seed(0)
    r, B = 0.8, 512
    bounds = []
    for _ in range(30):
        a = torch.randn(B)
        b = r * a + math.sqrt(1 - r * r) * torch.randn(B)
        diff = b[None] - r * a[:, None]
        scores = -(diff**2) / (2 * (1 - r * r)) + b[None] ** 2 / 2
        bounds.append(math.log(B) - info_nce(scores).item())
    shared = -0.5 * math.log(1 - r * r)
    mean = sum(bounds) / len(bounds)
    assert shared - 0.05 < mean < shared + 0.02
