"""What a comparison needs: equal CPU seconds, a count of evaluations, and fair figures.

A contestant is one model of a family with what has to be known to treat it like the others:
how codes become what it takes, and what it draws becomes codes again.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gdm_course.evaluation.likelihood import Estimate, device_of, portions
from gdm_course.learning import evaluating
from gdm_course.protocols import Density, abilities

Fall = Callable[[int], float]  # from the step to the share of the learning rate


@dataclass(frozen=True)
class Contestant:
    """A model that has not been trained yet, and how it is trained, asked and drawn from.

    Attributes:
        family, model: who it is.
        loop: (codes (N, 64), fall) -> an iterator that takes a step each time.
        shown: codes (B, 64) -> what the model takes.
        draw: n -> what the model draws.
        codes: what it draws -> codes (n, 64).
        draws: of the noise or of z for one bound, see `nats`.
        ear: (object, name) of the methods whose calls are evaluations of a network.
        after: called once at the end of the training.
    """

    family: str
    model: nn.Module
    loop: Callable[[Tensor, Fall], Iterator]
    shown: Callable[[Tensor], Tensor]
    draw: Callable[[int], Tensor]
    codes: Callable[[Tensor], Tensor]
    draws: int = 1
    ear: tuple[tuple[object, str], ...] = ()
    after: Callable[[], object] = field(default=lambda: None)

    @property
    def says(self) -> str:
        """What it knows of log P: an exact value, a bound, or none."""
        if isinstance(self.model, Density):
            return "exact"
        return "bound" if hasattr(self.model, "elbo") else "none"

    def pictures(self, n: int) -> Tensor:
        """Draw n pictures as codes (n, 1, 8, 8), uint8."""
        with evaluating(self.model), torch.no_grad():
            codes = self.codes(self.draw(n))
        return codes.round().clamp(0, 16).to(torch.uint8).view(n, 1, 8, 8)


def for_seconds(
    loop: Callable[[Fall], Iterable], seconds: float, clock: Callable = time.process_time
) -> tuple[int, float]:
    """Train until so many CPU seconds are spent, while the rate falls to 0 in a line.

    Args:
        loop: takes `fall`, the share of the learning rate that is left, and yields once
            per step.
        seconds: of the processor, all threads together: not those of the wall clock.
        clock: tells the seconds that this process has used.

    Returns:
        The number of steps, and the seconds that they took.
    """
    began = clock()
    steps, left = 0, lambda _step=0: max(0.0, 1 - (clock() - began) / seconds)
    for _ in loop(left):
        steps += 1
        if left() == 0:
            break
    return steps, clock() - began


class Count(NamedTuple):
    """Evaluations of the networks per example, and how many had to wait for another."""

    each: float
    calls: int


@contextmanager
def counted(ear: Iterable[tuple[object, str]], tally: list[int]) -> Iterator[None]:
    """Append to `tally` the rows of every call of the methods (object, name)."""
    ear = [*ear]

    def listening(method: Callable) -> Callable:
        def call(x: Tensor, *more, **names):
            tally.append(len(x))
            return method(x, *more, **names)

        return call

    for thing, name in ear:
        object.__setattr__(thing, name, listening(getattr(thing, name)))
    try:
        yield
    finally:
        for thing, name in ear:
            object.__delattr__(thing, name)


def evaluations(
    ear: Iterable[tuple[object, str]], call: Callable[[], object], n: int
) -> Count:
    """Count what one call asks of the networks, for each of the n examples in it."""
    tally: list[int] = []
    with counted(ear, tally):
        call()
    return Count(sum(tally) / n, len(tally))


@torch.no_grad()
def nats(who: Contestant, x: Tensor, batch: int = 256) -> Tensor:
    """Return -log P of codes (N, 64) in nats, or its upper bound: (N,) float64.

    A bound of several draws is log mean exp of them if the model has `iwae`, which is
    tighter; else, for a chain whose draws each look at one step, their mean.

    Raises:
        TypeError: it knows neither.
    """
    model, parts = who.model, []
    if who.says == "none":
        name = type(model).__name__
        raise TypeError(f"{name} has neither log_prob nor elbo: it says no likelihood")
    with evaluating(model):
        for (rows,) in portions(who.shown(x), batch, device_of(model)):
            if who.says == "exact":
                log_p = model.log_prob(rows)
            elif hasattr(model, "iwae"):
                log_p = model.iwae(rows, who.draws)
            else:
                log_p = torch.stack([model.elbo(rows) for _ in range(who.draws)]).mean(0)
            parts.append(-log_p.double())
    return torch.cat(parts)


def paired(a: Tensor, b: Tensor) -> Estimate:
    """Return the mean of a - b over the same examples (N,), and its standard error."""
    gap = a.double() - b.double()
    return Estimate(gap.mean().item(), (gap.std() / len(gap) ** 0.5).item())


def pareto(*costs: Iterable[float]) -> list[bool]:
    """Say for each model whether no other is at least as good in all, and better in one.

    Args:
        costs: lists of N figures, lower is better.
    """
    points = [*zip(*costs, strict=True)]

    def better(a: tuple, b: tuple) -> bool:
        return all(x <= y for x, y in zip(a, b)) and a != b

    return [not any(better(other, point) for other in points) for point in points]


def exercised(model: nn.Module, x: Tensor) -> dict[str, bool]:
    """Return `abilities`, each one used: what is claimed works, what is not refuses.

    Raises:
        AssertionError: a claim is not kept, or an ability is there that nobody claims.
    """
    uses = {"Sampler": "sample", "Trainable": "loss", "Density": "log_prob"}
    wants = {"Sampler": (3,), "Trainable": (), "Density": (len(x),)}
    claims = abilities(model)
    for protocol, name in uses.items():
        try:
            given = getattr(model, name)(3 if name == "sample" else x)
        except AttributeError:
            assert not claims[protocol], f"{name} of {type(model).__name__} fails"
            continue
        assert claims[protocol], f"{type(model).__name__} has a {name} without a claim"
        assert given.shape[: len(wants[protocol])] == wants[protocol], name
        assert given.double().isfinite().all(), f"{name} is not finite"
    return claims
