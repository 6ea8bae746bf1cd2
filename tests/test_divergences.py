"""Divergences against closed forms, bounds and each other."""

import math

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch.distributions import (
    Laplace,
    MultivariateNormal,
    Normal,
    Uniform,
    kl_divergence,
)

from gdm_course import divergences as dv

WIDE = (-40.0, 40.0)
P, Q = Normal(0.0, 1.0), Normal(1.5, 0.6)


def double(distribution):
    """Log-density of a distribution whose parameters are Python floats, in float64."""
    return lambda x: distribution.log_prob(x).double()


def test_kl_and_its_reverse_match_the_gaussian_closed_form():
    for a, b in [(P, Q), (Q, P), (P, P)]:
        exact = kl_divergence(a, b).item()
        assert dv.kl(a.log_prob, b.log_prob, WIDE).item() == pytest.approx(exact, abs=1e-6)
        assert dv.reverse_kl(b.log_prob, a.log_prob, WIDE).item() == pytest.approx(
            exact, abs=1e-6
        )


def test_kl_in_the_plane_matches_the_gaussian_closed_form():
    p = MultivariateNormal(torch.zeros(2).double(), torch.eye(2).double())
    cov = torch.tensor([[1.5, 0.6], [0.6, 0.8]]).double()
    q = MultivariateNormal(torch.tensor([0.5, -0.3]).double(), cov)
    square = ((-9.0, 9.0), (-8.0, 8.0))
    exact = kl_divergence(p, q).item()
    assert dv.kl(p.log_prob, q.log_prob, square).item() == pytest.approx(exact, abs=1e-6)


def test_kl_is_infinite_where_q_has_no_mass_and_finite_the_other_way():
    wide, narrow = (
        Uniform(0.0, 2.0, validate_args=False),
        Uniform(0.0, 1.0, validate_args=False),
    )
    assert dv.kl(wide.log_prob, narrow.log_prob, (-1.0, 3.0)) == math.inf
    assert dv.kl(narrow.log_prob, wide.log_prob, (-1.0, 3.0)).item() == pytest.approx(
        math.log(2), abs=1e-6
    )


def test_total_variation_of_equal_width_gaussians():
    # TV = 2 Phi(|m| / (2 s)) - 1
    for m in (0.0, 0.7, 3.0):
        exact = 2 * P.cdf(torch.tensor(m / 2)).item() - 1
        tv = dv.total_variation(P.log_prob, Normal(m, 1.0).log_prob, WIDE)
        assert tv.item() == pytest.approx(exact, abs=1e-5)


def test_js_of_overlapping_uniforms():
    # [0, 1] and [h, 1 + h]: outside of the overlap each is twice the mean, so JS = h log 2
    for h in (0.0, 0.25, 1.0, 2.0):
        p = Uniform(0.0, 1.0, validate_args=False)
        q = Uniform(h, 1 + h, validate_args=False)
        exact = min(h, 1.0) * math.log(2)
        assert dv.js(p.log_prob, q.log_prob, (-1.0, 4.0)).item() == pytest.approx(
            exact, abs=1e-6
        )


@pytest.mark.parametrize(
    ("f", "named"),
    [
        (lambda t: torch.xlogy(t, t), dv.kl),
        (lambda t: -t.log(), dv.reverse_kl),
        (lambda t: (t - 1).abs() / 2, dv.total_variation),
        (lambda t: (torch.xlogy(t, t) - (t + 1) * ((t + 1) / 2).log()) / 2, dv.js),
    ],
)
def test_each_generator_gives_the_divergence_of_its_name(f, named):
    bounds = (-8.0, 8.0)
    a, b = double(P), double(Q)
    assert dv.f_divergence(f, a, b, bounds).item() == pytest.approx(
        named(a, b, bounds).item(), rel=1e-6
    )


def test_chi_square_as_an_f_divergence():
    # E_q[(p/q - 1)^2] of N(m, 1) from N(0, 1) is exp(m^2) - 1
    p, q = Normal(0.8, 1.0), Normal(0.0, 1.0)
    chi2 = dv.f_divergence(lambda t: (t - 1) ** 2, p.log_prob, q.log_prob, (-12.0, 12.0))
    assert chi2.item() == pytest.approx(math.exp(0.64) - 1, rel=1e-5)


@pytest.mark.parametrize("q", [Normal(0.3, 1.0), Normal(4.0, 0.5), Laplace(1.0, 1.0)])
def test_bounds_and_pinsker(q):
    a, b = double(P), double(q)
    tv, js, kl = (f(a, b, (-20.0, 20.0)).item() for f in (dv.total_variation, dv.js, dv.kl))
    assert 0 <= tv <= 1
    assert 0 <= js <= math.log(2)
    assert tv <= math.sqrt(kl / 2)  # Pinsker
    assert tv**2 / 2 <= js <= tv * math.log(2)  # Pinsker for JS; Lin (1991)


def test_a_density_that_leaves_the_grid_is_refused():
    with pytest.raises(ValueError, match="q integrates to"):
        dv.kl(P.log_prob, Normal(9.0, 1.0).log_prob, (-10.0, 10.0))


def uniform(low, high):
    """The log density of a uniform law, -inf outside."""

    def log_prob(x):
        inside = (x >= low) & (x <= high)
        return torch.where(inside, -math.log(high - low), -math.inf).double()

    return log_prob


FS = {  # by name: f, and what D_f is for disjoint, p inside of q, q inside of p (halves)
    "kl": (lambda t: torch.xlogy(t, t), math.inf, math.log(2), math.inf),
    "kl, written naively": (lambda t: t * t.log(), math.inf, math.log(2), math.inf),
    "reverse kl": (lambda t: -t.log(), math.inf, math.inf, math.log(2)),
    "total variation": (lambda t: (t - 1).abs() / 2, 1, 0.5, 0.5),
    "js": (
        lambda t: (torch.xlogy(t, t) - (t + 1) * ((t + 1) / 2).log()) / 2,
        math.log(2),
        0.75 * math.log(4 / 3),
        0.75 * math.log(4 / 3),
    ),
    "hellinger": (lambda t: (1 - t.sqrt()) ** 2, 2, 2 - math.sqrt(2), 2 - math.sqrt(2)),
    "chi square": (lambda t: (t - 1) ** 2, math.inf, 1, math.inf),
}


@pytest.mark.parametrize("name", FS)
def test_f_divergences_where_one_density_is_zero(name):
    f, *expected = FS[name]
    laws = [
        (uniform(0, 1), uniform(2, 3)),
        (uniform(1, 2), uniform(0, 2)),
        (uniform(0, 2), uniform(1, 2)),
    ]
    for (p, q), truth in zip(laws, expected):
        got = dv.f_divergence(f, p, q, (-1.0, 4.0)).item()
        assert got == pytest.approx(truth, abs=1e-6)
    same = {"kl": dv.kl, "reverse kl": dv.reverse_kl, "js": dv.js}
    for p, q in laws if name in same else []:
        at = same[name](p, q, (-1.0, 4.0)).item()
        assert at == pytest.approx(dv.f_divergence(f, p, q, (-1.0, 4.0)).item(), abs=1e-6)


def test_f_divergences_of_laws_far_apart_are_right_or_refused():
    p, q, bounds = double(Normal(-40.0, 1.0)), double(Normal(40.0, 1.0)), (-60.0, 60.0)
    for name in ("kl", "reverse kl", "chi square"):  # 3,200 nats, as kl says, not inf
        with pytest.raises(ValueError, match="use kl or reverse_kl"):
            dv.f_divergence(FS[name][0], p, q, bounds)
    assert dv.kl(p, q, bounds).item() == pytest.approx(3200)
    for name in ("total variation", "js", "hellinger"):
        got = dv.f_divergence(FS[name][0], p, q, bounds).item()
        assert got == pytest.approx(FS[name][1], abs=1e-6)


def test_what_would_broadcast_is_refused():
    """(n, 1) beside (n,) makes all pairs: W_1 was 578 where the truth is 3.1."""
    x = torch.arange(4.0)
    assert dv.wasserstein_1d(x, x + 3.1).item() == pytest.approx(3.1)
    column, narrow = x[:, None], lambda x: x[..., None]
    flat = lambda x: -x.square()  # noqa: E731
    wide = lambda x: narrow(flat(x))  # noqa: E731
    calls = [
        lambda: dv.wasserstein_1d(column, x),
        lambda: dv.wasserstein_1d(x, column),
        lambda: dv.monte_carlo(column),
        lambda: dv.importance(x, column),
        lambda: dv.importance(column, x),
        lambda: dv.effective_sample_size(column),
        lambda: dv.kl_estimate(flat, wide, x),
        lambda: dv.kl_estimate(wide, flat, x),
        lambda: dv.js_estimate(flat, wide, x, x),
        lambda: dv.total_variation_estimate(wide, flat, x),
        lambda: dv.kl(lambda x: narrow(P.log_prob(x)), P.log_prob, (-9.0, 9.0)),
        lambda: dv.wasserstein_1d_cdf(P.cdf, lambda x: narrow(P.cdf(x)), (-9.0, 9.0)),
        lambda: dv.mmd2(x, x, 1.0),
        lambda: dv.mmd2(column, torch.randn(4, 2), 1.0),
        lambda: dv.median_distance(column, torch.randn(4, 2)),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="expected"):
            call()


def test_samples_too_small_and_orders_below_one_are_refused():
    one, empty = torch.zeros(1, 2), torch.zeros(0)
    for call in (
        lambda: dv.mmd2(one, torch.randn(5, 2), 1.0),
        lambda: dv.mmd2(torch.randn(5, 2), one, 1.0),
        lambda: dv.monte_carlo(torch.zeros(1)),
        lambda: dv.wasserstein_1d(empty, torch.zeros(3)),
        lambda: dv.wasserstein_1d(torch.zeros(3), torch.zeros(3), order=0.5),
        lambda: dv.wasserstein_1d(torch.zeros(3), torch.zeros(3), order=math.nan),
        lambda: dv.wasserstein_1d(torch.zeros(3).long(), torch.zeros(3)),
        lambda: dv.kl(P.log_prob, P.log_prob, (9.0, -9.0)),
        lambda: dv.kl(P.log_prob, P.log_prob, (-9.0, 9.0), n=0),
    ):
        with pytest.raises(ValueError, match="expected"):
            call()


def test_divergences_are_differentiable():
    m = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    dv.kl(double(P), Normal(m, 1.0).log_prob, WIDE).backward()
    assert m.grad.item() == pytest.approx(0.7, abs=1e-6)  # d/dm of m^2 / 2


def test_estimates_cover_the_truth_and_shrink_as_one_over_root_n():
    torch.manual_seed(0)
    exact = kl_divergence(P, Q).item()
    z = torch.stack(
        [
            (e.value - exact) / e.error
            for e in (
                dv.kl_estimate(P.log_prob, Q.log_prob, P.sample((400,)))
                for _ in range(2000)
            )
        ]
    )
    assert z.std().item() == pytest.approx(
        1, abs=0.1
    )  # std for variance, or no sqrt(n), fails
    assert z.mean().abs() < 0.15
    errors = [dv.monte_carlo(P.sample((n,))).error.item() for n in (10_000, 160_000)]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.05)


def test_js_and_total_variation_estimates_match_quadrature():
    torch.manual_seed(1)
    x, y = P.sample((20_000,)), Q.sample((20_000,))
    a, b = P.log_prob, Q.log_prob
    for estimate, exact in [
        (dv.js_estimate(a, b, x, y), dv.js(a, b, WIDE)),
        (dv.total_variation_estimate(a, b, x), dv.total_variation(a, b, WIDE)),
    ]:
        assert abs(estimate.value - exact) < 4 * estimate.error
        assert estimate.error < 0.01


def test_importance_sampling_is_unmoved_by_constants_and_its_error_is_honest():
    torch.manual_seed(2)
    q = Normal(0.0, 1.5)
    z = []
    for _ in range(1000):
        x = q.sample((500,))
        log_w = P.log_prob(x) - q.log_prob(x)
        e = dv.importance(x**2, log_w + 700.0)  # a constant that overflows exp in float32
        z.append((e.value - 1) / e.error)  # E_p[x^2] = 1
    assert torch.stack(z).std().item() == pytest.approx(1, abs=0.12)
    assert torch.stack(z).mean().abs() < 0.2


def test_effective_sample_size_counts_equal_weights():
    log_w = torch.full((10,), -math.inf)
    log_w[:4] = 3.0
    assert dv.effective_sample_size(log_w).item() == pytest.approx(4)


def test_wasserstein_of_known_samples():
    x = torch.tensor([0.0, 1.0, 3.0])
    assert dv.wasserstein_1d(x, x.flip(0)) == 0
    assert dv.wasserstein_1d(x, x + 5).item() == pytest.approx(5)
    assert dv.wasserstein_1d(x, x - 5, order=2).item() == pytest.approx(5)
    # unequal sizes, by hand: {0} to {0, 2} moves half the mass by 2
    one, two = torch.tensor([0.0]), torch.tensor([0.0, 2.0])
    assert dv.wasserstein_1d(one, two).item() == pytest.approx(1)
    assert dv.wasserstein_1d(one, two, order=2).item() == pytest.approx(math.sqrt(2))


def test_wasserstein_of_samples_against_scipy():
    stats = pytest.importorskip("scipy.stats")
    torch.manual_seed(3)
    for n, m in [(50, 50), (50, 77), (1, 9)]:
        x, y = torch.randn(n).double(), 2 * torch.randn(m).double() + 1
        exact = stats.wasserstein_distance(x.numpy(), y.numpy())
        assert dv.wasserstein_1d(x, y).item() == pytest.approx(exact, abs=1e-12)


def test_wasserstein_between_gaussians():
    # W_2^2 = (m - m')^2 + (s - s')^2; samples placed at the quantiles, so no noise
    u = (torch.arange(20_000).double() + 0.5) / 20_000
    x, y = P.icdf(u), Q.icdf(u)
    assert dv.wasserstein_1d(x, y, order=2).item() == pytest.approx(
        math.hypot(1.5, 0.4), abs=2e-3
    )
    w1 = dv.wasserstein_1d_cdf(P.cdf, Q.cdf, WIDE).item()
    assert dv.wasserstein_1d(x, y).item() == pytest.approx(w1, abs=1e-3)
    shifted = dv.wasserstein_1d_cdf(P.cdf, Normal(7.0, 1.0).cdf, WIDE)
    assert shifted.item() == pytest.approx(7, abs=1e-5)


def gaussian_mmd2(m, s, h, D=1):
    """MMD^2 of N(0, I) and N(m e_1, s^2 I) under exp(-|x - y|^2 / (2 h^2)), by hand."""

    def k(v, d):
        return (h**2 / (h**2 + v)) ** (D / 2) * math.exp(-(d**2) / (2 * (h**2 + v)))

    return k(2.0, 0) + k(2 * s**2, 0) - 2 * k(1 + s**2, m)


def test_mmd_between_densities_matches_the_gaussian_closed_form():
    for m, s, h in [(0.0, 1.0, 1.0), (2.0, 0.5, 0.7), (5.0, 1.0, 3.0)]:
        value = dv.mmd2_density(P.log_prob, Normal(m, s).log_prob, (-15.0, 15.0), h)
        assert value.item() == pytest.approx(gaussian_mmd2(m, s, h), abs=1e-6)


@pytest.mark.parametrize(("m", "s"), [(0.0, 1.0), (1.0, 0.7)])
def test_the_mmd_of_samples_is_unbiased(m, s):
    torch.manual_seed(4)
    shift = torch.tensor([m, 0.0, 0.0])
    values = torch.stack(
        [
            dv.mmd2(torch.randn(12, 3), s * torch.randn(8, 3) + shift, bandwidth=1.0)
            for _ in range(4000)
        ]
    )
    e = dv.monte_carlo(values)  # a diagonal left in would add about 0.15, 50 errors
    assert abs(e.value.item() - gaussian_mmd2(m, s, 1.0, D=3)) < 4 * e.error.item()


def test_a_mixture_of_bandwidths_is_the_mean_kernel():
    x = torch.randn(5, 2)
    both = dv.gaussian_kernel(x, x, (0.5, 2.0))
    mean = (dv.gaussian_kernel(x, x, 0.5) + dv.gaussian_kernel(x, x, 2.0)) / 2
    torch.testing.assert_close(both, mean)
    assert both.diagonal().eq(1).all()


def test_the_median_distance():
    x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[3.0]])
    assert dv.median_distance(x, y) == 2.0  # distances 1, 2, 3


# Plans and prices -------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 7, 60])
def test_an_assignment_is_the_cheapest_and_its_prices_prove_it(n):
    cost = torch.randn(n, n, generator=torch.Generator().manual_seed(n)).double()
    columns, u, v = dv.assignment(cost)
    assert sorted(columns.tolist()) == list(range(n))
    paid = cost[range(n), columns].sum().item()
    rows, best = linear_sum_assignment(cost.numpy())
    assert paid == pytest.approx(cost.numpy()[rows, best].sum(), abs=1e-9)
    assert (cost - u[:, None] - v).min() > -1e-9  # no pair is cheaper than its prices
    assert (u.sum() + v.sum()).item() == pytest.approx(paid, abs=1e-9)


def test_w1_of_samples_agrees_with_the_line_and_with_a_shift():
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(80, generator=g), 2 * torch.randn(80, generator=g) + 1
    torch.testing.assert_close(
        dv.exact_w1(x[:, None], y[:, None]), dv.wasserstein_1d(x, y), atol=1e-5, rtol=0
    )
    z, m = torch.randn(50, 3, generator=g), torch.tensor([3.0, 0.0, 4.0])
    torch.testing.assert_close(dv.exact_w1(z, z + m), torch.tensor(5.0), atol=1e-5, rtol=0)


def test_an_assignment_needs_a_square_of_finite_numbers():
    for cost in (torch.rand(2, 3), torch.rand(3), torch.full((2, 2), math.inf)):
        with pytest.raises(ValueError, match="expected a square table"):
            dv.assignment(cost)
    with pytest.raises(ValueError, match=r"expected \(B, 2\)"):
        dv.exact_w1(torch.rand(4, 2), torch.rand(4, 3))
