"""log p of a diffusion by its ODE, against torchdiffeq and zuko at equal error.

All solve the checkpoint of two moons by Dormand and Prince. Each gets the loosest tolerance
with which log p is right to `ERROR` nats in the mean. Run alone:
`python -m tests.benchmarks.streams`.
"""

import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import count

import torch
from torch import Tensor

from gdm_course import checkpoints
from gdm_course.data import toy
from gdm_course.diffusion.score_sde import Stream
from gdm_course.flows.continuous import ContinuousFlow, NeuralODE
from gdm_course.flows.ode import DormandPrince
from gdm_course.flows.solver_error import SolverError
from tests.benchmarks.continuous import torchdiffeq_flow, zuko_flow
from tests.benchmarks.harness import Ratio, compare, table

ERROR, POINTS = 0.01, 1000
Density = Callable[[Tensor], Tensor]


def stream() -> ContinuousFlow:
    """Return the checkpoint as a continuous flow, of data divided by its scale."""
    flow = ContinuousFlow(2)
    flow.layers[0] = NeuralODE(Stream(checkpoints.load("diffusion/stream-two-moons").net))
    return flow.eval()


def ours(flow: ContinuousFlow, tolerance: float) -> Density:
    """Return our log_prob, which also estimates its own error and would warn."""
    flow.ode.solver = DormandPrince(tolerance, tolerance)
    return flow.log_prob


WAYS = {
    "ours": ours,
    "torchdiffeq": lambda flow, tol: torchdiffeq_flow(flow, True, tol)[0],
    "zuko": lambda flow, tol: zuko_flow(flow, True, tol)[0],
}


@torch.no_grad()
def just_enough(make: Callable, truth: Tensor, x: Tensor) -> tuple[Density, str]:
    """Tighten the tolerance until the error is at most `ERROR`: log_prob, and in words."""
    for k in count():
        tolerance = 0.03 * 10 ** (-k / 4)
        log_prob = make(stream(), tolerance)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SolverError)  # we know, and ask for less
            error = (log_prob(x) - truth).abs().mean().item()
        if error <= ERROR:
            return log_prob, f"tolerance {tolerance:.1e}, error {error:.4f} nats"
    raise AssertionError("count has no end")


def ratios() -> Iterator[Ratio]:
    """Every peer that is installed, turn by turn with ours."""
    if not (peers := [name for name in WAYS if find_spec(name)]):
        print("not installed, so not compared: torchdiffeq, zuko")
        return
    flow, law = stream(), toy.get("two_moons")
    x = law.sample(POINTS, torch.Generator().manual_seed(0)).float() / 0.81
    with torch.no_grad():
        truth = ours(flow.double(), 1e-8)(x.double())
    found = {}
    for name in ["ours", *peers]:
        found[name], words = just_enough(WAYS[name], truth, x)
        print(f"log p by the ODE, {name}: {words}", flush=True)
    first = torch.no_grad()(found.pop("ours"))
    for name, log_prob in found.items():
        both = [lambda f=f: f(x) for f in (first, torch.no_grad()(log_prob))]
        title = f"log p of {POINTS:,} points by the ODE, error {ERROR} nats"
        yield compare(title, *both, name, goal=1, repeat=5)


if __name__ == "__main__":
    torch.manual_seed(0)
    print(table(list(ratios())))
