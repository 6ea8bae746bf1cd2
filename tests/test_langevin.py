"""Deep energies: their gradients, their chains, and what adds up, against closed forms."""

import math

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch.distributions import MultivariateNormal

from gdm_course.data import toy
from gdm_course.divergences import kl_estimate
from gdm_course.energy import energy_matching as em
from gdm_course.energy import fit_plane
from gdm_course.energy import langevin as lg
from gdm_course.energy.network import Bowl, EnergyNet, FittedBowl
from gdm_course.energy.normalise import cell_centres, log_z_grid
from gdm_course.energy.pictures import ConvEnergyModel
from gdm_course.evaluation.samples import frechet as distance
from gdm_course.recipes.energy_langevin import RECIPES
from gdm_course.scale import deep_energies
from gdm_course.training import forever, generator, train

BOX = ((-7.0, 7.0), (-7.0, 7.0))
SMALL = {"waves": 8, "hidden": (16,), "scale": 0.5}


def stay(energy, x, eps):
    return x


def slopes(model, value):
    return torch.autograd.grad(value, [*model.f.parameters()], allow_unused=True)


def wavy(kind=lg.ExactEnergyModel, *args, seed=0, **more):
    """A model whose network is not 0, in double precision."""
    torch.manual_seed(seed)
    model = kind(2, *args, width=1.5, **{**SMALL, **more}).double()
    torch.nn.init.normal_(model.f[1][-1].weight, std=0.3)
    return model


def points(n, seed=1):
    return torch.randn(n, 2, generator=generator(seed), dtype=torch.float64)


# Bowls ------------------------------------------------------------------------------------


def test_a_fitted_bowl_is_the_gaussian_of_its_data():
    x = points(50) @ torch.tensor([[1.0, 0.4], [0.0, 0.3]], dtype=torch.float64) + 2
    bowl = FittedBowl(x, noise=0.5)
    law = MultivariateNormal(x.mean(0), x.T.cov() + 0.25 * torch.eye(2))
    at = points(9)
    drop = law.log_prob(x.mean(0)) - law.log_prob(at)
    torch.testing.assert_close(bowl.energy(at), drop)
    torch.manual_seed(0)
    drawn = bowl.sample(40_000)
    torch.testing.assert_close(drawn.mean(0), law.mean, atol=0.03, rtol=0)
    torch.testing.assert_close(drawn.T.cov(), law.covariance_matrix, atol=0.05, rtol=0)


def test_a_bowl_of_flat_data_needs_noise():
    x = points(50) * torch.tensor([1.0, 0.0])
    assert FittedBowl(x, noise=0.1).energy(x).isfinite().all()
    with pytest.raises(torch.linalg.LinAlgError):
        FittedBowl(x)


def test_a_net_starts_as_its_bowl():
    x = points(5).float()
    for bowl in (Bowl(2, 1.5), FittedBowl(points(20).float())):
        net = EnergyNet(2, bowl=bowl, **SMALL)
        torch.testing.assert_close(net.energy(x), bowl.energy(x))
    torch.testing.assert_close(Bowl(2, 1.5).energy(x), x.square().sum(1) / 4.5)


# Maximum likelihood -----------------------------------------------------------------------


def test_the_exact_loss_is_the_likelihood():
    """At first the model is N(0, width^2 I)."""
    model = lg.ExactEnergyModel(2, BOX, cells=100, width=1.2)
    x = points(20).float()
    law = MultivariateNormal(torch.zeros(2), 1.44 * torch.eye(2))
    torch.testing.assert_close(model.loss(x), -law.log_prob(x).mean())


def test_the_slope_of_the_exact_loss_is_data_minus_model():
    """grad = E_data[grad E] - E_model[grad E], the second by quadrature."""
    model, x = wavy(lg.ExactEnergyModel, BOX, cells=50), points(30)
    grid, _ = cell_centres(BOX, 50)
    E = model.energy(grid)
    weights = torch.softmax(-E, 0).detach()
    expected = slopes(model, model.energy(x).mean() - (weights * E).sum())
    torch.testing.assert_close(slopes(model, model.loss(x)), expected)


def test_contrast_with_chains_that_know_the_model_is_that_slope():
    """The chains of a buffer that holds draws of the model: right on average."""
    model, x = (
        wavy(lg.PersistentEnergyModel, places=20_000, step=stay, fresh=0.0),
        points(9),
    )
    grid, _ = cell_centres(BOX, 200)
    p = torch.softmax(-model.energy(grid).detach(), 0)
    torch.manual_seed(0)
    model.places.copy_(grid[torch.multinomial(p, 20_000, replacement=True)])
    exact = wavy(lg.ExactEnergyModel, BOX, cells=200)
    exact.load_state_dict(model.state_dict(), strict=False)
    wanted = slopes(exact, exact.loss(x))[-2]
    many = x.repeat(2000, 1)
    got = slopes(model, model.loss(many))[-2]
    torch.testing.assert_close(got, wanted, atol=6 * 0.5 / math.sqrt(18_000), rtol=0)


def test_chains_that_stay_at_the_data_teach_nothing():
    def stay(energy, x, eps):
        return x

    model, x = wavy(lg.EnergyModel, step=stay), points(7)
    loss = model.loss(x)
    assert loss.item() == 0
    assert all((g is None or g.abs().max() == 0) for g in slopes(model, loss))


def test_contrast_is_energy_at_data_minus_energy_at_chains():
    def to_the_right(energy, x, eps):
        return x + eps

    model, x = wavy(lg.EnergyModel, k=3, eps=0.2, step=to_the_right), points(7)
    expected = model.energy(x).mean() - model.energy(x + 0.6).mean()
    torch.testing.assert_close(model.loss(x), expected)


def test_no_gradient_goes_through_the_chains():
    model = wavy(lg.EnergyModel, k=2)
    assert not model.moved(points(3).requires_grad_()).requires_grad
    assert model.moved(points(3)[:0]).shape == (0, 2)


def test_run_takes_so_many_steps():
    x = torch.zeros(3, 1)
    assert lg.run(None, x, 0.5, 4, lambda E, x, eps: x + eps).tolist() == [[2.0]] * 3
    assert lg.run(None, x, 0.5, 0) is not None


# The buffer -------------------------------------------------------------------------------


def right(energy, x, eps):
    return x + 100


def test_a_buffer_learns_from_what_is_backpropagated_only():
    model, x = (
        wavy(lg.PersistentEnergyModel, places=30, step=right, k=1, fresh=0.0),
        points(8),
    )
    before = model.places.clone()
    with torch.no_grad():
        model.loss(x)
    loss = model.loss(x)
    torch.autograd.grad(loss, [*model.f.parameters()], retain_graph=True)
    assert torch.equal(model.places, before)
    loss.backward()
    moved = (model.places != before).all(1)
    assert 1 <= moved.sum() <= 8
    torch.testing.assert_close(model.places[moved], before[moved] + 100)


def test_fresh_chains_start_in_the_bowl():
    model = wavy(lg.PersistentEnergyModel, places=500, step=stay, fresh=0.3)
    model.places.fill_(50.0)
    torch.manual_seed(0)
    model.loss(points(2000)).backward()
    young = (model.places.abs() < 10).all(1)
    assert 0.2 < young.double().mean() < 0.4  # of the last visits to each place
    assert ((model.places == 50).all(1) | young).all()
    everything = wavy(lg.PersistentEnergyModel, places=10, step=stay, fresh=1.0)
    everything.places.fill_(50.0)
    everything.loss(points(1000)).backward()
    assert (everything.places.abs() < 10).all()


def test_a_buffer_begins_in_the_bowl_and_travels_with_the_weights():
    bowl = FittedBowl(points(40) + 20, noise=0.1)
    model = lg.PersistentEnergyModel(2, places=300, bowl=bowl.float(), **SMALL)
    assert (model.places.mean(0) - 20).abs().max() < 1
    assert "places" in model.state_dict()


def test_a_failed_step_leaves_the_buffer():
    model = lg.PersistentEnergyModel(2, places=10, step=right, fresh=0.0, **SMALL)
    before, nan = model.places.clone(), torch.full((4, 2), torch.nan)
    with pytest.raises(FloatingPointError):
        list(train(model, [nan], 1))
    assert torch.equal(model.places, before)


# All of them learn ------------------------------------------------------------------------

NET = {"width": 2.0, "hidden": (32,), "waves": 8, "scale": 0.3}
LEARNERS = {
    "exact": lambda: lg.ExactEnergyModel(2, BOX, cells=40, **NET),
    "contrastive": lambda: lg.EnergyModel(2, eps=0.1, **NET),
    "persistent": lambda: lg.PersistentEnergyModel(2, eps=0.1, places=500, **NET),
}


@pytest.mark.parametrize("name", LEARNERS)
def test_a_standard_gaussian_is_learnt(name):
    torch.manual_seed(0)
    model, x = LEARNERS[name](), points(4000).float()
    for _ in train(
        model, forever(x, 256, generator(2)), 250, lambda k: 5e-3 * (1 - k / 250)
    ):
        pass
    E = model.energy(torch.tensor([[0.0, 0.0], [3.0, 0.0]]))
    assert E[0] < E[1]
    at = x[:1000]
    error = (model.score(at) + at).square().sum(1).mean() / at.square().sum(1).mean()
    assert error.sqrt() < 0.3, error.sqrt()


# Energies add -----------------------------------------------------------------------------


def gaussian(mean, width):
    return lambda x: (x - mean).square().sum(1) / (2 * width**2)


def test_and_multiplies_gaussians():
    E = lg.both(gaussian(0.0, 1.0), gaussian(3.0, 0.5))
    x = torch.linspace(-2, 4, 13)[:, None]
    precision, mean = 1 + 4, (0 + 4 * 3) / 5
    expected = precision * (x[:, 0] - mean) ** 2 / 2
    torch.testing.assert_close(E(x) - E(torch.tensor([[mean]])), expected)


def test_or_adds_densities_with_weights_of_their_own():
    parts = gaussian(-2.0, 0.5), gaussian(2.0, 1.0)
    E, box = lg.either(*parts), ((-9.0, 9.0),)
    x = torch.randn(6, 1, generator=generator(3))
    expected = sum((-part(x)).exp() for part in parts)
    torch.testing.assert_close((-E(x)).exp(), expected)
    wanted = math.log(0.5 * math.sqrt(2 * math.pi) + math.sqrt(2 * math.pi))
    assert log_z_grid(E, box, 500).item() == pytest.approx(wanted, abs=1e-5)


def test_and_not_divides_until_nothing_holds_it():
    narrow, wide = gaussian(0.0, 1.0), gaussian(0.0, 2.0)
    E, x = lg.without(narrow, wide, 2.0), torch.randn(5, 1, generator=generator(4))
    torch.testing.assert_close(E(x), (1 - 2 * 0.25) * x[:, 0] ** 2 / 2)
    lost = lg.without(narrow, wide, 5.0)
    box = [((-L, L),) for L in (5.0, 20.0)]
    assert log_z_grid(lost, box[1], 400) > log_z_grid(lost, box[0], 400) + 10


# Energy matching --------------------------------------------------------------------------


def test_pairs_are_nearly_the_nearest():
    """Against the best of all orders, by scipy."""
    z, x = points(80, 5), points(80, 6)
    far = torch.cdist(x, z).square().numpy()
    least = far[linear_sum_assignment(far)].sum()
    torch.manual_seed(0)
    got = em.paired(z, x, rounds=400)
    assert least <= (got - x).square().sum().item() < 1.15 * least
    assert sorted(got[:, 0].tolist()) == sorted(z[:, 0].tolist())
    apart = (got[:, None] - got) * (x[:, None] - x)
    assert (apart.sum(-1) < 0).double().mean() < 0.01
    assert torch.equal(em.paired(z[:1], x[:1]), z[:1])


def test_it_is_cold_until_tau():
    model = em.FlowPotential(2, T=0.4, tau=0.5, **SMALL)
    t = torch.tensor([0.0, 0.5, 0.75, 1.0, 3.0])
    torch.testing.assert_close(
        em.temperature(t, 0.4, 0.5), torch.tensor([0.0, 0.0, 0.2, 0.4, 0.4])
    )
    share = em.EnergyMatching(2, tau=0.5, **SMALL).share(t[:4, None])
    torch.testing.assert_close(share, torch.tensor([1.0, 1.0, 0.5, 0.0]))
    x = points(3).float()
    torch.testing.assert_close(model.energy(x), EnergyNet.energy(model, x) / 0.4)


def test_cold_chains_roll_and_warm_ones_have_the_right_spread():
    """V = |x|^2 / 2: Euler's factor (1 - dt) while cold; then the variance of an AR(1)."""
    model = em.FlowPotential(2, width=1.0, T=0.5, dt=0.1, **SMALL)
    x = points(5).float()
    torch.testing.assert_close(em.carry(model, x, torch.zeros(5, 1), 8), 0.9**8 * x)
    torch.manual_seed(0)
    many = torch.zeros(20_000, 2)
    warm = em.carry(model, many, torch.ones(20_000, 1), 80)
    expected = 2 * 0.5 * 0.1 / (1 - 0.9**2)
    assert warm.var().item() == pytest.approx(expected, rel=6 * math.sqrt(2 / 40_000))


def test_the_flow_of_a_shift_is_a_slope():
    """Noise that is moved by m: with V = -m.x and no bowl, only the pairing is wrong."""
    torch.manual_seed(0)
    model, x = em.FlowPotential(2, width=1e4, waves=0, hidden=()), torch.randn(400, 2)
    m = torch.tensor([3.0, -1.0])
    with torch.no_grad():
        model.f[1][-1].weight.copy_(-m[None])
    assert model.loss(x + m) < 1
    assert model.loss(x) > 9


def test_the_contrast_is_of_the_potential_and_half_of_the_chains_start_at_the_data(
    monkeypatch,
):
    x, far, seen, losses = points(6), points(6, 9), [], []
    monkeypatch.setattr(em, "carry", lambda model, *start: seen.append(start) or far)
    for contrast in (0.0, 2.0):
        model = wavy(em.EnergyMatching, contrast=contrast)
        torch.manual_seed(0)
        losses.append(model.loss(x))
    gap = EnergyNet.energy(model, x).mean() - EnergyNet.energy(model, far).mean()
    torch.testing.assert_close(losses[1] - losses[0], 2 * gap)
    start, t, steps = seen[0]
    assert t[:, 0].tolist() == [1, 0] * 3
    assert torch.equal(start[::2], x[::2])
    assert (start[1::2] != x[1::2]).all()
    assert steps * model.dt > 1  # those from the noise arrive


# The family's model of the plane ----------------------------------------------------------


def test_fit_plane_is_normalised_and_comes_closer_than_one_gaussian():
    truth, g = toy.get("two_moons"), generator(5)
    x, held_out = truth.sample(4000, g).float(), truth.sample(2000, g).float()
    single = MultivariateNormal(x.mean(0), x.T.cov())
    model = fit_plane(x, steps=100)
    gap = kl_estimate(truth.log_prob, model.log_prob, held_out).value
    assert gap < 0.4 * kl_estimate(truth.log_prob, single.log_prob, held_out).value
    total = log_z_grid(lambda x: -model.log_prob(x), BOX, 300)
    assert total.item() == pytest.approx(0, abs=1e-3)


# Pictures ---------------------------------------------------------------------------------


def test_a_convolutional_energy_starts_as_the_gaussian_of_its_noisy_data():
    torch.manual_seed(0)
    model = ConvEnergyModel(16, channels=2, sigma=0.5, places=3000, k=2)
    x = torch.randn(500, 16) @ torch.randn(16, 16) / 4
    model.fit_bowl(x)
    law = MultivariateNormal(x.mean(0), x.T.cov() + 0.25 * torch.eye(16))
    off = model.energy(x[:9]) + law.log_prob(x[:9])
    torch.testing.assert_close(off, off[:1].expand(9), atol=1e-3, rtol=1e-3)
    assert (model.places.mean(0) - x.mean(0)).abs().max() < 6 * x.std() / 50
    for D in (15, 36, 9):
        with pytest.raises(ValueError, match=f"D is {D}: expected a square whose side"):
            ConvEnergyModel(D)


def test_its_recipe_trains_for_a_few_steps(monkeypatch):
    """The energy of data falls below that of chains; its figure can be taken."""
    recipe = next(r for r in RECIPES if r.name == "energy/conv-mnist")
    assert recipe.build().D == 784
    monkeypatch.setattr(deep_energies, "CHAINS", 70)
    monkeypatch.setattr(deep_energies, "STEPS", 2)
    torch.manual_seed(0)
    splits = deep_energies.grey_vectors("digits")
    assert splits.train.aminmax() == (-1, 1)
    model = ConvEnergyModel(64, channels=8, places=1000, k=3)
    deep_energies.fit_bowl(model, splits.train)
    for _ in train(model, forever(splits.train, 50), 200, lr=5e-3, clip=10.0):
        pass
    with torch.no_grad():
        far = model.bowl.sample(300)
        noisy = splits.valid + model.sigma * torch.randn_like(splits.valid)
        assert model.f(far).mean() - model.f(noisy).mean() > 3
    chance = torch.get_rng_state()
    see = deep_energies.features("digits", 300)
    assert torch.equal(chance, torch.get_rng_state())
    monkeypatch.setattr(deep_energies, "features", lambda _: see)
    own = distance(see(splits.train), see(splits.valid))
    assert own < deep_energies.frechet(model, splits.valid).value < math.inf
