"""The unit foundations/densities: its two models, its gallery, and its identities."""

import itertools
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from gdm_course import divergences as dv
from gdm_course import gallery
from gdm_course.data import toy
from gdm_course.foundations import fit_plane
from gdm_course.foundations.densities import GaussianMixture, IndependentPixels
from gdm_course.protocols import Density, Sampler, Trainable
from gdm_course.training import forever, train


@pytest.fixture
def mixture():
    torch.manual_seed(0)
    model = GaussianMixture(2, K=5)
    nn.init.normal_(model.logits)
    nn.init.uniform_(model.log_sigma, -1.0, 0.3)
    return model.double()


@pytest.mark.parametrize("model", [GaussianMixture(2), IndependentPixels(4)])
def test_both_models_keep_all_three_promises(model):
    assert all(isinstance(model, p) for p in (Sampler, Trainable, Density))
    x = model.sample(6)
    assert x.shape == (6, 2 if isinstance(model, GaussianMixture) else 4)
    assert model.log_prob(x).shape == (6,)
    model.loss(x).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_the_mixture_is_the_sum_that_its_docstring_says(mixture):
    x = torch.randn(7, 2, dtype=torch.float64)
    by_hand = torch.zeros(7, dtype=torch.float64)
    for k, weight in enumerate(mixture.logits.softmax(0)):
        z = (x - mixture.mu[k]) / mixture.log_sigma[k].exp()
        scale = 2 * math.pi * mixture.log_sigma[k].exp().prod()
        by_hand += weight * (-z.square().sum(1) / 2).exp() / scale
    torch.testing.assert_close(mixture.log_prob(x).exp(), by_hand)


def test_the_mixture_integrates_to_one(mixture):
    x, cell = dv.grid(((-12.0, 12.0), (-12.0, 12.0)))
    assert mixture.log_prob(x).exp().sum().item() * cell == pytest.approx(1, abs=1e-6)


def test_mixture_samples_fall_where_its_density_is(mixture):
    torch.manual_seed(1)
    n, bounds = 20_000, ((-6.0, 6.0), (-6.0, 6.0))
    x, cell = dv.grid(bounds, 240)
    p = (mixture.log_prob(x).exp() * cell).view(12, 20, 12, 20).sum((1, 3)).detach()
    i = ((mixture.sample(n) + 6) / 1.0).long()
    inside = ((i >= 0) & (i < 12)).all(1)
    counts = torch.zeros(12, 12, dtype=torch.float64)
    ones = torch.ones(int(inside.sum()), dtype=torch.float64)
    counts.index_put_(tuple(i[inside].T), ones, accumulate=True)
    often = n * p > 10
    chi2 = ((counts - n * p).square() / (n * p))[often].sum().item()
    freedom = int(often.sum())
    assert chi2 < freedom + 5 * math.sqrt(2 * freedom)


def test_pixel_probabilities_sum_to_one_over_all_images():
    torch.manual_seed(2)
    model = IndependentPixels(6)
    nn.init.normal_(model.logits)
    states = torch.tensor(list(itertools.product([0.0, 1.0], repeat=6)))
    assert model.log_prob(states).exp().sum().item() == pytest.approx(1, abs=1e-5)


def test_training_pixels_finds_their_frequencies():
    torch.manual_seed(3)
    x = (torch.rand(400, 5) < torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9])).float()
    model = IndependentPixels(5)
    for _ in train(model, forever(x, 400), 300, lr=0.1):
        pass
    torch.testing.assert_close(model.logits.sigmoid(), x.mean(0), atol=0.01, rtol=0)


def test_likelihood_less_entropy_is_kl():
    # equation (4) of the lecture, with three independently computed terms
    truth = toy.get("banana")
    torch.manual_seed(4)
    model = GaussianMixture(2, K=3)
    with torch.no_grad():
        model.mu.mul_(2)
        exact = dv.kl(truth.log_prob, model.double().log_prob, ((-9.0, 9.0), (-9.0, 14.0)))
        nll = dv.monte_carlo(-model.log_prob(truth.sample(40_000).double()))
    assert abs(nll.value - truth.entropy() - exact) < 5 * nll.error + 2e-3


def test_fit_plane_comes_closer_to_the_moons_than_any_single_gaussian():
    truth = toy.get("two_moons")
    g = torch.Generator().manual_seed(5)
    x, held_out = truth.sample(4000, g), truth.sample(4000, g)
    single = torch.distributions.MultivariateNormal(x.mean(0), x.T.cov())
    model = fit_plane(x, steps=150)
    gap = dv.kl_estimate(truth.log_prob, model.log_prob, held_out).value
    assert gap < 0.5 * dv.kl_estimate(truth.log_prob, single.log_prob, held_out).value
    again = fit_plane(x, steps=150)
    assert torch.equal(model.mu, again.mu)  # the seed decides


def test_the_taxonomy_lists_this_units_models():
    rows = {name: (family, able) for family, name, able in gallery.taxonomy()}
    family, able = rows["GaussianMixture"]
    assert family == "Foundations"
    assert able == {"Sampler": True, "Trainable": True, "Density": True}


class OnlySamples(nn.Module):
    """Stands for a family without a density."""

    def sample(self, n):
        return torch.zeros(n, 2)


def test_a_new_family_joins_the_gallery_without_an_edit(monkeypatch):
    package = gallery._package
    fake = SimpleNamespace(fit_plane=lambda x, steps, seed: OnlySamples())
    some = {"foundations": "Foundations", "fake": "Fake models", "planned": "Not yet"}
    monkeypatch.setattr(gallery, "families", lambda: some)
    monkeypatch.setattr(gallery, "_package", lambda s: fake if s == "fake" else package(s))
    entries = gallery.fit(steps=2)
    assert [e.family for e in entries] == ["Foundations", "Fake models"]
    assert entries[0].gap.value > 0
    assert entries[1].gap is None
    titles = [ax.get_title(loc="left") for ax in gallery.figure(steps=2).axes]
    assert titles[0].startswith("The truth")
    assert titles[2] == "Fake models\nOnlySamples: samples"


def test_the_gallery_draws_a_small_picture(tmp_path, monkeypatch):
    monkeypatch.setenv("GDM_SMOKE", "1")
    path = tmp_path / "deep" / "gallery.png"
    gallery.draw(path, steps=2)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.stat().st_size < 200_000
