"""Boltzmann machines, restricted ones, annealed importance sampling, experts."""

import copy
import math

import pytest
import torch
from lightning.fabric import Fabric
from scipy import stats
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from gdm_course.checks.laws import not_drawn_from
from gdm_course.energy import ais
from gdm_course.energy.boltzmann import BoltzmannMachine, Ising, symmetric
from gdm_course.energy.experts import ProductOfExperts, product_of_gaussians
from gdm_course.energy.gaussian_rbm import GaussianRBM, components
from gdm_course.energy.normalise import Normalised, log_z_grid, log_z_states, states
from gdm_course.energy.rbm import RBM, PersistentRBM, coin, gibbs_matrix, logit_mean
from gdm_course.evaluation.likelihood import nll_estimate
from gdm_course.recipes import Recipe
from gdm_course.scale import energies
from gdm_course.scale.run import prepare
from gdm_course.training import forever, generator, sgd, train


def lively(model, scale=1.0, seed=0):
    """Weights far from 0, in float64."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(scale * torch.randn(p.shape, generator=g))
    return model.double()


def law(model, D):
    """p of all 2^D states, in float64."""
    return torch.softmax(-model.energy(states(D)).detach(), 0)


# Ising ------------------------------------------------------------------------------------


@pytest.mark.parametrize("T", [1.5, 2.269, 4.0])
def test_ising_has_the_partition_function_of_its_transfer_matrix(T):
    """Z = trace of M^L, where M goes from one row of spins to the next: 16 x 16."""
    L, sheet = 4, Ising(4, T=T).double()
    rows = 2 * states(L).double() - 1
    within = (rows * rows.roll(1, 1)).sum(1) / T
    M = torch.exp(rows @ rows.T / T + within)
    log_z = torch.logsumexp(-sheet.energy(states(L * L).view(-1, L, L)), 0)
    torch.testing.assert_close(log_z, torch.linalg.matrix_power(M, L).trace().log())


def test_sweeps_leave_the_sheet_as_likely_as_it_is():
    sheet = Ising(4, T=2.6).double()
    every = states(16).view(-1, 4, 4)
    E = sheet.energy(every)
    p = torch.softmax(-E, 0)
    mean = (p * E).sum()
    spread = ((p * E**2).sum() - mean**2).sqrt()
    drawn = sheet.energy(sheet.sample(5000, 60, generator(1))).mean()
    assert abs(drawn - mean) < 6 * spread / math.sqrt(5000)


def test_below_the_critical_temperature_a_sheet_is_magnetic():
    """Onsager, Yang: m^8 = 1 - sinh(2 / T)^-4."""
    T, L = 2.0, 32
    sheet, x = Ising(L, T=T), torch.ones(40, L, L)
    means = []
    for i in range(160):
        x = sheet.sweep(x, generator(100 + i))
        means += [(2 * x - 1).mean()] if i >= 60 else []
    true = (1 - math.sinh(2 / T) ** -4) ** (1 / 8)
    assert torch.stack(means).mean().item() == pytest.approx(true, abs=0.01)


@pytest.mark.parametrize(
    ("L", "T"), [(5, 2.0), (0, 2.0), (4, 0.0), (4, -1.0), (4, math.nan)]
)
def test_a_sheet_has_an_even_side_and_a_positive_temperature(L, T):
    with pytest.raises(ValueError, match="expected"):
        Ising(L, T=T)


# A general Boltzmann machine --------------------------------------------------------------


def test_the_slope_is_model_minus_data():
    machine = lively(BoltzmannMachine(6))
    x = states(6)[torch.tensor([3, 17, 17, 40, 63])].double()
    machine.loss(x).backward()
    p, every = law(machine, 6), states(6).double()
    together = (every.T * p) @ every - x.T @ x / len(x)
    i, j = torch.triu_indices(6, 6, 1)
    torch.testing.assert_close(machine.wires.grad, together[i, j])
    torch.testing.assert_close(machine.b.grad, p @ every - x.mean(0))


def test_a_machine_energy_is_pairs_and_biases():
    machine = lively(BoltzmannMachine(4))
    J, x = symmetric(machine.wires, 4).detach(), states(4).double()
    by_hand = [
        -sum(J[i, j] * s[i] * s[j] for i in range(4) for j in range(i + 1, 4))
        - s @ machine.b
        for s in x
    ]
    torch.testing.assert_close(machine.energy(x), torch.stack(by_hand))
    assert torch.equal(J, J.T)
    assert not J.diagonal().any()


def test_units_drawn_in_turn_have_the_machine_s_law():
    machine = lively(BoltzmannMachine(4), 0.8)
    torch.manual_seed(0)
    assert not not_drawn_from(machine.sample(20_000, 40), law(machine, 4))


# RBM: conditionals and energies -----------------------------------------------------------


def joint(rbm):
    """p of all (v, h): (2^D, 2^H)."""
    D, H = rbm.W.shape
    v, h = states(D).double(), states(H).double()
    E = -(v @ rbm.W @ h.T + (v @ rbm.b)[:, None] + h @ rbm.c)
    return torch.softmax(-E.flatten(), 0).view(len(v), len(h)).detach(), E.detach()


def test_free_energy_and_conditionals_are_those_of_the_joint_law():
    rbm = lively(RBM(5, H=3))
    v, h = states(5).double(), states(3).double()
    p, E = joint(rbm)
    torch.testing.assert_close(rbm.energy(v), -torch.logsumexp(-E, 1))
    torch.testing.assert_close(rbm.joint_energy(v[:8], h), E[:8].diagonal())
    torch.testing.assert_close(rbm.hidden(v), (p / p.sum(1, keepdim=True)) @ h)
    torch.testing.assert_close(rbm.visible(h), (p / p.sum(0)).T @ v)


def test_log_z_is_the_same_from_both_sides():
    rbm, wide = lively(RBM(7, H=4)), lively(RBM(4, H=7), seed=3)
    for model, D in ((rbm, 7), (wide, 4)):
        torch.testing.assert_close(model.log_z(), log_z_states(model.energy, D))
        torch.testing.assert_close(
            model.log_z(), torch.logsumexp(-joint(model)[1].flatten(), 0)
        )


def test_a_gibbs_step_leaves_the_model_s_law_and_balances_in_detail():
    rbm = lively(RBM(6, H=4))
    T, p = gibbs_matrix(rbm), law(rbm, 6)
    torch.testing.assert_close(T.sum(1), torch.ones(64).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(p @ T, p, rtol=0, atol=1e-12)
    flow = p[:, None] * T
    torch.testing.assert_close(flow, flow.T, rtol=0, atol=1e-12)


def test_the_chain_moves_as_the_matrix_says():
    rbm = lively(RBM(4, H=3))
    start = states(4)[6].double().expand(20_000, -1)
    drawn = rbm.gibbs(start, 2, generator(2))
    assert not not_drawn_from(drawn, torch.linalg.matrix_power(gibbs_matrix(rbm), 2)[6])


# RBM: training ----------------------------------------------------------------------------


def test_the_loss_has_the_slope_data_minus_chain():
    rbm = lively(RBM(5, H=3))
    v, ends = (states(5)[torch.tensor(rows)].double() for rows in ([1, 9, 30], [4, 4, 22]))
    rbm.gibbs = lambda v, k: ends
    rbm.loss(v).backward()
    h, far = rbm.hidden(v), rbm.hidden(ends)
    torch.testing.assert_close(rbm.W.grad, (ends.T @ far - v.T @ h) / 3)
    torch.testing.assert_close(rbm.b.grad, ends.mean(0) - v.mean(0))
    torch.testing.assert_close(rbm.c.grad, far.mean(0) - h.mean(0))


def test_with_many_steps_contrastive_divergence_is_maximum_likelihood():
    rbm, every = lively(RBM(5, H=3)), states(5)
    q = torch.zeros(32).double().index_fill_(0, torch.tensor([2, 11, 29]), 1 / 3)

    def slope(law_of_ends):
        return torch.autograd.grad(((q - law_of_ends) * rbm.energy(every)).sum(), rbm.W)[0]

    exact = (q * rbm.energy(every)).sum() + rbm.log_z()
    (exact,) = torch.autograd.grad(exact, rbm.W)
    T = gibbs_matrix(rbm)
    one, many = (slope(q @ torch.linalg.matrix_power(T, k)) for k in (1, 4000))
    torch.testing.assert_close(many, exact, rtol=1e-6, atol=1e-9)
    assert (one - exact).norm() > 0.05 * exact.norm()


def test_persistent_chains_move_when_a_loss_teaches_and_only_then():
    rbm = PersistentRBM(6, H=3, chains=9)
    v, before = states(6)[:5], rbm.chain.clone()
    assert before.shape == (9, 6)
    rbm.loss(v)
    rbm.eval().loss(v).backward()
    assert torch.equal(rbm.chain, before)
    rbm.train().loss(v).backward()
    assert not torch.equal(rbm.chain, before)
    assert set(rbm.chain.unique().tolist()) <= {0, 1}
    assert "chain" in rbm.state_dict()


@pytest.mark.parametrize("k", [1, 3])
def test_a_step_by_hand_is_a_step_of_plain_descent(k):
    by_hand = lively(PersistentRBM(6, H=3, k=k, chains=9))
    by_loss, v = copy.deepcopy(by_hand), states(6)[::13].double()
    optimiser = sgd(by_loss, 0.2)
    for seed in range(3):
        torch.manual_seed(seed)
        by_hand.ascend(v, 0.2)
        torch.manual_seed(seed)
        optimiser.zero_grad()
        by_loss.loss(v).backward()
        optimiser.step()
        for ours, other in zip(by_hand.parameters(), by_loss.parameters()):
            torch.testing.assert_close(ours, other)
        assert torch.equal(by_hand.chain, by_loss.chain)
    with pytest.raises(ValueError, match="v has shape"):
        by_hand.ascend(v[:, :5], 0.2)


@pytest.mark.parametrize("cls", [RBM, PersistentRBM])
def test_an_rbm_learns_three_patterns(cls):
    torch.manual_seed(0)
    x = states(6)[torch.tensor([0b111000, 0b000111, 0b101101])].repeat(20, 1)
    rbm = cls(6, H=6, k=5)
    sgd, rate = torch.optim.SGD(rbm.parameters(), 0.3), lambda t: 0.3 * (1 - t / 600)
    for _ in train(rbm, forever(x, 60), 600, rate, sgd):
        pass
    with torch.no_grad():
        nll = rbm.energy(x).mean() + rbm.log_z()
    assert nll < math.log(3) + 0.5  # at the start 6 log 2 = 4.2
    drawn = rbm.sample(500, 100)
    hits = (drawn[:, None] == x[:3]).all(2).any(1).double().mean()
    assert hits > 0.6


def test_biases_alone_reproduce_the_means():
    x = torch.tensor([[0, 1, 1], [0, 0, 1], [0, 1, 1], [0, 1, 1.0]])
    p = torch.sigmoid(logit_mean(x))
    torch.testing.assert_close(p, torch.tensor([1e-3, 0.75, 1 - 1e-3]))


# Annealed importance sampling -------------------------------------------------------------


def test_with_one_temperature_it_is_importance_sampling():
    rbm, a = lively(RBM(5, H=3)), torch.randn(5).double()
    log_w = ais.annealed_log_weights(rbm, a, (0, 1), 50, generator(3))
    v = coin(torch.sigmoid(a).expand(50, -1), generator(3))
    start = v @ a + 3 * math.log(2)
    torch.testing.assert_close(log_w, (-rbm.energy(v) - start).detach())


@pytest.mark.parametrize("betas", [(0, 1), (0, 0.5, 1), (0, 0.2, 0.5, 0.8, 1)])
def test_the_mean_weight_is_the_ratio_of_constants(betas):
    rbm, a = lively(RBM(4, H=3), 0.7), torch.tensor([0.5, -1, 0, 1]).double()
    w = ais.annealed_log_weights(rbm, a, betas, 200_000, generator(4)).exp()
    ratio = (rbm.log_z() - ais.log_z_start(a, 3)).exp()
    assert abs(w.mean() - ratio) < 6 * w.std() / math.sqrt(len(w))
    assert w.log().mean() < ratio.log()


@pytest.mark.parametrize("B", [0.0, 0.3, 1.0])
def test_a_step_leaves_the_law_between_as_it_is(B):
    rbm, a = lively(RBM(4, H=3)), torch.tensor([0.5, -1, 0, 1]).double()
    every = states(4).double()
    p = torch.softmax(ais.log_between(rbm, a, B, every).detach(), 0)
    start = every[p.multinomial(40_000, replacement=True, generator=generator(5))]
    with torch.no_grad():
        drawn = ais.step_between(rbm, a, B, rbm.c + start @ rbm.W, generator(6))
    assert not not_drawn_from(drawn, p)


def test_the_path_begins_and_ends_where_it_should():
    rbm, a, v = lively(RBM(4, H=3)), torch.randn(4).double(), states(4).double()
    torch.testing.assert_close(ais.log_between(rbm, a, 1, v), -rbm.energy(v))
    first = torch.logsumexp(ais.log_between(rbm, a, 0, v), 0)
    torch.testing.assert_close(first, ais.log_z_start(a, 3))


def test_an_estimate_of_log_z_says_how_many_chains_count():
    even = ais.log_z_estimate(torch.full((8,), 2.0), 1.5)
    assert even.value == pytest.approx(3.5)
    assert even.error == pytest.approx(0, abs=1e-7)
    assert even.effective == pytest.approx(8)
    one = ais.log_z_estimate(torch.tensor([0.0, -800, -800, -800]))
    assert one.value == pytest.approx(-math.log(4))
    assert one.effective == pytest.approx(1)


@pytest.mark.parametrize("betas", [(0, 0.5), (0.1, 1), (0, 0.7, 0.3, 1), (0, 0.5, 0.5, 1)])
def test_a_path_rises_from_0_to_1(betas):
    with pytest.raises(ValueError, match="expected 0 to 1, rising"):
        ais.annealed_log_weights(RBM(4, H=2), torch.zeros(4), betas)


def test_figures_of_recipes_are_the_exact_ones_where_both_are_known(monkeypatch):
    monkeypatch.setattr(energies, "TEMPERATURES", 500)
    torch.manual_seed(0)
    rbm, x = lively(PersistentRBM(8, H=5), 0.7).float(), states(8)[:200]
    exact = nll_estimate(Normalised(rbm, rbm.log_z()), x)
    about = energies.annealed_nll(rbm, x)
    log_z = energies.annealed(rbm)
    assert abs(log_z.value - rbm.log_z()) < 6 * log_z.error
    assert abs(about.value - exact.value) < 6 * log_z.error
    assert energies.exact_nll(rbm, x).value == pytest.approx(exact.value, abs=1e-4)
    assert about.error == pytest.approx(math.hypot(exact.error, log_z.error), rel=1e-3)
    assert 100 < energies.effective_chains(rbm, x).value <= 1000
    with torch.no_grad():
        rbm.W.mul_(0.5)  # other weights: annealed anew
    assert energies.annealed(rbm) != log_z


def test_a_recipe_may_begin_at_the_means_of_its_data():
    recipe = Recipe(
        name="energy/tiny",
        unit="energy/boltzmann",
        model="energy.rbm.PersistentRBM",
        args=(64,),
        data="scale.data.binary_images",
        data_args=("digits",),
        begin="scale.energies.at_means",
        steps=1,
        ema=0.9,
    )
    run = prepare(recipe, Fabric(accelerator="cpu", devices=1))
    torch.testing.assert_close(run.model.b.data, logit_mean(run.splits.train))
    assert torch.equal(run.average.b, run.model.b)


def test_plain_descent_is_plain():
    rbm = RBM(4, H=2)
    before, optimiser = rbm.W.detach().clone(), sgd(rbm, 0.1)
    rbm.loss(states(4)).backward()
    optimiser.step()
    torch.testing.assert_close(rbm.W.detach(), before - 0.1 * rbm.W.grad)


# Gaussian visible units -------------------------------------------------------------------


def gaussian():
    model = lively(GaussianRBM(2, H=3, sigma=0.5), 0.5)
    return model, ((-7.0, 7.0), (-7.0, 7.0))


def test_a_gaussian_rbm_integrates_to_one_and_is_a_mixture():
    model, box = gaussian()
    log_z = model.log_z()
    assert abs(log_z_grid(model.energy, box, 300, torch.float64) - log_z) < 1e-9
    log_weights, means = components(model)
    law = MixtureSameFamily(
        Categorical(logits=log_weights), Independent(Normal(means, model.sigma), 1)
    )
    x = torch.randn(50, 2, generator=generator(7)).double()
    torch.testing.assert_close(-model.energy(x) - log_z, law.log_prob(x))
    (slope,) = torch.autograd.grad(law.log_prob(x.requires_grad_()).sum(), x)
    torch.testing.assert_close(model.score(x), slope)


def test_its_free_energy_and_chain_belong_to_its_joint_energy():
    model, _ = gaussian()
    x, h = torch.randn(6, 2, generator=generator(8)).double(), states(3).double()
    E = torch.stack([model.joint_energy(x, one.expand(6, 3)) for one in h], 1)
    torch.testing.assert_close(model.energy(x), -torch.logsumexp(-E, 1))
    torch.testing.assert_close(model.hidden(x), torch.softmax(-E, 1) @ h)
    drawn = model.gibbs(model.sample(20_000), 3, generator(9))
    log_weights, means = (t.detach() for t in components(model))
    torch.manual_seed(1)
    law = MixtureSameFamily(Categorical(logits=log_weights), Normal(means[:, 0], 0.5))
    assert (
        stats.kstest(
            drawn[:, 0].numpy(), lambda t: law.cdf(torch.from_numpy(t)).numpy()
        ).pvalue
        > 1e-4
    )


# Experts ----------------------------------------------------------------------------------


def test_a_product_of_gaussians_is_proportional_to_its_formula():
    mean, sigma = (
        torch.tensor([0.5, -1.0, 2.0]).double(),
        torch.tensor([1.0, 0.4, 2.0]).double(),
    )
    m, s = product_of_gaussians(mean, sigma)
    x = torch.linspace(-3, 3, 40).double()
    log_product = Normal(mean, sigma).log_prob(x[:, None]).sum(1)
    off = log_product - Normal(m, s).log_prob(x)
    torch.testing.assert_close(off, off[:1].expand(40))


def test_experts_add_their_opinions():
    model = lively(ProductOfExperts(2, K=3), 0.4)
    x = torch.randn(5, 2, generator=generator(10)).double()
    product = torch.exp(-(x / model.wide.exp()).square().sum(1) / 2)
    for mean, scale, height in zip(model.means, model.scales, model.heights):
        bump = torch.exp(-((x - mean) / scale.exp()).square().sum(1) / 2)
        product = product * (1 + height.exp() * bump)
    torch.testing.assert_close(model.energy(x), -product.log())


class ExactExperts(ProductOfExperts):
    """Trained by the likelihood itself, with log Z from a grid."""

    def loss(self, x):
        log_z = log_z_grid(self.energy, ((-6, 6), (-6, 6)), 40)
        return self.energy(x).mean() + log_z


@pytest.mark.parametrize("cls", [ProductOfExperts, ExactExperts])
def test_trained_on_a_bell_the_energy_is_lowest_in_its_middle(cls):
    """Whatever the objective: torchebm#318 had an energy upside down."""
    torch.manual_seed(0)
    model = cls(2, K=3)
    x = torch.randn(4000, 2)
    for _ in train(model, forever(x, 500), 200, lr=lambda t: 0.1 * (1 - t / 200)):
        pass
    middle, far = model.energy(torch.tensor([[0.0, 0.0], [3.0, 0.0]]))
    assert middle < far
    y = torch.randn(500, 2, generator=generator(11)).requires_grad_()
    (slope,) = torch.autograd.grad(model.energy(y).sum(), y)
    wrong = (slope - y).square().mean() / y.square().mean()
    assert wrong.sqrt() < 0.2


def test_a_product_s_chain_keeps_its_law():
    model = lively(ProductOfExperts(1, K=2, eps=0.3), 0.7)
    x = torch.linspace(-9, 9, 20_001).double()
    p = torch.softmax(-model.energy(x[:, None]).detach(), 0)
    torch.manual_seed(2)
    drawn = model.sample(4000, 400)[:, 0].numpy()

    def cdf(t):
        return p.cumsum(0)[torch.searchsorted(x, torch.from_numpy(t))].numpy()

    assert stats.kstest(drawn, cdf).pvalue > 1e-4
