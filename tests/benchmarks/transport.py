"""A step of flow matching and the coupling of a batch, against torchcfm and POT.

`pip install torchcfm POT` brings the peers; without them nothing is compared. Run alone:
`python -m tests.benchmarks.transport`.
"""

from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec

import torch
from torch import Tensor

from gdm_course.diffusion.denoiser import Denoiser
from gdm_course.diffusion.flow_matching import FlowMatching, optimal
from tests.benchmarks.harness import Ratio, compare, table


def length(x0: Tensor, x1: Tensor) -> Tensor:
    """The mean squared length of the lines of a batch."""
    return (x0 - x1).square().sum(1).mean()


def couplings() -> Iterator[Ratio]:
    """The best partners of a batch: the same mean square of the way, and the time."""
    from torchcfm.optimal_transport import OTPlanSampler

    for B in (64, 256):
        x0, x1 = torch.randn(B, 2), torch.randn(B, 2)
        plan = OTPlanSampler(method="exact")
        best, theirs = optimal(x0, x1), plan.sample_plan(x0, x1, replace=False)
        print(
            f"B = {B}: ours {length(x0, best):.4f}, torchcfm's draw {length(*theirs):.4f}"
        )
        work = partial(optimal, x0, x1), partial(plan.sample_plan, x0, x1)
        yield compare(f"optimal pairs, B = {B}", *work, "torchcfm with POT", goal=1)


def steps(B: int = 512) -> Iterator[Ratio]:
    """Forward and backward of one loss, with the same network and batch."""
    from torchcfm.conditional_flow_matching import (
        ConditionalFlowMatcher,
        ExactOptimalTransportConditionalFlowMatcher,
    )

    x = torch.randn(B, 2)
    kinds = {"independent": (ConditionalFlowMatcher, {})}
    kinds["optimal"] = (ExactOptimalTransportConditionalFlowMatcher, {"coupling": optimal})
    for name, (matcher, how) in kinds.items():
        flow, peer = FlowMatching(Denoiser(2), (2,), **how), matcher(sigma=0.0)

        def ours(flow: FlowMatching = flow) -> None:
            flow.zero_grad(set_to_none=True)
            flow.loss(x).backward()

        def theirs(flow: FlowMatching = flow, peer=peer) -> None:
            flow.zero_grad(set_to_none=True)
            t, z, v = peer.sample_location_and_conditional_flow(torch.randn(B, 2), x)
            (flow.velocity(z, 1 - t) + v).square().mean().backward()  # noise at their 0

        yield compare(
            f"step, {name} pairs, B = {B}", ours, theirs, "torchcfm", goal=0.9, repeat=31
        )


def ratios() -> Iterator[Ratio]:
    """Everything that the peers have, too."""
    if not (find_spec("torchcfm") and find_spec("ot")):
        print("not installed, so not compared: torchcfm, POT")
        return
    torch.manual_seed(0)
    yield from couplings()
    yield from steps()


if __name__ == "__main__":
    print(table(list(ratios())))
