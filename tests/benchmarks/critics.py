"""What a distance costs: critics beside exact assignment, and each penalty's step.

`python -m tests.benchmarks.critics` prints both. The truth is known: between N(0, I) and
N(m, I) in the plane W1 = |m| = 1. An assignment of n samples has an error of chance, and a
bias; a critic has one of training. So each is shown with its mean absolute error.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial

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
REPEATS = 5


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


def distances() -> Iterator[tuple[str, float, float]]:
    """Yield what it is, CPU seconds of one estimate, and its mean absolute error."""
    cases: dict[str, Callable[[], float]] = {}
    for n in (100, 300):
        cases[f"assignment of {n}, ours"] = lambda n=n: dv.exact_w1(*pair(n)).item()
    for n in (100, 300, 1000):
        cases[f"assignment of {n}, scipy"] = lambda n=n: by_scipy(n)
    one_sided = partial(WGANGP, 2, one_sided=True, hidden=32)
    sorting = partial(SpectralGAN, 2, hidden=32)
    for steps in (50, 200):
        cases[f"one-sided critic, {steps} steps"] = partial(by_critic, one_sided, steps)
        cases[f"GroupSort critic, {steps} steps"] = partial(by_critic, sorting, steps)
    for name, estimate in cases.items():
        torch.manual_seed(0)
        began = time.process_time()
        off = [abs(estimate() - 1.0) for _ in range(REPEATS)]
        yield name, (time.process_time() - began) / REPEATS, sum(off) / REPEATS


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
    for name, seconds, error in distances():
        print(f"{name:32}{seconds:8.3f} s, off by {error:.3f}", flush=True)
    for name, milliseconds in steps_of_penalties():
        print(f"a step with {name:20}{milliseconds:8.1f} ms")
