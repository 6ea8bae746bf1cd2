"""Continuous flows against zuko and torchdiffeq: one velocity, one tolerance for all.

All three solve the same network by Dormand and Prince, with the same tolerances for x and
for log_det; that they compute the same is asserted. The peers train by their adjoint, we by
backprop, and once by our adjoint.
"""

from collections.abc import Callable, Iterator
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from gdm_course.flows.adjoint import Adjoint
from gdm_course.flows.continuous import ContinuousFlow, Dynamics, rademacher, unit_vectors
from gdm_course.flows.ode import DormandPrince
from gdm_course.training import adam
from tests.benchmarks.harness import Ratio, Work, compare, table

TOLERANCE = 1e-5
Density = Callable[[Tensor], Tensor]


def stirred(D: int) -> ContinuousFlow:
    """Build a flow with moderate weights: (D, 64, 64, D), as zuko's default."""
    flow = ContinuousFlow(D, solver=DormandPrince(TOLERANCE, TOLERANCE))
    for p in flow.parameters():
        nn.init.normal_(p, std=p.shape[-1] ** -0.5)
    return flow


def zuko_flow(
    flow: ContinuousFlow, exact: bool, tolerance: float = TOLERANCE
) -> tuple[Density, Callable]:
    """The same density and sampler by zuko: its solver, its trace, its adjoint."""
    import zuko

    velocity = lambda t, x: flow.ode.velocity(t.item(), x)  # noqa: E731
    transform = zuko.transforms.FreeFormJacobianTransform(
        velocity,
        torch.tensor(0.0),
        torch.tensor(1.0),
        phi=tuple(flow.parameters()),
        atol=tolerance,
        rtol=tolerance,
        exact=exact,
    )
    transform.trace_scale = 1.0  # the same tolerance for log_det as ours; zuko's is 100 x

    def log_prob(x: Tensor) -> Tensor:
        z, log_det = transform.call_and_ladj(x)
        return flow.base.log_prob(z) + log_det

    return log_prob, lambda n: transform.inv(flow.base.sample((n,)))


def torchdiffeq_flow(
    flow: ContinuousFlow, exact: bool, tolerance: float = TOLERANCE
) -> tuple[Density, Callable]:
    """The same density and sampler by torchdiffeq, with our trace and its adjoint."""
    import torchdiffeq

    tolerances = {"rtol": tolerance, "atol": tolerance, "method": "dopri5"}
    times = torch.tensor([0.0, 1.0])

    class Field(nn.Module):
        def __init__(self, field: nn.Module):
            super().__init__()
            self.field = field

        def forward(self, t: Tensor, state):
            return self.field(t.item(), state)

    def log_prob(x: Tensor) -> Tensor:
        field = Field(Dynamics(flow.ode.velocity, flow.ode.probes(x)))
        state = (x, x.new_zeros(len(x)))
        z, log_det = torchdiffeq.odeint_adjoint(field, state, times, **tolerances)
        return flow.base.log_prob(z[-1]) + log_det[-1]

    still = Field(flow.ode.velocity)
    draw = lambda n: torchdiffeq.odeint(  # noqa: E731
        still, flow.base.sample((n,)), times.flip(0), **tolerances
    )
    return log_prob, lambda n: draw(n)[-1]


def step_of(flow: nn.Module, log_prob: Density, x: Tensor) -> Work:
    """One training step with the same optimiser for all, whose rate is 0."""
    optimiser = adam(flow.parameters(), 0.0)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        (-log_prob(x).mean()).backward()
        optimiser.step()

    return step


def against(name: str, make: Callable, D: int, exact: bool, B: int, n: int):
    """Compare training step, log_prob and sampling with one peer."""
    flow = stirred(D)
    flow.ode.probes = unit_vectors if exact else rademacher
    log_prob, draw = make(flow, exact)
    x, quiet = torch.randn(B, D), torch.no_grad()
    if exact:
        assert torch.allclose(flow.log_prob(x), log_prob(x), atol=1e-2)
    title = f"continuous flow, {D}-D, {'exact trace' if exact else 'Hutchinson'}"
    solver, theirs = flow.ode.solver, step_of(flow, log_prob, x)
    pairs = [(f"training step of {B}", step_of(flow, flow.log_prob, x), theirs, 1)]
    pairs += [(f"log_prob of {B}", quiet(flow.log_prob), quiet(log_prob), 1)]
    if exact or D > 2:  # no trace in it: once per D
        pairs += [(f"sample {n:,}", flow.sample, quiet(draw), 1)]
    for what, ours, other, goal in pairs:
        arguments = {"t": (), "l": (x,), "s": (n,)}[what[0]]
        work = [lambda f=f, a=arguments: f(*a) for f in (ours, other)]
        yield compare(f"{title}, {what}", *work, name, goal, repeat=5)
    flow.ode.solver = Adjoint(solver)
    step = step_of(flow, flow.log_prob, x)
    yield compare(f"{title}, step by adjoint", step, theirs, name, repeat=3)


def ratios() -> Iterator[Ratio]:
    """Every peer that is installed, in 2 and in 64 dimensions."""
    for name, make in {"zuko": zuko_flow, "torchdiffeq": torchdiffeq_flow}.items():
        if not find_spec(name):
            print(f"{name} is not installed: left out (pip install 'gdm_course[peers]')")
            continue
        yield from against(name, make, 2, True, 512, 10_000)
        yield from against(name, make, 2, False, 512, 10_000)
        yield from against(name, make, 64, False, 256, 2_000)


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    found = []
    for row in ratios():
        found.append(row)
        print(f"{row.name}, {row.against}: {row.ratio:.2f}", flush=True)
    print(table(found))
