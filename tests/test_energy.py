"""What all energy-based models share: log Z, and chains that leave a density as it is."""

import math

import pytest
import torch
from scipy import stats
from torch import nn

from gdm_course.data import energies
from gdm_course.energy import normalise, sampling
from gdm_course.energy.network import Bowl
from gdm_course.energy.normalise import Normalised, log_z_grid, log_z_states, states
from gdm_course.nets import FourierFeatures, mlp
from gdm_course.training import generator


def bell(x):
    return x.square().sum(1) / 2


class Ring(nn.Module):
    """Spins on a ring, as bits: E = -J sum_i s_i s_(i+1), whose Z is known."""

    def __init__(self, J=0.7):
        super().__init__()
        self.J = nn.Parameter(torch.tensor(J, dtype=torch.float64))

    def energy(self, x):
        s = 2 * x.double() - 1
        return -self.J * (s * s.roll(1, 1)).sum(1)


def ring_log_z(J, n):
    return torch.log((2 * torch.cosh(J)) ** n + (2 * torch.sinh(J)) ** n)


# log Z ------------------------------------------------------------------------------------


def test_states_count_upwards_and_too_many_are_refused():
    assert states(3).tolist() == [[int(c) for c in f"{i:03b}"] for i in range(8)]
    assert states(0).shape == (1, 0)
    with pytest.raises(ValueError, match="30 bits have 2\\^30 states"):
        states(30)


def test_log_z_of_a_ring_of_spins_and_its_gradient():
    ring = Ring()
    log_z = log_z_states(ring.energy, 10)
    true = ring_log_z(ring.J, 10)
    torch.testing.assert_close(log_z, true)
    got, expected = (torch.autograd.grad(v, ring.J)[0] for v in (log_z, true))
    torch.testing.assert_close(got, expected)


def test_parts_add_up_to_the_whole():
    ring, x = Ring(), states(9)
    whole = normalise.log_sum(ring.energy, x)
    torch.testing.assert_close(normalise.log_sum(ring.energy, x, rows=100), whole)


def test_log_z_on_a_grid_and_its_gradient():
    rings = energies.get("U1")
    log_z = log_z_grid(rings.U, ((-5, 5), (-5, 5)), 300)
    assert abs(log_z - rings.log_z) < 1e-5
    width = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    box = ((-8.0, 8.0),)
    wide = log_z_grid(lambda x: bell(x) / width**2, box, 500, torch.float64)
    torch.testing.assert_close(wide, torch.log(width * math.sqrt(2 * math.pi)))
    torch.testing.assert_close(torch.autograd.grad(wide, width)[0], 1 / width.detach())


def test_normalised_sums_to_one():
    ring = Ring()
    model = Normalised(ring, log_z_states(ring.energy, 8))
    assert model.log_prob(states(8)).exp().sum().item() == pytest.approx(1, abs=1e-12)
    assert "log_z" in model.state_dict()


# Chains -----------------------------------------------------------------------------------


def run(step, n=4000, steps=200, D=1):
    x = torch.randn(n, D, generator=generator(1))
    for _ in range(steps):
        x = step(x)
    return x


@pytest.mark.parametrize("eps", [0.2, 1.0, 2.0])
def test_langevin_has_the_variance_of_its_autoregression(eps):
    g = generator(2)
    x = run(lambda x: sampling.langevin_step(bell, x, eps, g), n=20_000)
    expected = 1 / (1 - eps / 4)
    assert abs(x.var().item() / expected - 1) < 6 * math.sqrt(2 / 20_000)


@pytest.mark.parametrize("eps", [0.5, 1.5, 2.5])
def test_mala_leaves_the_density_as_it_is_and_without_the_ratio_does_not(eps):
    g = generator(3)
    x = run(lambda x: sampling.mala_step(bell, x, eps, g)[0])
    assert stats.kstest(x[:, 0].numpy(), "norm").pvalue > 1e-4
    x = run(lambda x: sampling.mala_step(bell, x, eps, g, ratio=False)[0])
    assert x.var() < 0.85


def test_mala_balances_in_detail():
    """p(x) q(y|x) a(x, y) is the same with x and y exchanged."""

    def energy(x):
        return (x**4 / 4 + x**3 / 3 + x.sin()).sum(1)

    x, y = torch.randn(2, 50, 1, generator=generator(4), dtype=torch.float64)
    eps, (E_x, s_x), (E_y, s_y) = 0.3, *(sampling.with_slope(energy, t) for t in (x, y))
    forth, back = (
        sampling.log_proposal(y, x, s_x, eps),
        sampling.log_proposal(x, y, s_y, eps),
    )
    log_a = E_x - E_y + back - forth
    flow = -E_x + forth + log_a.clamp(max=0)
    torch.testing.assert_close(flow, -E_y + back + (-log_a).clamp(max=0))


def test_jumps_bring_two_far_valleys_to_their_shares():
    """All chains begin in the lesser one; no kick of a Langevin step leads out of it."""
    law = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(torch.tensor([0.8, 0.2])),
        torch.distributions.Normal(torch.tensor([-3.0, 3.0]), 0.4),
    )
    torch.manual_seed(0)
    x, bowl = 3 + 0.4 * torch.randn(4000, 1), Bowl(1, 3.0)
    for _ in range(200):
        x, moved = sampling.jump_step(lambda x: -law.log_prob(x[:, 0]) + 7, bowl, x)
    assert abs((x < 0).float().mean() - 0.8) < 6 * math.sqrt(0.16 / 4000)
    assert stats.kstest(law.cdf(x[:, 0]).numpy(), "uniform").pvalue > 1e-4
    assert 0.05 < moved.float().mean() < 0.5


def test_log_proposal_is_the_density_of_a_step():
    x = torch.randn(1, 3, generator=generator(5), dtype=torch.float64)
    y = torch.randn(40, 3, generator=generator(6), dtype=torch.float64)
    _, slope = sampling.with_slope(bell, x)
    step = torch.distributions.Normal(x - 0.2 * slope, math.sqrt(0.4))
    off = step.log_prob(y).sum(1) - sampling.log_proposal(y, x, slope, 0.4)
    torch.testing.assert_close(off, off[:1].expand(40))


def test_leapfrog_leads_back_and_keeps_volume():
    rings = energies.get("U1").U
    x, p = torch.randn(2, 6, 2, generator=generator(7), dtype=torch.float64)
    y, q = sampling.leapfrog(rings, x, p, 0.1, 8)
    back, turned = sampling.leapfrog(rings, y, -q, 0.1, 8)
    torch.testing.assert_close(back, x)
    torch.testing.assert_close(turned, -p)
    h, start = 1e-5, torch.cat([x[:1], p[:1]], 1)
    moves = [
        torch.cat(sampling.leapfrog(rings, *(start + s).split(2, 1), 0.1, 8), 1)
        for s in torch.cat([h * torch.eye(4), -h * torch.eye(4)]).double()[:, None]
    ]
    J = torch.cat([(a - b) / (2 * h) for a, b in zip(moves[:4], moves[4:])])
    assert J.det().item() == pytest.approx(1, abs=1e-6)


def test_hmc_leaves_the_density_as_it_is():
    g = generator(8)
    x = run(lambda x: sampling.hmc_step(bell, x, 0.6, 5, g)[0], steps=60)
    assert stats.kstest(x[:, 0].numpy(), "norm").pvalue > 1e-4
    moved = sampling.hmc_step(bell, x, 0.01, 5, g)[1]
    assert moved.float().mean() > 0.99


def test_one_leapfrog_is_a_langevin_proposal():
    x = torch.randn(5, 2, generator=generator(9), dtype=torch.float64)
    p = torch.randn(5, 2, generator=generator(10), dtype=torch.float64)
    y, q = sampling.leapfrog(bell, x, p, 0.5, 1)
    _, slope = sampling.with_slope(bell, x)
    torch.testing.assert_close(y, x - 0.125 * slope + 0.5 * p)
    _, slope_y = sampling.with_slope(bell, y)
    kinetic = (p.square().sum(1) - q.square().sum(1)) / 2
    forth = sampling.log_proposal(y, x, slope, 0.25)
    torch.testing.assert_close(sampling.log_proposal(x, y, slope_y, 0.25) - forth, kinetic)


def test_chains_take_pictures_and_leave_no_graph():
    x = torch.randn(3, 1, 4, 4, requires_grad=True)
    energy = lambda x: x.flatten(1).square().sum(1) / 2  # noqa: E731
    after = [
        sampling.langevin_step(energy, x, 0.1),
        sampling.mala_step(energy, x, 0.1)[0],
        sampling.hmc_step(energy, x, 0.1)[0],
    ]
    assert all(y.shape == x.shape and not y.requires_grad for y in after)


def test_what_is_no_number_is_never_moved_to():
    cliff = lambda x: torch.where(x[:, 0] > 0, torch.nan, 0.0) + x.sum(1) * 0  # noqa: E731
    x = -torch.ones(2000, 1)
    y, moved = sampling.mala_step(cliff, x, 4.0, generator(11))
    assert (y <= 0).all()
    assert 0 < moved.float().mean() < 1


@pytest.mark.parametrize("eps", [0, -1.0, math.nan, math.inf])
def test_a_step_has_a_size(eps):
    with pytest.raises(ValueError, match="positive step size"):
        sampling.langevin_step(bell, torch.zeros(2, 1), eps)


# Fourier features -------------------------------------------------------------------------


def test_fourier_features_learn_what_a_perceptron_is_slow_at():
    x = torch.linspace(-3, 3, 256)[:, None]
    y, errors = torch.sin(9 * x), []
    for waves in (False, True):
        torch.manual_seed(0)
        front = [FourierFeatures(1, 32, 4.0)] if waves else []
        net = nn.Sequential(*front, mlp((64 if waves else 1, 64, 1)))
        adam = torch.optim.Adam(net.parameters(), 1e-2)
        for _ in range(150):
            adam.zero_grad()
            loss = (net(x) - y).square().mean()
            loss.backward()
            adam.step()
        errors.append(loss.item())
    assert errors[1] < 0.1 * errors[0]


def test_fourier_features_keep_their_frequencies():
    net = FourierFeatures(2, 5)
    assert [*net.state_dict()] == ["B"]
    assert not [*net.parameters()]
    assert net(torch.zeros(4, 3, 2)).shape == (4, 3, 10)
    other = FourierFeatures(2, 5)
    other.load_state_dict(net.state_dict())
    x = torch.randn(3, 2)
    torch.testing.assert_close(other(x), net(x))
