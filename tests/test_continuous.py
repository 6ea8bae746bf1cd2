"""Solvers, adjoint, trace estimates and the continuous flow, each against an oracle."""

import itertools
import math

import pytest
import torch
from torch import nn

from gdm_course import protocols
from gdm_course.flows import ode
from gdm_course.flows.adjoint import Adjoint
from gdm_course.flows.continuous import (
    FFJORD,
    ContinuousFlow,
    Dynamics,
    NeuralODE,
    Velocity,
    divergence,
    rademacher,
    unit_vectors,
)
from gdm_course.flows.ode import DormandPrince, Fixed, euler_step, rk4_step

FLOAT = torch.float64


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def dp5_step(f, t, x, h):
    """Dormand and Prince's fifth order step without its error estimate."""
    return ode.dormand_prince_step(f, t, x, h, f(t, x))[0]


def swing(t, x):
    """A nonlinear field that depends on time: (B, 2) -> (B, 2)."""
    p, q = x.unbind(-1)
    return torch.stack([q * math.cos(t), torch.sin(t * p * q) - torch.sin(p)], -1)


class Linear(nn.Module):
    """dx/dt = A x + sin(t) b."""

    def __init__(self, D):
        super().__init__()
        self.A = nn.Parameter(torch.randn(D, D, dtype=FLOAT) * 0.7)
        self.b = nn.Parameter(torch.randn(D, dtype=FLOAT))

    def forward(self, t, x):
        return x @ self.A.T + math.sin(t) * self.b


def stirred(flow, scale=1.0, seed=0):
    """Give a flow weights far from its start, which is the identity."""
    torch.manual_seed(seed)
    for p in flow.parameters():
        nn.init.normal_(p, std=scale / math.sqrt(p.shape[-1]))
    return flow


# Solvers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("step", "order"), [(euler_step, 1), (rk4_step, 4), (dp5_step, 5)])
def test_order_of_convergence(step, order):
    """Halving the step divides the error by 2^order: a wrong weight lowers the order."""
    x = torch.randn(5, 2, dtype=FLOAT, generator=torch.Generator().manual_seed(0))
    truth = Fixed(dp5_step, 2000)(swing, x, (0.2, 1.7))[-1]
    errors = [
        (Fixed(step, n)(swing, x, (0.2, 1.7))[-1] - truth).abs().max().item()
        for n in (16, 32, 64, 128)
    ]
    slopes = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert slopes[-1] == pytest.approx(order, abs=0.2)


def test_embedded_error_is_of_order_five():
    """5th minus 4th order falls as h^5, and bounds the true error of the step."""
    x, truth = torch.randn(5, 2, dtype=FLOAT), DormandPrince(1e-13, 1e-13)
    sizes = []
    for h in (0.2, 0.1, 0.05):
        new, slopes = ode.dormand_prince_step(swing, 0.0, x, h, swing(0.0, x))
        sizes.append(ode.error_in_tolerances(x, new, h, slopes, 0.0, 1.0))
        real = (new - truth(swing, x, (0.0, h))[-1]).square().mean().sqrt()
        assert real < sizes[-1]
    assert math.log2(sizes[1] / sizes[2]) == pytest.approx(5, abs=0.4)


@pytest.mark.parametrize("solver", [Fixed(rk4_step, 400), DormandPrince(1e-10, 1e-10)])
def test_linear_equation_is_the_matrix_exponential(solver):
    torch.manual_seed(0)
    A, x = 0.5 * torch.randn(4, 4, dtype=FLOAT), torch.randn(7, 4, dtype=FLOAT)
    for t0, t1 in ((0.0, 1.5), (2.0, -0.5)):
        moved = solver(lambda t, x: x @ A.T, x, (t0, t1))[-1]
        exact = x @ torch.matrix_exp(A * (t1 - t0)).T
        torch.testing.assert_close(moved, exact, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("tolerance", [1e-4, 1e-7, 1e-10])
def test_dormand_prince_holds_its_tolerance_with_few_steps(tolerance):
    """Global errors stay within 30 local tolerances, against scipy at its tightest."""
    integrate = pytest.importorskip("scipy.integrate")
    x, times = torch.randn(3, 2, dtype=FLOAT), (0.0, 0.4, 1.0, 1.1, 2.5)

    def flat(t, y):
        return swing(t, torch.from_numpy(y).view(-1, 2)).flatten().numpy()

    options = {"rtol": 1e-13, "atol": 1e-13, "method": "DOP853", "t_eval": times}
    oracle = integrate.solve_ivp(flat, (0, 2.5), x.flatten().numpy(), **options).y.T
    oracle = torch.from_numpy(oracle.copy()).view(-1, 3, 2)
    found = torch.stack(DormandPrince(tolerance, tolerance)(swing, x, times))
    assert (found - oracle).abs().max() < 30 * tolerance * (1 + oracle.abs().max())
    calls = []
    DormandPrince(tolerance, tolerance)(
        lambda t, x: calls.append(t) or swing(t, x), x, times
    )
    theirs = integrate.solve_ivp(
        flat, (0, 2.5), x.flatten().numpy(), rtol=tolerance, atol=tolerance
    )
    assert len(calls) < 1.5 * theirs.nfev + 40


@pytest.mark.parametrize(
    ("ours", "method", "options"),
    [
        (Fixed(euler_step, 10), "euler", {"step_size": 0.1}),
        (DormandPrince(1e-9, 1e-9), "dopri5", None),
    ],
)
def test_solvers_agree_with_torchdiffeq(ours, method, options):
    theirs = pytest.importorskip("torchdiffeq").odeint
    x, t = torch.randn(6, 2, dtype=FLOAT), torch.tensor([0.0, 1.0], dtype=FLOAT)
    there = theirs(
        lambda t, x: swing(t.item(), x),
        x,
        t,
        rtol=1e-9,
        atol=1e-9,
        method=method,
        options=options,
    )
    torch.testing.assert_close(ours(swing, x, (0.0, 1.0))[-1], there[-1], rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    "solver", [Fixed(euler_step, 7), Fixed(rk4_step, 7), DormandPrince(1e-8, 1e-8)]
)
def test_tuples_are_solved_like_tensors_and_time_runs_both_ways(solver):
    """The parts do not touch, so a tuple must give what each gives alone."""
    x, y = torch.randn(4, 2, dtype=FLOAT), torch.randn(3, dtype=FLOAT)

    def both(t, s):
        return (swing(t, s[0]), -s[1] + t)

    states = solver(both, (x, y), (1.0, 0.3, -0.5))
    assert len(states) == 3
    assert states[0][0] is x
    alone = (
        solver(swing, x, (1.0, 0.3, -0.5)),
        solver(lambda t, y: -y + t, y, (1, 0.3, -0.5)),
    )
    for state, a, b in zip(states, *alone):
        torch.testing.assert_close(state, (a, b), rtol=0, atol=2e-7)


@pytest.mark.parametrize("solver", [Fixed(rk4_step, 300), DormandPrince(1e-11, 1e-11)])
def test_reversing_time_gives_back_x(solver):
    x = torch.randn(9, 2, dtype=FLOAT)
    there = solver(swing, x, (0.0, 2.0))[-1]
    assert (there - x).abs().max() > 0.5
    torch.testing.assert_close(solver(swing, there, (2.0, 0.0))[-1], x, rtol=0, atol=1e-8)


def test_dormand_prince_tells_where_it_gave_up():
    def explode(t, x):
        return x * x  # x(t) = 1 / (1 - t) is infinite at t = 1

    with pytest.raises(FloatingPointError, match=r"gave up at t = (1|0\.99).*raise rtol"):
        DormandPrince()(explode, torch.ones(1, dtype=FLOAT), (0.0, 2.0))
    with pytest.raises(FloatingPointError, match="not finite"):
        DormandPrince()(lambda t, x: x / 0, torch.ones(2), (0.0, 1.0))


@pytest.mark.parametrize("solver", [Fixed(rk4_step, 5), DormandPrince()])
def test_standing_still_is_exact(solver):
    x = torch.zeros(3)
    assert (solver(lambda t, x: 0 * x, x, (0.0, 1.0))[-1] == 0).all()
    assert (solver(lambda t, x: x + 1, x, (1.0, 1.0))[-1] == 0).all()


# The adjoint ------------------------------------------------------------------------------


@pytest.mark.parametrize("inner", [Fixed(rk4_step, 60), DormandPrince(1e-10, 1e-10)])
def test_adjoint_gradient_is_that_of_backprop(inner):
    """Of all parameters and of x, through two output times, in float64."""
    torch.manual_seed(0)
    f, x = Linear(3), torch.randn(5, 3, dtype=FLOAT, requires_grad=True)
    weights = torch.randn(2, 5, 3, dtype=FLOAT)
    found = []
    for solver in (inner, Adjoint(inner)):
        states = torch.stack(solver(f, x, (0.0, 0.7, 1.0))[1:])
        loss = (weights * states.sin()).sum()
        found.append(torch.autograd.grad(loss, [x, *f.parameters()]))
    for a, b in zip(*found):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


def test_adjoint_gradient_of_the_flow_is_that_of_backprop():
    """The loss of a flow needs second derivatives of the velocity."""
    flow = stirred(ContinuousFlow(2, hidden=8).double())
    x, found = torch.randn(6, 2, dtype=FLOAT), []
    for solver in (DormandPrince(1e-9, 1e-9), Adjoint(DormandPrince(1e-9, 1e-9))):
        flow.ode.solver = solver
        found.append(torch.autograd.grad(flow.loss(x), list(flow.parameters())))
    for a, b in zip(*found):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


class Kept:
    """A tensor that autograd keeps for the backward pass; counts those alive."""

    alive = 0

    def __init__(self, t):
        self.t = t.detach()  # with its graph it would keep itself alive
        Kept.alive += t.numel()

    def __del__(self):
        Kept.alive -= self.t.numel()


def test_adjoint_keeps_no_steps():
    """The graph of the adjoint saves the end and the parameters; backprop saves steps."""
    flow, x, counts = stirred(ContinuousFlow(2, hidden=8)), torch.randn(50, 2), []
    for solver in (Fixed(rk4_step, 5), Fixed(rk4_step, 20)):
        for wrapped in (solver, Adjoint(solver)):
            flow.ode.solver, Kept.alive = wrapped, 0
            with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.t):
                loss = flow.loss(x)
                counts.append(Kept.alive)
            loss.backward()
            del loss
    assert counts[2] > 3.5 * counts[0]
    assert counts[3] == counts[1] < counts[0] / 5


def test_adjoint_is_wrong_with_too_few_steps():
    f, x = Linear(3), torch.randn(5, 3, dtype=FLOAT)
    exact = torch.autograd.grad(Fixed(euler_step, 5)(f, x, (0.0, 1.0))[-1].sum(), f.A)[0]
    adjoint = Adjoint(Fixed(euler_step, 5))(f, x, (0.0, 1.0))[-1].sum()
    assert (torch.autograd.grad(adjoint, f.A)[0] - exact).norm() > 0.02 * exact.norm()


def test_adjoint_refuses_a_field_without_parameters():
    with pytest.raises(TypeError, match=r"expected f as an nn\.Module"):
        Adjoint(Fixed())(swing, torch.randn(2, 2), (0.0, 1.0))


# Traces -----------------------------------------------------------------------------------


def jacobians(velocity, t, x):
    """All Jacobians of a velocity, one by one: (B, D, D)."""

    def one(x):
        return velocity(t, x[None])[0]

    return torch.stack([torch.autograd.functional.jacobian(one, point) for point in x])


def test_exact_trace_is_the_jacobians():
    velocity = stirred(Velocity(5, hidden=12).double(), 2.0)
    x = torch.randn(4, 5, dtype=FLOAT)
    v, trace = divergence(velocity, 0.3, x, unit_vectors(x))
    torch.testing.assert_close(v, velocity(0.3, x))
    exact = jacobians(velocity, 0.3, x).diagonal(dim1=1, dim2=2).sum(1)
    torch.testing.assert_close(trace, exact)
    with torch.no_grad():
        quiet = divergence(velocity, 0.3, x, unit_vectors(x))
    torch.testing.assert_close(quiet, (v, trace))
    assert trace.requires_grad
    assert not quiet[1].requires_grad
    assert not quiet[0].requires_grad


def test_exact_trace_of_images():
    """A field on (B, C, H, W): the unit vectors cover all dimensions."""
    x = torch.randn(3, 2, 2, 3, dtype=FLOAT)

    def field(t, x):
        return x**3 + t * x.flip(3) + x.flip(1)

    _, trace = divergence(field, 0.5, x, unit_vectors(x))
    wanted = (3 * x**2).flatten(1).sum(1) + 0.5 * 4  # the middle column flips onto itself
    torch.testing.assert_close(trace, wanted)


def test_hutchinson_is_unbiased_with_the_known_variance():
    """Within 6 sigma; variance 2 (|S|^2 - sum S_ii^2) of the symmetric part S."""
    torch.manual_seed(0)
    n, A = 40_000, torch.randn(6, 6, dtype=FLOAT)
    x = torch.zeros(n, 6, dtype=FLOAT)
    _, trace = divergence(lambda t, x: x @ A.T, 0.0, x, rademacher(x))
    S = (A + A.T) / 2
    variance = 2 * (S.square().sum() - S.diagonal().square().sum()).item()
    assert abs(trace.mean() - A.trace()) < 6 * math.sqrt(variance / n)
    assert trace.var().item() == pytest.approx(variance, rel=0.1)


def test_hutchinson_is_exact_for_diagonal_jacobians():
    x = torch.randn(50, 4, dtype=FLOAT)
    _, trace = divergence(lambda t, x: x**3, 0.0, x, rademacher(x))
    torch.testing.assert_close(trace, (3 * x**2).sum(1))
    assert rademacher(x).unique().tolist() == [-1.0, 1.0]


def test_the_probe_stays_the_same_along_a_trajectory():
    """With a fresh probe per call, the adaptive solver would not converge."""
    flow = stirred(ContinuousFlow(3, hidden=8, probes=rademacher).double(), 2.0)
    x = torch.randn(5, 3, dtype=FLOAT)
    field = Dynamics(flow.ode.velocity, rademacher(x))
    first, second = field(0.1, (x, x[:, 0])), field(0.1, (x, x[:, 0]))
    torch.testing.assert_close(first, second)
    assert field.calls == 2
    torch.manual_seed(1)
    a = flow.log_prob(x)
    assert not torch.equal(a, flow.log_prob(x))  # but another probe for another call
    torch.manual_seed(1)
    assert torch.equal(a, flow.log_prob(x))


def test_hutchinson_log_prob_is_unbiased():
    """The mean over probes of log p is the exact one, within 6 sigma."""
    flow = stirred(ContinuousFlow(3, hidden=8, solver=Fixed(rk4_step, 10)).double(), 1.5)
    x = torch.randn(1, 3, dtype=FLOAT)
    with torch.no_grad():
        exact = flow.log_prob(x).item()
        flow.ode.probes = rademacher
        drawn = flow.log_prob(x.expand(4000, -1))
    assert abs(drawn.mean() - exact) < 6 * drawn.std() / math.sqrt(4000)
    assert drawn.std() > 0.01


# The flow ---------------------------------------------------------------------------------


@pytest.mark.parametrize("D", [1, 2, 5])
def test_log_det_is_that_of_the_whole_jacobian(D):
    solver = DormandPrince(1e-10, 1e-10)
    flow = stirred(ContinuousFlow(D, hidden=10, solver=solver).double(), 1.5)
    x = torch.randn(3, D, dtype=FLOAT)
    z, log_det = flow(x)
    for i in range(3):
        J = torch.autograd.functional.jacobian(lambda p: flow(p[None])[0][0], x[i])
        torch.testing.assert_close(log_det[i], J.slogdet()[1], rtol=1e-8, atol=1e-8)
    _back, minus = flow.inverse(z)
    torch.testing.assert_close(minus, -log_det, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("D", [2, 64])
@pytest.mark.parametrize(
    ("dtype", "solver", "allowed"),
    [
        (torch.float32, None, 1e-5),  # the default
        (torch.float64, DormandPrince(1e-12, 1e-12), 1e-10),
    ],
)
def test_round_trip(dtype, solver, allowed, D):
    flow = stirred(ContinuousFlow(D, solver=solver), 1.5).to(dtype)
    x = torch.randn(100, D, dtype=dtype)
    with torch.no_grad():
        z = flow.ode.path(x, (0.0, 1.0))[-1]
        if D == 2:
            z = flow(x)[0]
        back = flow.ode.path(z, (1.0, 0.0))[-1]
    assert (z - x).abs().max() > 0.3
    assert (back - x).abs().max() < allowed


@pytest.mark.parametrize("solver", [None, Fixed(rk4_step, 20)])
def test_density_integrates_to_one(solver):
    flow = stirred(ContinuousFlow(2, hidden=16, solver=solver).double(), 1.5)
    at = (torch.arange(160, dtype=FLOAT) + 0.5) / 160 * 16 - 8
    with torch.no_grad():
        total = flow.log_prob(torch.cartesian_prod(at, at)).exp().sum().item() * 0.1**2
    assert total == pytest.approx(1, abs=1e-3)


def test_samples_follow_the_density():
    """Two-sample: drawn points against cells of the density, by chi-square."""
    flow = stirred(ContinuousFlow(2, hidden=16), 1.5).double()
    n, K, side = 20_000, 20, 10
    at = (torch.arange(K * 8, dtype=FLOAT) + 0.5) / (K * 8) * side - side / 2
    torch.manual_seed(3)
    with torch.no_grad():
        p = flow.log_prob(torch.cartesian_prod(at, at)).exp() * (side / (K * 8)) ** 2
        x = flow.sample(n)
    p = p.view(K, 8, K, 8).sum((1, 3)).flatten()
    codes = ((x + side / 2) / side * K).floor().long()
    inside = ((codes >= 0) & (codes < K)).all(1)
    counts = (codes[inside] @ torch.tensor([K, 1])).bincount(minlength=K * K)
    often = n * p > 5
    chi2 = ((counts - n * p)[often] ** 2 / (n * p)[often]).sum().item()
    dof = int(often.sum())
    assert dof > 60
    assert chi2 < dof + 6 * math.sqrt(2 * dof)


@pytest.mark.parametrize("exact", [True, False])
def test_agrees_with_zuko(exact):
    """The same velocity in zuko's FreeFormJacobianTransform."""
    zuko = pytest.importorskip("zuko")
    velocity = stirred(Velocity(3, hidden=16).double(), 1.5)
    ours = NeuralODE(velocity, solver=DormandPrince(1e-10, 1e-10))
    theirs = zuko.transforms.FreeFormJacobianTransform(
        lambda t, x: velocity(t.item(), x),
        torch.tensor(0.0, dtype=FLOAT),
        torch.tensor(1.0, dtype=FLOAT),
        atol=1e-10,
        rtol=1e-10,
        exact=exact,
    )
    x = torch.randn(7 if exact else 1, 3, dtype=FLOAT)
    z, log_det = ours(x)
    if exact:
        there, ladj = theirs.call_and_ladj(x)
        torch.testing.assert_close(log_det, ladj, rtol=0, atol=1e-7)
    else:  # zuko draws Gaussian probes: the same expectation
        there, ladj = theirs.call_and_ladj(x.expand(3000, -1))
        error = 6 * ladj.std() / math.sqrt(3000)
        assert (ladj.mean() - log_det).abs().item() < error
        there = there[:1]
    torch.testing.assert_close(z, there, rtol=0, atol=1e-8)


@pytest.mark.parametrize("probes", [unit_vectors, rademacher])
@pytest.mark.parametrize(
    "solver", [Fixed(rk4_step, 4), DormandPrince(), Adjoint(DormandPrince())]
)
def test_house_rules(solver, probes):
    """Protocols, shapes, a gradient for every parameter, a state dict that comes back."""

    def make():
        return ContinuousFlow(6, hidden=9, solver=solver, probes=probes)

    flow, twin, x = stirred(make()), make(), torch.randn(4, 6)
    for protocol in (protocols.Sampler, protocols.Trainable, protocols.Density):
        assert isinstance(flow, protocol)
    assert flow.sample(3).shape == (3, 6)
    assert not flow.sample(3).requires_grad
    assert flow.log_prob(x).shape == (4,)
    assert flow.loss(x).shape == ()
    assert flow.ode.calls > 0
    flow.loss(x).backward()
    dead = [n for n, p in flow.named_parameters() if p.grad is None or not p.grad.any()]
    assert not dead
    twin.load_state_dict(flow.state_dict())
    for model in (flow, twin):
        model.ode.probes = unit_vectors
    torch.testing.assert_close(twin.log_prob(x), flow.log_prob(x))


def test_ffjord_is_cheap_in_training_and_exact_in_evaluation():
    flow, x = stirred(FFJORD(2, hidden=8, steps=3), 1.5), torch.randn(5, 2)
    plain = ContinuousFlow(2, hidden=8, solver=DormandPrince(1e-5, 1e-5))
    plain.load_state_dict(flow.state_dict())
    assert not torch.equal(flow.log_prob(x), flow.log_prob(x))  # a new probe each time
    assert flow.ode.calls == 12
    flow.eval()
    assert torch.equal(flow.log_prob(x), plain.log_prob(x))
    assert flow.train().training
    assert flow.ode.solver == Fixed(rk4_step, 3)


def test_it_starts_as_the_identity_and_path_follows_the_flow():
    x = torch.randn(4, 2)
    z, log_det = ContinuousFlow(2)(x)
    assert torch.equal(z, x)
    assert (log_det == 0).all()
    flow = stirred(ContinuousFlow(2), 1.5)
    path = flow.ode.path(x, (0.0, 0.5, 1.0))
    assert path.shape == (3, 4, 2)
    torch.testing.assert_close(path[-1], flow(x)[0], rtol=1e-4, atol=1e-5)


def test_wrong_data_is_told():
    with pytest.raises(ValueError, match=r"x has shape \(4, 2\): expected \(B, 3\)"):
        ContinuousFlow(3).log_prob(torch.randn(4, 2))
    with pytest.raises(ValueError, match="x is int64: expected floating-point"):
        ContinuousFlow(3).ode.path(torch.ones(4, 3, dtype=torch.long), (0.0, 1.0))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
def test_cpu_and_gpu_agree():
    flow, x = stirred(ContinuousFlow(4)), torch.randn(5, 4)
    here = flow.log_prob(x)
    there = flow.cuda().log_prob(x.cuda()).cpu()
    torch.testing.assert_close(here, there, rtol=1e-4, atol=1e-4)
    assert flow.sample(2).is_cuda
