"""What a distance costs: critics beside exact assignment, and each penalty's step.

`python -m tests.benchmarks.critics` prints both; `pip install POT` adds its solver to
those of scipy and ours. The truth is known: between N(0, I) and N(m, I) in the plane W1 is
|m| = 1. An assignment of n samples has an error of chance, and a bias; a critic has one of
training. So each is shown with its mean absolute error, and each critic beside the quickest
assignment that is off by no more.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from gdm_course import divergences as dv
from gdm_course.gan.dcgan import DCGAN
from gdm_course.gan.gan import train_gan
from gdm_course.gan.spectral import SpectralGAN
from gdm_course.gan.wgan import WGAN, WGANGP
from gdm_course.training import forever

SHIFT = torch.tensor([0.6, 0.8])
REPEATS = 10


@dataclass(frozen=True)
class Row:
    """One way to the distance: CPU seconds of an estimate, and its mean absolute error."""

    name: str
    critic: bool
    seconds: float
    error: float

    def __str__(self):
        many = f"{1 / self.seconds:.3g} a second"
        return f"{self.name} ({many}, off by {self.error:.3f})"


def pair(n: int) -> tuple[Tensor, Tensor]:
    """Draw n points of each law."""
    return torch.randn(n, 2) + SHIFT, torch.randn(n, 2)


def by_scipy(n: int) -> float:
    """Exact assignment by scipy: a library's solver, in compiled code."""
    cost = torch.cdist(*pair(n)).double().numpy()
    return float(cost[linear_sum_assignment(cost)].mean())


def by_critic(make: Callable[[], WGAN], steps: int) -> float:
    """Train a critic on fresh points, and let it say the distance on 4,000 others."""
    gan = make()
    adam = torch.optim.Adam(gan.discriminator.parameters(), 5e-3, (0.0, 0.99))
    for step in range(steps):
        adam.param_groups[0]["lr"] = 5e-3 * (1 - step / steps)
        adam.zero_grad()
        gan.critic_loss(*pair(128)).backward()
        adam.step()
    x, y = pair(4000)
    return (gan.discriminate(x).mean() - gan.discriminate(y).mean()).item()


def by_pot(n: int) -> float:
    """Exact assignment by POT's network simplex."""
    import ot

    x, y = (points.double().numpy() for points in pair(n))
    return float(ot.emd2([], [], ot.dist(x, y, "euclidean"), numItermax=10**7))


def assignments() -> Iterator[tuple[str, Callable[[], float]]]:
    """Yield every solver that is here, with sizes from quick to exact."""
    for n in (100, 300):
        yield f"assignment of {n}, ours", lambda n=n: dv.exact_w1(*pair(n)).item()
    solvers = {"scipy": by_scipy} | ({"POT": by_pot} if find_spec("ot") else {})
    for name, solve in solvers.items():
        for n in (100, 300, 1000):
            yield f"assignment of {n}, {name}", partial(solve, n)


def critics() -> Iterator[tuple[str, Callable[[], float]]]:
    """Yield two critics that come near, trained briefly and for longer."""
    one_sided = partial(WGANGP, 2, one_sided=True, hidden=32)
    sorting = partial(SpectralGAN, 2, hidden=32)
    for steps in (50, 200, 800):
        yield f"one-sided critic, {steps} steps", partial(by_critic, one_sided, steps)
        yield f"GroupSort critic, {steps} steps", partial(by_critic, sorting, steps)


def distances() -> Iterator[Row]:
    """Measure every way, each from the same seed."""
    for trained, ways in ((False, assignments()), (True, critics())):
        for name, estimate in ways:
            estimate()  # the first call imports
            torch.manual_seed(0)
            began = time.process_time()
            off = [abs(estimate() - 1.0) for _ in range(REPEATS)]
            seconds = (time.process_time() - began) / REPEATS
            yield Row(name, trained, seconds, sum(off) / REPEATS)


def at_equal_error(rows: list[Row]) -> Iterator[str]:
    """Put beside each critic the quickest assignment that is off by no more."""
    for row in (row for row in rows if row.critic):
        good = [r for r in rows if not r.critic and r.error <= row.error]
        if not good:
            yield f"{row}: no assignment here is off by so little"
            continue
        best = min(good, key=lambda r: r.seconds)
        yield f"{row}: {row.seconds / best.seconds:.2g} times the time of {best}"


def steps_of_penalties() -> Iterator[tuple[str, float]]:
    """Yield the CPU milliseconds of a step of a DCGAN for digits, penalty by penalty."""
    x = torch.randn(320, 1, 8, 8).clamp(-1, 1)
    for name, r1, r2 in (("none", 0, 0), ("R1", 1, 0), ("R1 and R2", 1, 1)):
        gan, best = DCGAN((1, 8, 8), width=24, r1=r1, r2=r2), float("inf")
        for _ in range(REPEATS):
            began = time.process_time()
            for _ in train_gan(gan, forever(x, 32), 10):
                pass
            best = min(best, time.process_time() - began)
        yield name, best * 100


if __name__ == "__main__":
    rows = []
    for row in distances():
        rows.append(row)
        print(f"{row.name:32}{row.seconds:8.4f} s, off by {row.error:.3f}", flush=True)
    print(*at_equal_error(rows), sep="\n")
    for name, milliseconds in steps_of_penalties():
        print(f"a step with {name:20}{milliseconds:8.1f} ms")
