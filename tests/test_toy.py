"""The toy densities against independent oracles: integrals, differences, counts."""

import math

import numpy as np
import pytest
import torch

from gdm_course import protocols
from gdm_course.data import laws, toy

every = pytest.mark.parametrize("name", toy.names())


def draw(name, n, seed=0):
    """Points of a toy in float64."""
    return toy.get(name).sample(n, torch.Generator().manual_seed(seed)).double()


@every
def test_integrates_to_one_and_bounds_hold_the_mass(name):
    """Catches a lost normaliser (weights, 2 pi, a cell's area) and bounds too tight."""
    t = toy.get(name)
    inside, area = t.cells(400)
    mass = sum(t.log_prob(part).exp().sum().item() for part in inside.split(20_000)) * area
    wide, area = t.cells(400, margin=0.3)
    total = sum(t.log_prob(part).exp().sum().item() for part in wide.split(20_000)) * area
    assert total == pytest.approx(1, abs=1e-5)
    assert 1 - 1e-4 <= mass <= total + 1e-9


@every
def test_score_is_the_slope_of_log_prob(name):
    """Central differences, not autograd: catches a wrong sign, scale or axis."""
    t, h = toy.get(name), 1e-5
    x = draw(name, 200)
    slopes = [
        (t.log_prob(x + h * e) - t.log_prob(x - h * e)) / (2 * h)
        for e in torch.eye(2, dtype=torch.float64)
    ]
    torch.testing.assert_close(t.score(x), torch.stack(slopes, 1), rtol=1e-5, atol=1e-5)


@every
def test_samples_follow_the_density(name):
    """Chi-square on cells: catches a sampler with a wrong width, weight or place."""
    t, n, side = toy.get(name), 100_000, 20
    inside, area = t.cells(400)
    p = t.log_prob(inside).exp().mul(area).view(side, 20, side, 20).sum((1, 3)).numpy()
    x = draw(name, n).numpy()
    edges = [np.linspace(low, high, side + 1) for low, high in t.bounds]
    seen = np.histogram2d(x[:, 0], x[:, 1], bins=edges)[0]
    full = p * n >= 10  # the rest, and what lies outside, is one cell more
    wanted = np.append(p[full], 1 - p[full].sum()) * n
    counts = np.append(seen[full], n - seen[full].sum())
    chi2 = ((counts - wanted) ** 2 / np.maximum(wanted, 1)).sum()
    df = full.sum()
    assert abs(chi2 - df) < 6 * math.sqrt(2 * df), f"chi-square {chi2:.0f} on {df} degrees"


@every
def test_entropy_is_minus_the_mean_log_prob(name):
    """Monte Carlo within 5 standard errors: catches a wrong cell area or sign."""
    t = toy.get(name)
    log_p = torch.cat([t.log_prob(part) for part in draw(name, 50_000).split(10_000)])
    error = log_p.std().item() / math.sqrt(len(log_p))
    assert abs(t.entropy(400) + log_p.mean().item()) < 5 * error + 1e-3


def test_entropy_of_the_funnel_and_the_banana_in_closed_form():
    """H = log(2 pi e) + E log scale: 0 for the funnel, log 0.3 for the banana."""
    h = math.log(2 * math.pi * math.e)
    assert toy.get("funnel").entropy() == pytest.approx(h, abs=1e-3)
    assert toy.get("banana").entropy() == pytest.approx(h + math.log(0.3), abs=1e-3)


def test_mixture_agrees_with_torch_distributions():
    """The same mixture by other code, with unequal widths and weights."""
    means = torch.tensor([[0.0, 1.0], [2.0, -1.0], [-3.0, 0.5]], dtype=torch.float64)
    sigma = torch.tensor([0.1, 1.0, 2.5], dtype=torch.float64)
    weights = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    D = torch.distributions
    parts = D.Independent(D.Normal(means, sigma[:, None].expand(3, 2)), 1)
    oracle = D.MixtureSameFamily(D.Categorical(weights), parts)
    x = 3 * torch.randn(100, 2, dtype=torch.float64, generator=torch.manual_seed(0))
    ours = laws.Mixture(means, sigma, weights).log_prob(x)
    torch.testing.assert_close(ours, oracle.log_prob(x))


def test_checkerboard_is_a_uniform_density_inside_its_squares():
    """Far from every edge the blur is nothing: log p = -log(8 squares of area 1)."""
    dark = torch.tensor([[-1.5, -1.5], [0.5, 0.5]], dtype=torch.float64)
    log_p = toy.get("checkerboard").log_prob(
        torch.cat([dark, dark + torch.tensor([1.0, 0])])
    )
    assert log_p[:2].tolist() == pytest.approx([-math.log(8)] * 2, abs=1e-9)
    assert (log_p[2:] < -50).all()


@every
def test_far_away_is_finite(name):
    """Catches an underflow to log 0 or 0/0 in the score, in float32, far from all mass."""
    t, x = toy.get(name), torch.tensor([[30.0, -30.0], [-8.0, 9.0], [0.0, 0.0]])
    assert t.log_prob(x).isfinite().all()
    assert t.score(x).isfinite().all()


@every
def test_shapes_dtypes_seeds_and_protocols(name):
    """Catches a hidden float64, a lost seed and a missing protocol."""
    t = toy.get(name)
    x = t.sample(7, torch.Generator().manual_seed(1))
    assert x.shape == (7, 2)
    assert x.dtype == torch.float32
    assert torch.equal(x, t.sample(7, torch.Generator().manual_seed(1)))
    assert not torch.equal(x, t.sample(7, torch.Generator().manual_seed(2)))
    assert t.log_prob(x).shape == (7,)
    assert t.log_prob(x).dtype == t.score(x).dtype == torch.float32
    assert t.log_prob(x.double()).dtype == torch.float64
    torch.testing.assert_close(
        t.log_prob(x).double(), t.log_prob(x.double()), atol=2e-3, rtol=1e-4
    )
    assert t.name == name
    assert t.D == 2
    assert t.description.endswith((".", "eps."))
    assert isinstance(t, protocols.Density)
    assert isinstance(t, protocols.Sampler)


def test_score_works_without_grad_and_inside_a_graph():
    """Catches a score that fails under no_grad or cuts its input from the graph."""
    t = toy.get("two_moons")
    with torch.no_grad():
        assert not t.score(torch.zeros(3, 2)).requires_grad
    x = torch.zeros(3, 2, dtype=torch.float64, requires_grad=True)
    hessian = torch.autograd.functional.jacobian(lambda z: t.score(z).sum(0), x)
    assert hessian.abs().sum() > 0


def test_at_least_ten_and_a_clear_error():
    assert len(toy.names()) >= 10
    with pytest.raises(
        ValueError, match="no toy density is called 'moon': choose from eight_"
    ):
        toy.get("moon")
    with pytest.raises(
        ValueError, match=r"shape \(B, 2\), got torch.float32 of shape \(2,\)"
    ):
        toy.get("ring").log_prob(torch.zeros(2))
