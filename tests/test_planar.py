"""Planar and radial flows and the four energies, each against an independent oracle."""

import math

import pytest
import torch
from torch.autograd.functional import jacobian
from torch.distributions import MultivariateNormal

from gdm_course import protocols
from gdm_course.data import energies, toy
from gdm_course.divergences.densities import kl
from gdm_course.flows.flow import ReverseKL
from gdm_course.flows.planar import Affine, Planar, PlanarFlow, Root, allowed, newton
from gdm_course.flows.radial import Radial, RadialFlow, radius
from gdm_course.training import train

MODELS = {
    "Affine": lambda D: Affine(D),
    "Planar": lambda D: Planar(D),
    "Radial": lambda D: Radial(D),
    "PlanarFlow": lambda D: PlanarFlow(D, layers=6),
    "RadialFlow": lambda D: RadialFlow(D, layers=6),
}
every = pytest.mark.parametrize("name", MODELS)
flows = pytest.mark.parametrize("name", ["PlanarFlow", "RadialFlow"])


def build(name, D, dtype=torch.float64, seed=0):
    """A model whose parameters are far from the identity."""
    torch.manual_seed(seed)
    model = MODELS[name](D).to(dtype)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=D**-0.5)
    return model


@every
@pytest.mark.parametrize("D", [1, 2, 5, 64])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)]
)
def test_round_trips(name, D, dtype, tolerance):
    """Both ways, and the two log-determinants cancel; catches a wrong root or sign."""
    model, x = build(name, D, dtype), torch.randn(200, D).to(dtype)
    z, there = model(x)
    back, again = model.inverse(z)
    assert z.shape == x.shape
    assert there.shape == again.shape == (200,)
    assert (back - x).abs().max() < tolerance
    torch.testing.assert_close(there, -again, rtol=0, atol=tolerance)
    out, _ = model.inverse(x)
    assert (model(out)[0] - x).abs().max() < tolerance


@every
@pytest.mark.parametrize("D", [1, 2, 5])
def test_log_det_is_that_of_autograds_jacobian(name, D):
    """Both directions; catches a missing derivative of tanh, or D instead of D - 1."""
    for seed in range(5):
        model, x = build(name, D, seed=seed), torch.randn(4, D).double()
        for way in (model.forward, model.inverse):
            for point, log_det in zip(x, way(x)[1]):
                J = jacobian(lambda p, way=way: way(p[None])[0][0], point)
                assert J.det() > 0
                torch.testing.assert_close(log_det, J.det().log())


@flows
def test_density_integrates_to_one(name):
    """Catches a sign of the log-determinant, and a map that is not one to one."""
    for seed in range(3):
        model = build(name, 2, seed=seed)
        x = model.sample(20_000)
        low, high = x.min(0).values - 1.5, x.max(0).values + 1.5
        bounds = tuple(zip(low.tolist(), high.tolist()))
        points, area = toy.cells(bounds, 700)
        with torch.no_grad():
            parts = [model.log_prob(p).exp().sum() for p in points.split(50_000)]
        assert sum(parts).item() * area == pytest.approx(1, abs=1e-3)


@flows
def test_samples_follow_the_density(name):
    """Chi-square on cells, the wanted counts by quadrature of log_prob, within 6 sigma."""
    model, n, side = build(name, 2, seed=1), 50_000, 12
    x = model.sample(n)
    low, high = x.quantile(0.02, dim=0), x.quantile(0.98, dim=0)
    points, area = toy.cells(tuple(zip(low.tolist(), high.tolist())), 20 * side)
    with torch.no_grad():
        p = model.log_prob(points).exp().mul(area).view(side, 20, side, 20).sum((1, 3))
    at = ((x - low) / (high - low) * side).floor().long()
    inside = ((at >= 0) & (at < side)).all(1)
    seen = (at[inside, 0] * side + at[inside, 1]).bincount(minlength=side**2)
    wanted = p.flatten() * n
    often = wanted > 10
    assert often.sum() > 20
    chi2 = ((seen - wanted)[often] ** 2 / wanted[often]).sum().item()
    assert chi2 < often.sum() + 6 * math.sqrt(2 * often.sum())


@every
def test_identity_at_its_parameters(name):
    """With u = 0, and with beta = 0, a step does nothing: what `growth` is shifted for."""
    model, x = build(name, 3), torch.randn(6, 3).double()
    for key, p in model.named_parameters():
        if key.split(".")[-1] in {"u", "free", "m", "s"}:
            p.data.zero_()
    z, log_det = model(x)
    torch.testing.assert_close(z, x)
    torch.testing.assert_close(log_det, torch.zeros(6).double())


# The planar step --------------------------------------------------------------------------


@pytest.mark.parametrize("g", [1e-9, 1e-4, 0.3, 1.0, 1.5, 20.0, 3000.0])
def test_newton_against_bisection(g):
    """The whole range of right sides, both signs; 200 halvings are the oracle."""
    y = torch.cat([torch.logspace(-8, 5, 300), torch.linspace(0, 3 * g + 3, 300)]).double()
    y = torch.cat([y, -y])
    low, high = -(y.abs() + g + 1), y.abs() + g + 1
    for _ in range(200):
        middle = (low + high) / 2
        above = middle + (g - 1) * middle.tanh() > y
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    a = newton(y, torch.tensor(g, dtype=torch.float64))
    left = a - a.tanh() + g * a.tanh()
    torch.testing.assert_close(left, y, rtol=1e-12, atol=1e-15)
    slope = a.tanh() ** 2 + g * (1 - a.tanh() ** 2)
    assert ((a - low).abs() * slope <= 1e-12 * (1 + y.abs())).all()


@pytest.mark.parametrize("g", [1e-6, 0.3, 1.5, 20.0, 3000.0])
def test_newton_never_crosses_the_root(g):
    """The claim of its docstring: steps from the start have one sign, until rounding."""
    y = torch.linspace(1e-3, 3 * g + 3, 400).double()
    g = torch.tensor(g, dtype=torch.float64)
    root, side = newton(y, g), []
    for most in range(1, 12):
        gap = newton(y, g, most) - root
        side.append(torch.where(gap.abs() < 1e-9 * (1 + root), 0.0, gap.sign()))
    assert (torch.stack(side) <= 0).all() or (torch.stack(side) >= 0).all()


def test_root_has_the_derivatives_of_the_root():
    """Finite differences of the solver, both orders: catches (10) or its sign."""
    y = torch.tensor([-2.0, -0.3, 0.7, 5.0]).double().requires_grad_()
    for value in (0.2, 1.0, 4.0):
        g = torch.tensor(value, dtype=torch.float64).requires_grad_()
        assert torch.autograd.gradcheck(Root.apply, (y, g))
        assert torch.autograd.gradgradcheck(Root.apply, (y, g))


@flows
def test_gradients_of_log_prob_by_finite_differences(name):
    """In every parameter and in x: what training on data follows."""
    model, x = build(name, 3), torch.randn(5, 3).double()
    x.requires_grad_()
    parameters = [*model.parameters()]
    values = lambda *_: model.log_prob(x)  # noqa: E731
    assert torch.autograd.gradcheck(values, (x, *parameters))


@pytest.mark.parametrize("seed", range(20))
def test_allowed_is_least_and_enough(seed):
    """u_hat differs from u along w only, and 1 + w.u_hat is the positive g returned."""
    g = torch.Generator().manual_seed(seed)
    u, w = 5 * torch.randn(2, 4, generator=g).double()
    u_hat, slope = allowed(u, w)
    torch.testing.assert_close(1 + w @ u_hat, slope)
    assert slope > 0
    off = (u_hat - u) - (u_hat - u) @ w / (w @ w) * w
    assert off.abs().max() < 1e-12
    still, one = allowed(0 * u, w)  # no kick: nothing to repair, nothing changed
    assert still.abs().max() < 1e-12
    assert one == pytest.approx(1)


def test_planar_is_the_papers_equation_in_normflows():
    """The same map and log-determinant from another library, its u solved for ours."""
    planar = pytest.importorskip("normflows").flows.Planar
    for seed in range(5):
        ours, z = build("Planar", 3, seed=seed), torch.randn(9, 3).double()
        w, (u_hat, g) = ours.w.detach(), allowed(ours.u.detach(), ours.w.detach())
        theirs_wu = torch.log(torch.expm1(g))  # where their softplus gives our slope
        u = u_hat + (theirs_wu - w @ u_hat) / (w @ w) * w
        b = ours.b.detach()[None]
        theirs = planar((3,), u=u[None], w=w[None], b=b)
        for mine, other in zip(ours.inverse(z), theirs(z)):
            torch.testing.assert_close(mine, other)


def test_radial_is_the_papers_equation_in_normflows():
    """The same for the radial step: their alpha = |.|, their beta = softplus - alpha."""
    layer = pytest.importorskip("normflows").flows.Radial
    for seed in range(5):
        ours, z = build("Radial", 3, seed=seed), torch.randn(9, 3).double()
        alpha, beta = ours.shape()
        theirs = layer((3,), z_0=ours.c.detach()[None]).double()
        theirs.alpha.data[:] = alpha
        theirs.beta.data[:] = torch.log(torch.expm1(alpha + beta))
        for mine, other in zip(ours.inverse(z), theirs(z)):
            torch.testing.assert_close(mine, other)


def test_radius_solves_its_equation():
    """In float64, where the two forms of the quadratic formula meet and far from there."""
    far = torch.cat([torch.zeros(1), torch.logspace(-12, 8, 400)]).double()
    for alpha, beta in ((1.0, 3.0), (0.1, -0.0999), (2.0, -1.0), (5.0, 0.0), (1e-3, 50.0)):
        r = radius(
            far,
            torch.tensor(alpha, dtype=torch.float64),
            torch.tensor(beta, dtype=torch.float64),
        )
        assert (r >= 0).all()
        torch.testing.assert_close(r + beta * r / (alpha + r), far, rtol=1e-9, atol=1e-14)


def test_gradient_is_finite_at_the_centre_of_a_radial_step():
    layer = build("Radial", 2)
    x = layer.c.detach().clone()[None].requires_grad_()
    for way in (layer.forward, layer.inverse):
        out, log_det = way(x)
        grads = torch.autograd.grad(out.sum() + log_det.sum(), [x, *layer.parameters()])
        assert all(g.isfinite().all() for g in grads)


# The house's contracts --------------------------------------------------------------------


@flows
def test_protocols_gradients_and_state(name):
    model = MODELS[name](3)
    assert all(protocols.abilities(model).values())
    x = torch.randn(40, 3)
    model.loss(x).backward()
    for key, p in model.named_parameters():
        assert p.grad.abs().sum() > 0, key
    torch.manual_seed(99)
    other = MODELS[name](3)
    assert not torch.equal(other.log_prob(x), model.log_prob(x))
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.log_prob(x), model.log_prob(x))
    assert model.sample(7).shape == (7, 3)
    if name == "PlanarFlow":
        again = MODELS[name](3)
        ReverseKL(again, lambda x: x.square().sum(1)).loss(x).backward()
        assert all(p.grad.abs().sum() > 0 for p in again.parameters())


@every
def test_runs_where_its_parameters_are(name):
    """On torch's meta device a tensor made on the CPU by mistake raises at once."""
    model, x = MODELS[name](2).to("meta"), torch.randn(4, 2, device="meta")
    assert model.inverse(x)[0].device.type == "meta"
    if "Planar" not in name:  # newton looks at values, and there are none
        assert model(x)[0].device.type == "meta"


def test_fits_data_whose_entropy_is_known():
    """A correlated Gaussian by maximum likelihood: KL(truth || model) by quadrature."""
    torch.manual_seed(0)
    covariance = torch.tensor([[1.0, 1.2], [1.2, 2.0]])
    truth = MultivariateNormal(torch.tensor([1.0, -1.0]), covariance)
    model = PlanarFlow(2, layers=8)
    fresh = (truth.sample((256,)) for _ in iter(int, 1))
    for _ in train(model, fresh, 500, lambda step: 2e-2 * (1 - step / 500)):
        pass
    log_q = lambda x: model.log_prob(x.float()).double()  # noqa: E731
    log_p = lambda x: truth.log_prob(x.float()).double()  # noqa: E731
    with torch.no_grad():
        assert 0 <= kl(log_p, log_q, ((-6.0, 8.0), (-9.0, 7.0)), 250) < 0.05


def test_reverse_kl_is_the_kl():
    """Of a flow to a Gaussian energy: 40,000 draws against the integral on a grid."""
    model = build("PlanarFlow", 2, seed=2)
    energy = lambda x: x.square().sum(1) / 18  # noqa: E731
    log_z = math.log(2 * math.pi * 9)
    with torch.no_grad():
        values = ReverseKL(model, energy).values(torch.randn(40_000, 2).double())
        x = model.sample(20_000)
        low, high = x.min(0).values - 1.5, x.max(0).values + 1.5
        points, area = toy.cells(tuple(zip(low.tolist(), high.tolist())), 500)
        log_q = model.log_prob(points)
        wanted = (log_q.exp() * (log_q + energy(points) + log_z)).sum() * area
    error = values.std() / len(values) ** 0.5
    assert abs(values.mean() + log_z - wanted) < 6 * error + 1e-3


# The energies -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", energies.names())
def test_energies_are_normalised_inside_their_bounds(name):
    """Another grid, another rule (trapezoid): catches log Z, bounds, a missing wall."""
    energy = energies.get(name)
    for widen, tolerance in ((0.0, 1e-4), (6.0, 1e-5)):
        axes = [
            torch.linspace(low - widen, high + widen, 901).double()
            for low, high in energy.bounds
        ]
        p = energy.log_prob(torch.cartesian_prod(*axes)).exp().view(901, 901)
        mass = torch.trapezoid(torch.trapezoid(p, axes[1]), axes[0]).item()
        assert mass == pytest.approx(1, abs=tolerance)


def test_energies_are_the_papers_inside_the_walls():
    """Written out point by point from table 1 of the paper, without torch."""
    for a, b in [
        (-3.7, 0.4),
        (-1.1, -2.0),
        (0.2, 0.3),
        (0.9, -2.5),
        (2.5, -3.4),
        (3.9, 1.0),
    ]:
        w1 = math.sin(2 * math.pi * a / 4)
        w2 = 3 * math.exp(-0.5 * ((a - 1) / 0.6) ** 2)
        w3 = 3 / (1 + math.exp(-(a - 1) / 0.3))
        e = lambda t, s: math.exp(-0.5 * (t / s) ** 2)  # noqa: E731
        wanted = {
            "U1": 0.5 * ((math.hypot(a, b) - 2) / 0.4) ** 2
            - math.log(e(a - 2, 0.6) + e(a + 2, 0.6)),
            "U2": 0.5 * ((b - w1) / 0.4) ** 2,
            "U3": -math.log(e(b - w1, 0.35) + e(b - w1 + w2, 0.35)),
            "U4": -math.log(e(b - w1, 0.4) + e(b - w1 + w3, 0.35)),
        }
        x = torch.tensor([[a, b]], dtype=torch.float64)
        for name, value in wanted.items():
            assert energies.get(name)(x).item() == pytest.approx(value, rel=1e-9)


def test_energies_say_what_is_wrong():
    with pytest.raises(ValueError, match="no energy is called 'U5'"):
        energies.get("U5")
    with pytest.raises(
        ValueError, match=r"expected floating-point points of shape \(B, 2\)"
    ):
        energies.get("U1")(torch.randn(3, 3))
    x = torch.randn(5, 2).double()
    U = energies.get("U3")
    h = torch.tensor([1e-6, 0.0]).double()
    slope = (U.log_prob(x + h) - U.log_prob(x - h)) / 2e-6
    torch.testing.assert_close(U.score(x)[:, 0], slope, rtol=1e-5, atol=1e-5)
