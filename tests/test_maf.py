"""Autoregressive and spline flows: exact inverses, exact densities, and zuko's opinion."""

import math

import pytest
import torch
from torch import nn
from torch.autograd.functional import jacobian
from torch.distributions import Normal

from gdm_course.data import toy
from gdm_course.evaluation.likelihood import kl_to_truth
from gdm_course.flows import fit_plane, maf
from gdm_course.flows.flow import Inverse
from gdm_course.flows.maf import (
    IAF,
    MAF,
    AffineAutoregressive,
    IntoTheBox,
    by_filling,
    by_passes,
)
from gdm_course.flows.spline import (
    SplineAutoregressive,
    SplineCoupling,
    SplineCouplingFlow,
    SplineFlow,
    bins,
    fraction,
    slopes,
    spline,
    unspline,
)
from gdm_course.recipes import flows_maf
from gdm_course.scale.points import toy_points

LAYERS = {
    "affine": lambda D: AffineAutoregressive(D, hidden=(24, 24)),
    "inverse affine": lambda D: Inverse(AffineAutoregressive(D, hidden=(24, 24))),
    "into the box": lambda D: IntoTheBox(D, hidden=(24, 24)),
    "spline": lambda D: SplineAutoregressive(D, bins=6, hidden=(24, 24)),
    "spline coupling": lambda D: SplineCoupling(D, bins=6, hidden=(24, 24)),
}
STACKS = {
    "MAF": lambda D: MAF(D, layers=3, hidden=(24, 24)),
    "IAF": lambda D: IAF(D, layers=3, hidden=(24, 24)),
    "spline": lambda D: SplineFlow(D, bins=6, hidden=(24, 24)),
    "spline coupling": lambda D: SplineCouplingFlow(D, bins=6, hidden=(24, 24)),
}
ALL = [pytest.param(make, id=f"{name} layer") for name, make in LAYERS.items()]
ALL += [pytest.param(make, id=f"{name} flow") for name, make in STACKS.items()]
BENT = ("into the box", "spline", "spline coupling")  # the identity at first
STILL = [(kind[name], name) for kind in (LAYERS, STACKS) for name in BENT if name in kind]


def lively(module: nn.Module, seed: int = 0, scale: float = 0.3) -> nn.Module:
    """Move every weight off its start, where many layers are the identity."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p += scale * torch.randn(p.shape, generator=g) / max(p.shape[-1], 4) ** 0.5
    return module


def build(make, D: int, dtype=torch.float64) -> nn.Module:
    torch.manual_seed(0)
    return lively(make(D)).to(dtype)


@pytest.mark.parametrize("make", [make for make, _ in STILL])
@pytest.mark.parametrize("D", [2, 5])
def test_new_ones_are_the_identity(make, D):
    x = torch.randn(7, D)
    z, log_det = make(D)(x)
    same = torch.allclose(z, x, atol=1e-5) or torch.allclose(z, x.flip(-1), atol=1e-5)
    assert same
    torch.testing.assert_close(log_det, torch.zeros(7), atol=1e-5, rtol=0)


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("D", [2, 3, 8])
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_inverse_round_trip(make, D, dtype, atol):
    """Also outside of the box of the splines. Without gradients and with them."""
    layer = build(make, D, dtype)
    x = 2 * torch.randn(200, D, dtype=dtype)
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            z, log_det = layer(x)
            assert log_det.shape == (200,)
            assert (z - x).abs().max() > 0.05
            back, minus = layer.inverse(z)
        torch.testing.assert_close(back, x, atol=atol, rtol=atol)
        torch.testing.assert_close(minus, -log_det, atol=10 * atol, rtol=10 * atol)


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("D", [2, 5])
def test_log_det_is_that_of_autograds_jacobian(make, D):
    layer = build(make, D)
    for x in 1.5 * torch.randn(5, D, dtype=torch.float64):
        J = jacobian(lambda x: layer(x[None])[0][0], x)
        torch.testing.assert_close(layer(x[None])[1][0], J.det().abs().log())
        J = jacobian(lambda z: layer.inverse(z[None])[0][0], x)
        torch.testing.assert_close(layer.inverse(x[None])[1][0], J.det().abs().log())


@pytest.mark.parametrize("name", ["affine", "inverse affine", "spline"])
def test_jacobian_is_lower_triangular(name):
    layer, x = build(LAYERS[name], 6), 2 * torch.randn(20, 6, dtype=torch.float64)
    J = torch.stack([jacobian(lambda x: layer(x[None])[0][0], row) for row in x])
    assert (J.triu(1) == 0).all()
    assert (J.diagonal(dim1=1, dim2=2) > 0).all()
    assert (J.tril(-1) != 0).any(0).sum() == 15  # and everything earlier does count


@pytest.mark.parametrize("make", STACKS.values(), ids=STACKS)
def test_density_integrates_to_one(make):
    points, area = toy.cells(((-12, 12), (-12, 12)), 500)
    with torch.no_grad():
        total = build(make, 2).log_prob(points).exp().sum() * area
    assert abs(total - 1) < 1e-3


@pytest.mark.parametrize("make", STACKS.values(), ids=STACKS)
def test_samples_follow_their_own_density(make):
    """Counts in the cells of a plane against the density's, a chi-square within 6 sigma."""
    flow, n, k = build(make, 2), 40_000, 12
    torch.manual_seed(1)
    x = flow.sample(n)
    assert not x.requires_grad
    low, width = -4.0, 8.0 / k
    fine = toy.cells(((-4, 4), (-4, 4)), 20 * k)
    with torch.no_grad():
        p = flow.log_prob(fine[0]).exp() * fine[1]
    cell = lambda x: ((x - low) / width).floor().long()  # noqa: E731
    index = cell(fine[0])
    expected = torch.zeros(k * k, dtype=torch.float64)
    expected.index_add_(0, index[:, 0] * k + index[:, 1], n * p)
    inside = ((x > -4) & (x < 4)).all(1)
    index = cell(x[inside])
    counts = (index[:, 0] * k + index[:, 1]).bincount(minlength=k * k)
    often = expected > 10
    chi2 = ((counts - expected)[often].square() / expected[often]).sum().item()
    free = int(often.sum())
    assert free > 20
    assert abs(chi2 - free) < 6 * (2 * free) ** 0.5
    assert abs((counts.sum() - expected.sum()).item()) < 6 * n**0.5


@pytest.mark.parametrize("make", STACKS.values(), ids=STACKS)
def test_every_parameter_gets_a_gradient_and_states_round_trip(make):
    flow = build(make, 3, torch.float32)
    x = torch.randn(64, 3)
    loss = flow.loss(x)
    assert loss.shape == ()
    loss.backward()
    assert all(p.grad is not None and (p.grad != 0).any() for p in flow.parameters())
    other = make(3)
    other.load_state_dict(flow.state_dict())
    torch.testing.assert_close(other.log_prob(x), flow.log_prob(x), rtol=0, atol=0)


@pytest.mark.parametrize("make", STACKS.values(), ids=STACKS)
def test_models_follow_their_device(make):
    """On the meta device nothing is computed, but what is made elsewhere would raise."""
    flow = make(3).to("meta")
    assert flow.log_prob(torch.zeros(4, 3, device="meta")).device.type == "meta"
    assert flow.sample(4).shape == (4, 3)


# Affine autoregressive layers -------------------------------------------------------------


def test_affine_layer_is_gaussian_conditionals():
    """One layer and normal noise: p(x) = prod N(x_d; mu_d, sigma_d^2), equation (4)."""
    flow, x = build(lambda D: MAF(D, layers=1, hidden=(24,)), 4), torch.randn(9, 4).double()
    layer = flow.layers[0]
    shift, log_slope = layer.read(layer.net(x))
    sigma = torch.exp(-log_slope)
    wanted = Normal(-shift * sigma, sigma).log_prob(x).sum(-1)
    torch.testing.assert_close(flow.log_prob(x), wanted)
    torch.testing.assert_close(
        -shift * sigma, layer.unbend(torch.zeros(4), layer.net(x))[0]
    )


def test_into_the_box_says_mu_and_sigma():
    layer, x = build(LAYERS["into the box"], 4), torch.randn(9, 4).double()
    mu, log_slope = layer.net(x).unbind(-1)
    z, log_det = layer(x)
    torch.testing.assert_close(z, (x - mu) * log_slope.exp())
    torch.testing.assert_close(log_det, log_slope.sum(-1))


def test_the_scale_is_bounded_softly():
    """Never beyond the limit, never flat: a gradient finds its way back from anywhere."""
    layer = AffineAutoregressive(2)
    a = torch.tensor([-1e6, -20.0, -0.01, 0.0, 0.01, 20.0, 1e6], requires_grad=True)
    _, log_slope = layer.read(torch.stack([a, a], -1))
    assert log_slope.abs().max() <= layer.limit
    torch.testing.assert_close(log_slope[2:5], a[2:5], atol=1e-4, rtol=0)
    (slope,) = torch.autograd.grad(log_slope.sum(), a)
    assert (slope > 0).all()
    assert slope[3] == 1


@pytest.mark.parametrize("name", ["affine", "into the box", "spline"])
@pytest.mark.parametrize("hidden", [(24, 24), (3, 20), (9,)])
def test_filling_is_the_same_as_passes(name, hidden):
    make = {"affine": AffineAutoregressive, "into the box": IntoTheBox}
    make = make.get(name, SplineAutoregressive)
    layer = build(lambda D: make(D, hidden=hidden), 7)
    z = torch.randn(30, 7).double()
    for quick, slow in zip(by_filling(layer, z), by_passes(layer, z)):
        torch.testing.assert_close(quick, slow)


def test_the_conditioner_is_made():
    """Its weights in a MADE of the other family give the same numbers."""
    net = lively(maf.Conditioner(5, hidden=(16, 16), outputs=3))
    plain = maf.MaskedMLP(5, hidden=(16, 16), outputs=3)
    plain.load_state_dict(net.state_dict())
    x = torch.randn(6, 5)
    torch.testing.assert_close(net(x), plain(x, net.m))


def test_iaf_is_maf_turned_round():
    there, back = MAF(3, layers=2, hidden=(16,)), IAF(3, layers=2, hidden=(16,))
    lively(there)
    for layer, other in zip(there.layers[::-2], back.layers[::2]):
        other.layer.load_state_dict(layer.state_dict())
    x = torch.randn(8, 3)
    for a, b in zip(there(x), back.inverse(x)):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_one_dimension_is_enough():
    for layer in (build(LAYERS["affine"], 1), build(LAYERS["spline"], 1)):
        x = torch.linspace(-6, 6, 50, dtype=torch.float64)[:, None]
        z, log_det = layer(x)
        assert (z.diff(dim=0) > 0).all()
        torch.testing.assert_close(layer.inverse(z)[0], x)
        torch.testing.assert_close(layer.inverse(z)[1], -log_det)


def test_far_away_nothing_overflows():
    layer = lively(AffineAutoregressive(2), scale=5.0)
    z, log_det = layer(torch.tensor([[1e4, -1e4]]))
    assert z.isfinite().all()
    assert log_det.abs() <= 2 * layer.limit


@pytest.mark.parametrize("passes", [4])
def test_affine_layer_agrees_with_zuko(passes):
    transforms = pytest.importorskip("zuko").transforms
    layer, x = build(LAYERS["affine"], 4), torch.randn(6, 4).double()
    slope = math.exp(-layer.limit)  # it squashes its scale as softly as we do

    def meta(x):
        shift, a = layer.net(x).unbind(-1)
        return transforms.MonotonicAffineTransform(shift, a, slope=slope)

    theirs = transforms.AutoregressiveTransform(meta, passes)
    z, log_det = layer(x)
    torch.testing.assert_close(z, theirs(x))
    torch.testing.assert_close(log_det, theirs.log_abs_det_jacobian(x, z).sum(-1))
    torch.testing.assert_close(layer.inverse(z)[0], theirs.inv(z))


def test_a_flow_with_the_weights_of_zukos_is_zukos():
    """So both learn alike, and only the first weights make one seed better than another."""
    pytest.importorskip("zuko")
    from tests.benchmarks import moons

    torch.manual_seed(0)
    (theirs, their_log_prob), (flow, log_prob) = moons.zuko(), moons.ours()
    moons.take_over(theirs, flow)
    x = 2 * torch.randn(50, 2)
    torch.testing.assert_close(log_prob(x), their_log_prob(x), atol=1e-4, rtol=1e-4)


# Splines ----------------------------------------------------------------------------------


def parameters(n: int, K: int, seed: int = 0):
    g = torch.Generator().manual_seed(seed)
    return 1.5 * torch.randn(n, 3 * K - 1, generator=g, dtype=torch.float64)


def knots(c, bound):
    """Positions, values and slopes at all knots, (n, K + 1) each."""
    c = c.T.contiguous()
    K = (len(c) + 1) // 3
    start = torch.full((2, 1, c.shape[1]), -bound, dtype=c.dtype)
    at, values = torch.cat([start, bins(c, bound)[1]], dim=1)
    k = torch.arange(K)[:, None].expand(K, c.shape[1])
    left = torch.stack([slopes(c, row)[0] for row in k])
    right = torch.stack([slopes(c, row)[1] for row in k])
    torch.testing.assert_close(left[1:], right[:-1])
    return at.T, values.T, torch.cat([left, right[-1:]]).T


def test_splines_agree_with_zuko():
    transforms = pytest.importorskip("zuko").transforms
    c, x = parameters(300, 7), 3 * torch.randn(300, dtype=torch.float64)
    theirs = transforms.MonotonicRQSTransform(c[:, :7], c[:, 7:14], c[:, 14:], bound=4.0)
    theirs.horizontal, theirs.vertical, theirs.derivatives = knots(c, 4.0)
    y, log_slope = spline(x, c, 4.0)
    torch.testing.assert_close(y, theirs(x))
    torch.testing.assert_close(log_slope, theirs.log_abs_det_jacobian(x, y))
    torch.testing.assert_close(unspline(y, c, 4.0)[0], theirs.inv(y))


def test_spline_goes_through_its_knots_with_their_slopes():
    c = parameters(5, 6)
    at, values, slope = knots(c, 3.0)
    assert min(at.diff().min(), values.diff().min(), slope.min()) > 0
    torch.testing.assert_close(at[:, -1], torch.full((5,), 3.0).double())
    for x, y, d in zip(at.T, values.T, slope.T):
        for side in (-1e-9, 1e-9):  # value and derivative agree from both sides
            got, log_slope = spline(x + side, c, 3.0)
            torch.testing.assert_close(got, y, atol=1e-7, rtol=0)
            torch.testing.assert_close(log_slope.exp(), d, atol=1e-4, rtol=1e-4)


def test_spline_slope_is_its_derivative():
    c, x = parameters(200, 5), 2 * torch.randn(200, dtype=torch.float64)
    x.requires_grad_()
    y, log_slope = spline(x, c, 2.5)
    (wanted,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(log_slope.exp(), wanted)
    assert (wanted > 0).all()


def test_spline_is_the_identity_outside_of_its_box():
    c = parameters(4, 5)
    for x in (-7.0, -3.0000001, 3.0000001, 40.0):
        x = torch.full((4,), x, dtype=torch.float64)
        for curve in (spline, unspline):
            y, log_slope = curve(x, c, 3.0)
            assert torch.equal(y, x)
            assert (log_slope == 0).all()


def test_inverse_is_stable_where_the_quadratic_is_flat():
    """With s = d0 = d1 the quadratic's first coefficient is 0: the textbook root is 0/0."""
    y = torch.linspace(-3, 3, 101)
    x, log_slope = unspline(y, torch.zeros(101, 14), 4.0)
    torch.testing.assert_close(x, y, atol=1e-5, rtol=0)
    torch.testing.assert_close(log_slope, torch.zeros(101), atol=1e-5, rtol=0)


def steep_bins(n: int):
    """Bins of all steepness and slopes from 10^-2 to 10^2, in float32, and fractions v."""
    g = torch.Generator().manual_seed(0)
    s, d0, d1 = 10 ** (4 * torch.rand(3, n, generator=g) - 2)
    return torch.rand(n, generator=g), s, d0, d1


def test_root_in_float32_is_as_good_as_its_inputs():
    """Against float64 on the same numbers, in units of what rounding the inputs moves.

    Whether b of the quadratic equation is below or above 0, a near 0 or not. The form
    2 s v / (b + root) lost a factor 3,600 for b < 0 and 650 for b > 0.
    """
    few = steep_bins(200_000)
    exact = [x.double().requires_grad_() for x in few]
    v, s, d0, d1 = exact
    t = fraction(*exact)
    u, e = t * (1 - t), d0 + d1 - 2 * s
    torch.testing.assert_close((s * t * t + d0 * u) / (s + e * u), v, rtol=0, atol=1e-11)
    slopes = torch.autograd.grad(t.sum(), exact)
    unit = 2**-24 * (t + sum((x * dt).abs() for x, dt in zip(exact, slopes)))
    wrong = ((fraction(*few) - t).abs() / unit).detach()
    b, a = d0 - e * v, s - d0 + e * v
    for case in (b < 0, b > 0, a.abs() < 1e-3 * s):
        assert case.sum() > 50
        assert wrong[case].max() < 6
    assert t.min() >= 0
    assert t.max() <= 1


def test_root_at_the_ends_of_a_bin():
    """v = 0 and 1 give t = 0 and 1 exactly, and so do values that rounding put outside."""
    _, *bin_ = steep_bins(1000)
    for v in (0.0, 1.0, -1e-7, 1 + 2e-7):
        at = torch.full((1000,), v, requires_grad=True)
        t = fraction(at, *bin_)
        assert (t == round(v)).all()
        (slope,) = torch.autograd.grad(t.sum(), at)  # at 0 it is s / d0 there, at 1 s / d1
        torch.testing.assert_close(slope, bin_[0] / bin_[1 + round(v)], rtol=1e-4, atol=0)


@pytest.mark.parametrize("slope", [1e-2, 1.0, 8.0, 1000.0])
def test_inverse_in_float32_at_a_steep_knot(slope):
    """Two equal bins and any slope where they meet: the same x as in float64."""
    raw = slope + math.log(-math.expm1(-slope))  # softplus of it is the slope
    c = torch.tensor([0.0, 0.0, 0.0, 0.0, raw])
    y = torch.linspace(-4, 4, 2001)
    found, log_found = unspline(y, c.expand(2001, -1), 4.0)
    x, log_slope = unspline(y.double(), c.double().expand(2001, -1), 4.0)
    assert (found - x).abs().max() < 2e-6 * max(1, 1 / slope)
    torch.testing.assert_close(log_found.double(), log_slope, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_inverse_and_its_derivative_at_the_knots(dtype):
    c = parameters(400, 6).to(dtype)
    at, values, slope = (part.to(dtype) for part in knots(c, 3.0))
    for x, y, d in zip(at.T, values.T, slope.T):
        y = y.clamp(-3, 3).clone().requires_grad_()
        got, log_slope = unspline(y, c, 3.0)
        (wanted,) = torch.autograd.grad(got.sum(), y)
        inside = (y.abs() < 3).nonzero()[:, 0]
        assert ((got - x).abs() < 2e-6 * (1 + 1 / d)).all()  # an ulp of y moves x by 1 / d
        rtol = 1e-9 if dtype == torch.float64 else 1e-3
        torch.testing.assert_close(
            log_slope.exp()[inside], wanted[inside], rtol=rtol, atol=0
        )
        if dtype == torch.float64:  # in float32 an ulp of y moves the slope, too
            torch.testing.assert_close(wanted[inside], 1 / d[inside])


def test_a_coupling_keeps_its_first_half():
    layer, x = build(LAYERS["spline coupling"], 5), torch.randn(9, 5).double()
    z, _ = layer(x)
    assert torch.equal(z[:, :2], x[:, :2])
    assert (z[:, 2:] != x[:, 2:]).all()
    with pytest.raises(ValueError, match="two dimensions or more, got D = 1"):
        SplineCoupling(1)


# Learning ---------------------------------------------------------------------------------


def test_fit_plane_learns_two_moons():
    """Better than one Gaussian could be, whose KL is above 0.9 nats; and reproducible."""
    moons, g = toy.get("two_moons"), torch.Generator().manual_seed(0)
    x, new = moons.sample(4000, g).float(), moons.sample(4000, g).float()
    flow = fit_plane(x, 150)
    assert not flow.training
    with torch.no_grad():
        kl = (moons.log_prob(new) - flow.log_prob(new)).mean()
    assert kl < 0.35
    again = fit_plane(x, 2, seed=3), fit_plane(x, 2, seed=3)
    assert torch.equal(*(m.log_prob(new[:5]) for m in again))


def test_kl_to_truth_of_two_normals():
    """KL(N(0, I) || N(m, I)) = |m|^2 / 2, whatever the batches."""

    class Shifted(nn.Module):
        def log_prob(self, x):
            return Normal(torch.tensor([0.6, -0.8]), 1.0).log_prob(x).sum(-1)

    torch.manual_seed(0)
    x = torch.randn(20_000, 2)
    found = kl_to_truth(Shifted(), (x, Normal(0, 1).log_prob(x).sum(-1)), batch=7000)
    assert abs(found.value - 0.5) < 6 * found.error
    assert 0 < found.error < 0.02


def test_recipes_cover_every_toy_density():
    toys = [r for r in flows_maf.RECIPES if r.data == "scale.points.toy_points"]
    made = {recipe.data_args[0]: recipe for recipe in toys}
    assert {*made} == {*toy.names()}
    assert all(
        recipe.steps * recipe.batch == recipe.data_args[1] for recipe in made.values()
    )
    splits = toy_points("ring", 1000)
    x, log_p = splits.test
    assert splits.train.shape == (1000, 2)
    torch.testing.assert_close(log_p, toy.get("ring").log_prob(x), atol=1e-4, rtol=1e-4)
    assert not (splits.train[:, None] == x[:1000]).all(-1).any()  # other points
