"""Belief nets, against sums over all causes."""

import pytest
import torch
import torch.nn.functional as F

from gdm_course.energy import belief_net as bn
from gdm_course.energy import dbn as deep
from gdm_course.energy.belief_net import SigmoidBeliefNet
from gdm_course.energy.dbn import DBN, TwoLayers, tied
from gdm_course.energy.normalise import states
from gdm_course.energy.rbm import PersistentRBM
from gdm_course.scale import energies
from gdm_course.training import forever, train


def net(D=5, H=4, scale=1.0, seed=0):
    torch.manual_seed(seed)
    model = SigmoidBeliefNet(D, H=H).double()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(scale * torch.randn_like(p))
    return model


def alarm(p=0.1, b=-4.0, w=8.0):
    """Two rare causes of one effect."""
    model = SigmoidBeliefNet(1, H=2).double()
    with torch.no_grad():
        model.a.fill_(torch.logit(torch.tensor(p)))
        model.b.fill_(b)
        model.W.fill_(w)
    return model


def test_the_joint_sums_to_one_and_its_parts_agree():
    model = net()
    v, h = states(5).double(), states(4).double()
    joint = torch.stack([model.log_joint(row.expand(16, 5), h) for row in v])
    torch.testing.assert_close(bn.log_joints(model, v), joint)
    assert joint.exp().sum().item() == pytest.approx(1)
    guesses = bn.log_factorial(model.recogniser(v), h)
    torch.testing.assert_close(guesses.exp().sum(1), torch.ones(32).double())
    torch.testing.assert_close(model.log_guess(v[:1].expand(16, 5), h), guesses[0])


def test_the_bound_falls_short_by_the_divergence():
    model, v = net(), states(5).double()
    h = states(4).double()
    log_q, log_p = bn.log_factorial(model.recogniser(v), h), bn.log_posterior(model, v)
    kl = (log_q.exp() * (log_q - log_p)).sum(1)
    short = bn.log_marginal(model, v) - bn.exact_elbo(model, v)
    torch.testing.assert_close(short, kl)
    torch.manual_seed(0)
    draws = model.elbo(v, 20_000)
    assert (draws - bn.exact_elbo(model, v)).abs().max() < 0.15


def test_explaining_away():
    p = bn.log_posterior(alarm(), torch.ones(1, 1)).exp().detach().view(2, 2)
    assert p[1].sum().item() == pytest.approx(0.489, abs=1e-3)
    assert (p[1, 1] / p[:, 1].sum()).item() == pytest.approx(0.102, abs=1e-3)
    assert (p[1, 0] / p[:, 0].sum()).item() == pytest.approx(0.859, abs=1e-3)


def divergence(q, log_p, reverse=True):
    h = states(len(q)).to(q)
    log_q = (h * q.log() + (1 - h) * (1 - q).log()).sum(1)
    one, other = (log_q, log_p) if reverse else (log_p, log_q)
    return (one.exp() * (one - other)).sum().item()


def test_mean_field_picks_a_mode_and_the_marginals_average():
    log_p = bn.log_posterior(alarm(b=-5.0, w=10.0), torch.ones(1, 1)).detach()[0]
    mode = bn.mean_field(log_p, torch.tensor([0.6, 0.4]))
    assert mode.max() > 0.8 > 0.3 > mode.min()
    assert divergence(mode, log_p) == pytest.approx(0.560, abs=2e-3)
    grid = torch.cartesian_prod(*2 * [torch.linspace(0.01, 0.99, 99).double()])
    assert divergence(mode, log_p) <= min(divergence(q, log_p) for q in grid) + 1e-3
    middle = bn.averaged(log_p)
    assert divergence(middle, log_p, reverse=False) <= min(
        divergence(q, log_p, reverse=False) for q in grid
    )


def test_wake_and_sleep_teach_who_they_should():
    model, v = net(), torch.randint(2, (8, 5)).double()
    model.wake(v).sum().backward()
    assert model.recogniser.weight.grad is None
    assert model.W.grad.abs().sum() > 0
    model.zero_grad()
    model.sleep(8).sum().backward()
    assert model.W.grad is None or model.W.grad.abs().sum() == 0
    assert model.recogniser.weight.grad.abs().sum() > 0


def test_sleep_lowers_the_other_divergence():
    """Its mean slope is that of E_p(v) KL(p(h | v) || q(h | v)), a sum over v and h."""
    model = net(3, 2)
    v, h = states(3).double(), states(2).double()
    log_q = bn.log_factorial(model.recogniser(v), h)
    joint = bn.log_joints(model, v).detach()
    exact = (joint.exp() * (bn.log_posterior(model, v).detach() - log_q)).sum()
    (slope,) = torch.autograd.grad(exact, model.recogniser.weight)
    torch.manual_seed(0)
    (seen,) = torch.autograd.grad(model.sleep(400_000).mean(), model.recogniser.weight)
    torch.testing.assert_close(seen, slope, rtol=0.05, atol=5e-3)


def test_wake_sleep_learns_bars():
    torch.manual_seed(0)
    bar = torch.eye(3).repeat_interleave(3, 0).reshape(3, 9)  # three rows of a 3 x 3
    v = bar[torch.randint(3, (3000,))]
    model = SigmoidBeliefNet(9, H=3)
    before = bn.log_marginal(model, v[:300]).mean().item()
    for _ in train(model, forever(v, 50), 1500, lr=0.02):
        pass
    after = bn.log_marginal(model, v[:300]).mean().item()
    assert before < -6.0
    assert after > -2.0  # log 3 = 1.10 at best
    assert bn.exact_elbo(model, v[:300]).mean() <= after + 1e-5


# Deep belief nets -------------------------------------------------------------------------


def grown(tie=True, seed=0):
    torch.manual_seed(seed)
    model = DBN(6, H=4).double()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn_like(p))
    first = model.top
    model.grow(tie=tie)
    return model, first


def test_upside_down_has_the_same_hidden_units():
    _, rbm = grown()
    turned, h = tied(rbm), states(4).double()
    torch.testing.assert_close(turned.energy(h), rbm.hidden_energy(h))
    torch.testing.assert_close(turned.log_z(), rbm.log_z())


def test_tied_the_bound_is_the_rbms_own_likelihood():
    model, rbm = grown()
    v = states(6).double()
    own = -rbm.energy(v) - rbm.log_z()
    torch.testing.assert_close(deep.log_marginal(model, v), own)
    torch.testing.assert_close(model.elbo(v, draws=1), own)  # whatever was drawn


def test_untied_the_bound_lies_below_and_p_sums_to_one():
    model, _ = grown(tie=False)
    v = states(6).double()
    log_p = deep.log_marginal(model, v)
    assert log_p.exp().sum().item() == pytest.approx(1)
    torch.manual_seed(1)
    assert (model.elbo(v, draws=4000) < log_p + 0.1).all()
    assert (model.elbo(v, draws=4000) < log_p - 1e-3).any()


def test_samples_follow_the_marginal():
    model, _ = grown(tie=False)
    torch.manual_seed(0)
    v = model.sample(20_000, 60)
    places = (v.long() * 2 ** torch.arange(5, -1, -1)).sum(1)
    seen = places.bincount(minlength=64).double()
    expected = 20_000 * deep.log_marginal(model, states(6).double()).exp()
    chi2 = ((seen - expected).square() / expected.clamp_min(1)).sum().item()
    assert chi2 < 63 + 6 * (2 * 63) ** 0.5


def test_only_the_top_is_trained():
    model, _ = grown()
    model.loss(torch.randint(2, (8, 6)).double()).backward()
    assert all(p.grad is None for p in model.rbms[0].parameters())
    assert all(p.grad is not None for p in model.top.parameters())
    assert not any(p.requires_grad for p in model.rbms[0].parameters())


def test_log_bits_is_the_log_of_coins():
    logits, x = torch.randn(3, 4), torch.randint(2, (3, 4)).float()
    expected = -F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
    torch.testing.assert_close(bn.log_bits(logits, x), expected)


def test_two_layers_start_from_a_trained_rbm_and_have_its_likelihood(monkeypatch):
    """Then the bound of a recipe's figure is that of the RBM: exact, for it is tied."""
    torch.manual_seed(0)
    rbm, model = PersistentRBM(8, H=4), TwoLayers(8, H=4)
    torch.nn.init.normal_(rbm.W)
    monkeypatch.setattr(energies.checkpoints, "available", lambda name: name[-3:] == "cpu")
    monkeypatch.setattr(energies.checkpoints, "load", {"energy/rbm-mnist-cpu": rbm}.get)
    monkeypatch.setattr(energies, "TEMPERATURES", 300)
    energies.on_an_rbm(model, states(8).float())
    v = states(8)[::7].float()
    with torch.no_grad():
        exact = (rbm.energy(v).mean() + rbm.log_z()).item()
    told = energies.bound_nll(model, v)
    assert abs(told.value - exact) < 6 * energies.annealed(model.top).error
    assert 50 < energies.effective_on_top(model, v).value <= 1000
    weights, below = model.top.W.clone(), rbm.W.detach().clone()
    for _ in train(model, forever(v, 5), 3, lr=0.1):
        pass
    assert not torch.equal(model.top.W, weights)
    assert torch.equal(model.rbms[0].W, below)


def test_a_narrow_top_starts_where_the_hidden_bits_are_on_average(monkeypatch):
    """Its bound is one: below log p, which the visit of all h gives."""
    torch.manual_seed(0)
    rbm, model = PersistentRBM(8, H=4), TwoLayers(8, H=4, top=3)
    torch.nn.init.normal_(rbm.W)
    monkeypatch.setattr(energies.checkpoints, "available", lambda name: name[-3:] == "cpu")
    monkeypatch.setattr(energies.checkpoints, "load", {"energy/rbm-mnist-cpu": rbm}.get)
    v = states(8)[::7].float()
    energies.on_an_rbm(model, v)
    assert model.top.W.shape == (4, 3)
    torch.testing.assert_close(torch.sigmoid(model.top.b), rbm.hidden(v).mean(0))
    exact = deep.log_marginal(model, v)
    assert model.elbo(v, draws=400).mean() < exact.mean()
