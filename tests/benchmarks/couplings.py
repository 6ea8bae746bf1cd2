"""RealNVP against zuko, nflows and normflows: step, log_prob and sample, turn by turn.

Equal sizes: the same number of affine couplings, each with a perceptron of two hidden
layers of 64. Peers that are not installed are named and left out.
"""

import importlib.util
import statistics
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from gdm_course.flows.realnvp import RealNVP
from gdm_course.training import adam
from tests.benchmarks.harness import Ratio, table

LAYERS, HIDDEN = 6, 64
Peer = tuple[nn.Module, Callable[[Tensor], Tensor], Callable[[int], Tensor]]


def ours(D: int) -> Peer:
    """The course's own, with log_prob and sample."""
    flow = RealNVP(D, layers=LAYERS, hidden=HIDDEN)
    return flow, flow.log_prob, flow.sample


def zuko(D: int) -> Peer:
    """Zuko's RealNVP."""
    from zuko.flows import RealNVP

    flow = RealNVP(D, transforms=LAYERS, hidden_features=(HIDDEN, HIDDEN))
    return flow, lambda x: flow().log_prob(x), lambda n: flow().sample((n,))


def nflows(D: int) -> Peer:
    """Affine couplings of nflows under alternating masks, with a plain perceptron."""
    from nflows.distributions.normal import StandardNormal
    from nflows.flows.base import Flow
    from nflows.transforms import AffineCouplingTransform, CompositeTransform

    from gdm_course.nets import mlp

    class Net(nn.Module):
        def __init__(self, i: int, o: int):
            super().__init__()
            self.net = mlp((i, HIDDEN, HIDDEN, o), nn.ReLU)

        def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
            return self.net(x)

    layers = [
        AffineCouplingTransform((torch.arange(D) + k) % 2, Net) for k in range(LAYERS)
    ]
    flow = Flow(CompositeTransform(layers), StandardNormal([D]))
    return flow, flow.log_prob, flow.sample


def normflows(D: int) -> Peer:
    """Affine coupling blocks of normflows, its halves swapped in between."""
    import normflows as nf

    layers: list[nn.Module] = []
    for _ in range(LAYERS):
        net = nf.nets.MLP([D // 2, HIDDEN, HIDDEN, D], init_zeros=True)
        layers += [nf.flows.AffineCouplingBlock(net), nf.flows.Permute(D, mode="swap")]
    flow = nf.NormalizingFlow(nf.distributions.DiagGaussian(D, trainable=False), layers)
    return flow, flow.log_prob, lambda n: flow.sample(n)[0]


PEERS = {"zuko": zuko, "nflows": nflows, "normflows": normflows}


def works(peer: Peer, D: int) -> dict[str, Callable[[], object]]:
    """What is timed: a step on 512 points, log_prob and samples of 10,000."""
    model, log_prob, sample = peer
    x, many = torch.randn(512, D), torch.randn(10_000, D)
    log_prob(x)  # lazy parts are built
    optimizer = adam(model.parameters(), 1e-3)

    def step():
        optimizer.zero_grad(set_to_none=True)
        (-log_prob(x).mean()).backward()
        optimizer.step()

    evaluate = torch.no_grad()(lambda: log_prob(many))
    draw = torch.no_grad()(lambda: sample(10_000))
    return {"step of 512": step, "log_prob of 10,000": evaluate, "sample 10,000": draw}


def medians(rivals: dict[str, Callable[[], object]], repeat: int = 15) -> dict[str, float]:
    """Median seconds of each, all taking turns."""
    times: dict[str, list[float]] = {name: [] for name in rivals}
    for turn in range(repeat + 2):
        for name, work in rivals.items():
            start = time.perf_counter()
            work()
            if turn > 1:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def ratios() -> Iterator[Ratio]:
    """Every peer that is installed, in 2 and in 64 dimensions."""
    found = {n: make for n, make in PEERS.items() if importlib.util.find_spec(n)}
    if missing := sorted({*PEERS} - {*found}):
        print(f"not installed, so not compared: {', '.join(missing)}")
    for D in (2, 64):
        made = {name: works(make(D), D) for name, make in {"ours": ours, **found}.items()}
        for what in made["ours"]:
            seconds = medians({name: work[what] for name, work in made.items()})
            first = seconds.pop("ours")
            for name, other in seconds.items():
                title = f"RealNVP, {LAYERS} couplings, {D}-D, {what}"
                yield Ratio(title, first, other, name, goal=1.0)


if __name__ == "__main__":
    torch.manual_seed(0)
    print(table(list(ratios())))
