"""Planar and radial flows: reverse KL and sampling against normflows, roots by halving.

normflows has no inverse of either step, zuko and nflows have neither step: `log_prob` is
compared with the same flow inverted by bisection.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from gdm_course.flows import planar
from gdm_course.flows.flow import Flow, ReverseKL
from gdm_course.flows.planar import PlanarFlow
from gdm_course.flows.radial import RadialFlow
from gdm_course.training import adam
from tests.benchmarks.harness import Ratio, Work, compare, table

LAYERS, B, N = 16, 512, 10_000


def energy(x: Tensor) -> Tensor:
    """A cheap target, the same for both: a ring of radius 2."""
    return ((torch.linalg.vector_norm(x, dim=1) - 2) / 0.4).square() / 2


def draw(flow: Flow) -> tuple[Tensor, Tensor]:
    """Samples and their log_prob in one pass: (N, D) and (N,)."""
    z = flow.base.sample((N,))
    x, log_det = flow.inverse(z)
    return x, flow.base.log_prob(z) - log_det


def step_of(model: torch.nn.Module, loss: Callable[[], Tensor]) -> Work:
    """One training step with the same optimiser for all."""
    optimiser = adam(model.parameters(), 1e-4)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        loss().backward()
        optimiser.step()

    return step


def halving(y: Tensor, g: Tensor, most: int = 26) -> Tensor:
    """Solve (9) by bisection, as long as float32 gains a bit by it."""
    low, high = y - (g - 1).abs(), y + (g - 1).abs()
    for _ in range(most):
        a = (low + high) / 2
        above = a + (g - 1) * a.tanh() > y
        low, high = torch.where(above, low, a), torch.where(above, a, high)
    return a


def against_normflows(D: int, cls: type[Flow], name: str) -> Iterator[Ratio]:
    """The direction that both have, from noise to data."""
    try:
        import normflows
    except ImportError:
        print("normflows is not installed: left out (pip install 'gdm_course[peers]')")
        return

    class Target:
        def log_prob(self, x: Tensor) -> Tensor:
            return -energy(x)

    base = normflows.distributions.DiagGaussian(D)
    steps = [getattr(normflows.flows, name)((D,)) for _ in range(LAYERS)]
    other, ours = normflows.NormalizingFlow(base, steps, Target()), cls(D, layers=LAYERS)
    problem, against = ReverseKL(ours, energy), f"normflows {normflows.__version__}"
    title = f"{LAYERS} {name.lower()} steps, {D}-D"
    yield compare(
        f"{title}, reverse KL, training step of {B}",
        step_of(ours, lambda: problem.loss(torch.randn(B, D))),
        step_of(other, lambda: other.reverse_kld(B)),
        against,
        goal=1,
        repeat=21,
    )
    with torch.no_grad():
        yield compare(
            f"{title}, sample {N:,} with their log_prob",
            lambda: draw(ours),
            lambda: other.sample(N),
            against,
            goal=1,
            repeat=11,
        )


def against_bisection(D: int) -> Ratio:
    """The way back, which no peer has: our roots against halving."""
    flow, root = PlanarFlow(D, layers=LAYERS), planar.newton
    x = flow.sample(N)

    def slow() -> Tensor:
        planar.newton = halving
        try:
            return flow.log_prob(x)
        finally:
            planar.newton = root

    with torch.no_grad():
        assert torch.allclose(flow.log_prob(x), slow(), atol=1e-2)
        what = f"{LAYERS} planar steps, {D}-D, log_prob of {N:,}"
        return compare(what, lambda: flow.log_prob(x), slow, "bisection", goal=1, repeat=11)


def ratios() -> Iterator[Ratio]:
    """All comparisons of this file, one after the other."""
    for D in (2, 64):
        yield from against_normflows(D, PlanarFlow, "Planar")
        yield from against_normflows(D, RadialFlow, "Radial")
        yield against_bisection(D)


if __name__ == "__main__":
    torch.manual_seed(0)
    print(table(list(ratios())))
