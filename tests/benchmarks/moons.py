"""How fast MAF learns the two moons, against zuko's, and what its layer owes that to.

Six layers with networks of 64 x 64, batches of 512 fresh points, Adam with a rate of 1e-3;
all see the same points. `python -m tests.benchmarks.moons` prints nats of test data after
500 and 1,000 steps (the entropy is 0.291): about a minute a line. Names of lines choose.
"""

import statistics
import sys
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from gdm_course.data import toy
from gdm_course.flows.flow import Flow
from gdm_course.flows.maf import MAF, AffineAutoregressive, IntoTheBox, alternate
from gdm_course.nets import zero_last
from gdm_course.training import adam, generator

LAYERS, HIDDEN, B, SEEDS, AT = 6, (64, 64), 512, range(3), (500, 1000)
Made = tuple[nn.Module, Callable[[Tensor], Tensor]]


class CutOff(AffineAutoregressive):
    """As ours, but log sigma is cut off hard."""

    def read(self, c: Tensor) -> tuple[Tensor, Tensor]:
        """Return the shift and the scale, cut off at 5."""
        return c[..., 0], c[..., 1].clamp(-5, 5)


class SaysMu(AffineAutoregressive):
    """As ours, but it says mu, not the shift."""

    def read(self, c: Tensor) -> tuple[Tensor, Tensor]:
        """Return the shift that mu makes, and the scale."""
        mu, log_slope = super().read(c)
        return -mu * log_slope.exp(), log_slope


def stack(layer: type[nn.Module], zero: bool = False) -> Made:
    """A flow of such layers, the last weights of whose networks are 0 at first, or not."""
    maps = [layer(2, hidden=HIDDEN) for _ in range(LAYERS)]
    for each in maps:
        if zero:
            zero_last(each.net)
    flow = Flow(alternate(maps), (2,))
    return flow, flow.log_prob


def ours() -> Made:
    """The course's own."""
    flow = MAF(2, layers=LAYERS, hidden=HIDDEN)
    return flow, flow.log_prob


def zuko() -> Made:
    """Zuko's, if it is installed."""
    from zuko.flows import MAF as Theirs

    flow = Theirs(2, transforms=LAYERS, hidden_features=HIDDEN)
    return flow, lambda x: flow().log_prob(x)


@torch.no_grad()
def take_over(theirs: nn.Module, flow: nn.Module) -> None:
    """Give our flow the weights of zuko's.

    Every second layer of theirs runs through the dimensions backwards, where we turn the
    dimensions round in between: its first columns and its last rows change places.
    """
    parts = [part for part in flow.modules() if isinstance(part, AffineAutoregressive)]
    for own, other in zip(flow.parameters(), theirs.parameters(), strict=True):
        own.copy_(other)
    for part in parts[1::2]:
        first, *_, last = part.net.layers
        first.weight.copy_(first.weight.flip(1))
        for numbers in (last.weight, last.bias):
            numbers.copy_(numbers.unflatten(0, (2, 2)).flip(0).flatten(0, 1))


def ours_from_zuko() -> Made:
    """The course's own, with the first weights that zuko draws from the same seed."""
    made, (theirs, _) = ours(), zuko()
    take_over(theirs, made[0])
    return made


RIVALS: dict[str, Callable[[], Made]] = {
    "ours": ours,
    "zuko": zuko,
    "ours, zuko's first weights": ours_from_zuko,
    "ours, 0 at first": lambda: stack(AffineAutoregressive, zero=True),
    "ours, cut off hard": lambda: stack(CutOff),
    "ours, says mu": lambda: stack(SaysMu),
    "all: as until 2026-11-28": lambda: stack(IntoTheBox),
}


def learn(make: Callable[[], Made], seed: int) -> Iterator[float]:
    """Train; yield the nats of the same 20,000 test points at each of the steps AT."""
    moons = toy.get("two_moons")
    test = moons.sample(20_000, generator(12345)).float()
    torch.manual_seed(seed)
    model, log_prob = make()
    log_prob(test[:4])  # lazy parts are built
    g, optimizer = generator(1000 + seed), adam(model.parameters(), 1e-3)
    for step in range(1, max(AT) + 1):
        optimizer.zero_grad(set_to_none=True)
        (-log_prob(moons.sample(B, g).float()).mean()).backward()
        optimizer.step()
        if step in AT:
            with torch.no_grad():
                yield -log_prob(test).mean().item()


def line(name: str) -> str:
    """One rival's nats for every seed, and their mean."""
    rows = zip(AT, zip(*(learn(RIVALS[name], seed) for seed in SEEDS)))
    told = f"{name:32s}"
    for at, nats in rows:
        told += f"after {at}: {' '.join(f'{x:.3f}' for x in nats)}"
        told += f", mean {statistics.mean(nats):.3f}; "
    return told


if __name__ == "__main__":
    for chosen in sys.argv[1:] or RIVALS:
        print(line(chosen), flush=True)
