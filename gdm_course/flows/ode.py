"""Solvers of ordinary differential equations dx/dt = f(t, x), (2), written by hand.

A solver is called as `solver(f, x, times)` and returns the states at all times, the first
of which is x. Times may fall as well as rise; x is a tensor or a tuple of tensors:

    Fixed(rk4_step, steps=20)(f, x, (0.0, 1.0))[-1]
    DormandPrince(rtol=1e-7, atol=1e-7)(f, x, (1.0, 0.5, 0.0))

References:
    Hairer, Nørsett, Wanner (1993). Solving ordinary differential equations I, chapter II.
    Dormand, Prince (1980). A family of embedded Runge-Kutta formulae. J. Comp. Appl. Math.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise

import torch
from torch import Tensor

from gdm_course import validate

State = Tensor | tuple[Tensor, ...]
Field = Callable[[float, State], State]
Solver = Callable[[Field, State, Sequence[float]], list[State]]


def nudge(x: State, h: float, weights: Sequence[float], slopes: Sequence[State]) -> State:
    """Return x + h sum_i w_i k_i, for one tensor or a tuple of tensors."""
    if isinstance(x, tuple):
        parts = zip(x, zip(*slopes))
        return tuple(nudge(part, h, weights, ks) for part, ks in parts)
    for w, k in zip(weights, slopes):
        if w:
            x = torch.add(x, k, alpha=h * w)
    return x


def pendulum(friction: float = 0.1, push: float = 0.5) -> Field:
    """Make the field of a pushed pendulum, for trying solvers: (B, 2) -> (B, 2).

    The state is angle and angular velocity: (q, p)' = (p, push cos t - sin q - friction p).
    """

    def field(t: float, x: Tensor) -> Tensor:
        q, p = x.unbind(-1)
        return torch.stack([p, push * math.cos(t) - torch.sin(q) - friction * p], dim=-1)

    return field


def euler_step(f: Field, t: float, x: State, h: float) -> State:
    """Go straight on along the slope: x + h f(t, x), equation (1). Local error O(h^2)."""
    return nudge(x, h, [1.0], [f(t, x)])


def rk4_step(f: Field, t: float, x: State, h: float) -> State:
    """Average four slopes, the classical Runge-Kutta step (5). Local error O(h^5)."""
    k1 = f(t, x)
    k2 = f(t + h / 2, nudge(x, h / 2, [1.0], [k1]))
    k3 = f(t + h / 2, nudge(x, h / 2, [1.0], [k2]))
    k4 = f(t + h, nudge(x, h, [1.0], [k3]))
    return nudge(x, h, [1 / 6, 1 / 3, 1 / 3, 1 / 6], [k1, k2, k3, k4])


@dataclass(frozen=True)
class Fixed:
    """A solver with steps of equal length.

    Args:
        step: `euler_step` or `rk4_step`, or any (f, t, x, h) -> state after one step.
        steps: how many between two neighbouring times.
    """

    step: Callable[[Field, float, State, float], State] = rk4_step
    steps: int = 20

    def __post_init__(self):
        validate.at_least(1, steps=self.steps)

    def __call__(self, f: Field, x: State, times: Sequence[float]) -> list[State]:
        """Return the states at all times, the first of which is x."""
        states = [x]
        for t0, t1 in pairwise(times):
            h = (t1 - t0) / self.steps
            for i in range(self.steps):
                x = self.step(f, t0 + i * h, x, h)
            states.append(x)
        return states


# The six later stages of Dormand and Prince: when, and from which slopes. The last stage is
# the new point itself, so its slope is the first one of the next step.
NODES = (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
WEIGHTS = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
FOURTH = (5179 / 57600, 0, 7571 / 16695, 393 / 640, -92097 / 339200, 187 / 2100, 1 / 40)
ERROR = tuple(b - c for b, c in zip((*WEIGHTS[-1], 0.0), FOURTH))  # 5th minus 4th order


def dormand_prince_step(
    f: Field, t: float, x: State, h: float, k: State
) -> tuple[State, list[State]]:
    """Take one step of order 5 from x, whose slope k is known.

    Returns:
        The new state, and the seven slopes: the last is the new state's own.
    """
    slopes, new = [k], x
    for c, row in zip(NODES, WEIGHTS):
        new = nudge(x, h, row, slopes)
        slopes.append(f(t + c * h, new))
    return new, slopes


@torch.no_grad()
def norm(x: State, scales: Sequence[State], rtol: float, atol: float) -> float:
    """Measure x in tolerances: RMS of x / (atol + rtol |scale|), of the worst part.

    At every entry the largest of the scales counts.
    """
    each = []
    for part, *others in zip(x, *scales) if isinstance(x, tuple) else [(x, *scales)]:
        largest = reduce(torch.maximum, [other.abs() for other in others])
        squares = (part / (largest * rtol + atol)).square()
        each.append(squares.sum() / max(part.numel(), 1))
    return torch.stack(each).max().sqrt().item()  # max hands a nan on; Python's would not


@torch.no_grad()
def first_step(f: Field, t: float, x: State, k: State, end: float, *tol: float) -> float:
    """Guess the first step's length from x, its slope k and a short Euler step (Hairer)."""
    size, slope = norm(x, [x], *tol), norm(k, [x], *tol)
    h = 0.01 * max(size, 1.0) / max(slope, 1e-5)  # moves x by a hundredth of itself
    h = max(1e-6, min(h, abs(end - t) or h))
    forth = math.copysign(h, end - t)
    change = nudge(f(t + forth, nudge(x, forth, [1.0], [k])), -1.0, [1.0], [k])
    steepest = max(slope, norm(change, [x], *tol) / h, 1e-15)
    return min(100 * h, (0.01 / steepest) ** 0.2)


@dataclass(frozen=True)
class DormandPrince:
    """The adaptive solver: order 5, steps as long as an estimate of order 4 allows.

    Args:
        rtol, atol: relative, absolute error of a step. max_steps: from time to time.
    """

    rtol: float = 1e-7
    atol: float = 1e-7
    max_steps: int = 10_000

    def __call__(self, f: Field, x: State, times: Sequence[float]) -> list[State]:
        """Return the states at all times, the first of which is x."""
        k, states = f(times[0], x), [x]
        h = first_step(f, times[0], x, k, times[-1], self.rtol, self.atol)
        for t, end in pairwise(times):
            x, k, h = self.advance(f, t, x, k, h, end)
            states.append(x)
        return states

    def advance(self, f: Field, t: float, x: State, k: State, h: float, end: float):
        """Go from t to end, h the first length to try; return x and slope there, and h."""
        for _ in range(self.max_steps):
            last = h >= abs(end - t)
            now = end - t if last else math.copysign(h, end - t)
            new, slopes = dormand_prince_step(f, t, x, now, k)
            error = error_in_tolerances(x, new, now, slopes, self.rtol, self.atol)
            factor = min(10.0, max(0.2, 0.9 * max(error, 1e-10) ** -0.2))  # nan: 0.2
            if error <= 1:
                t, x, k = t + now, new, slopes[-1]
                if last:
                    return x, k, max(h, abs(now) * factor)
            h = abs(now) * factor
            if t + h == t:
                break
        raise FloatingPointError(
            f"DormandPrince gave up at t = {t:.6g} with a step of {h:.1e}: f is stiff or "
            "not finite there; raise rtol and atol, or tame f"
        )


@torch.no_grad()
def error_in_tolerances(
    x: State, new: State, h: float, slopes: Sequence[State], rtol: float, atol: float
) -> float:
    """Estimate a step's error in tolerances by 5th minus 4th order, (7); 1 may pass."""
    zero = nudge(x, -1.0, [1.0], [x])
    return norm(nudge(zero, h, ERROR, slopes), [x, new], rtol, atol)
