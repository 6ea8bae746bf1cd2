"""Training steps that keep freed memory, as `gdm_course.memory` has it, and that do not.

Each is a process of its own, since the allocator is told once. The other one carries an
unrelated variable that starts with MALLOC_: `gdm_course` leaves the allocator alone then.
`python -m tests.benchmarks.memory` prints the table.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

import torch

from gdm_course.autoregressive.made import MADE
from gdm_course.diffusion.unet import ImageDDPM
from tests.benchmarks.gpt import step_of
from tests.benchmarks.harness import Ratio, table


def unet() -> float:
    """Seconds of a step on 64 pictures of MNIST's size, by the U-Net of ddpm-mnist-cpu."""
    model = ImageDDPM((1, 28, 28), 256, width=16, mult=(1, 2, 2))
    x = torch.randint(256, (64, 1, 28, 28))
    return seconds(step_of(model, lambda: model.loss(x)), 9)


def made() -> float:
    """Seconds of a step of MADE 784-500-784 on 100 rows."""
    model, x = MADE(784, hidden=(500,)), torch.randint(2, (100, 784)).float()
    return seconds(step_of(model, lambda: model.loss(x)), 101)


WORK = {"U-Net, 64 of 28 x 28": unet, "MADE 784-500-784, 100 rows": made}


def seconds(step, repeat: int) -> float:
    """Median seconds of a step, the first one left out."""
    times = []
    for _ in range(repeat + 1):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def apart(name: str, extra: dict[str, str]) -> float:
    """Run a piece of work in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.memory", name]
    done = subprocess.run(
        command, env=os.environ | extra, capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def ratios(turns: int = 3) -> Iterator[Ratio]:
    """Take turns, as everywhere."""
    for name in WORK:
        ours, other = [], []
        for _ in range(turns):
            ours.append(apart(name, {}))
            other.append(apart(name, {"MALLOC_ARENA_MAX": "64"}))
        medians = statistics.median(ours), statistics.median(other)
        yield Ratio(f"{name}, a step", *medians, "freed memory goes back", 1)


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(WORK[sys.argv[1]]() if len(sys.argv) > 1 else table(list(ratios())))
