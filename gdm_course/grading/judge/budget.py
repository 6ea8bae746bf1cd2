"""The time that a submission may take, on a machine as fast as this one."""

import time
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Budget:
    """Seconds allowed on a machine of ordinary speed, as `clock.counted` counts them.

    Attributes:
        start: until the box is ready, before any line of the student's.
        load: all cells.
        ask: one call, beside twenty times what the reference takes.
        total: one submission.
        scale: how much slower this machine is; see `slowness`.
    """

    start: float = 60.0
    load: float = 40.0
    ask: float = 8.0
    total: float = 300.0
    scale: float = 1.0


def slowness() -> float:
    """How much slower than a quiet machine of 2023 this one is now: 1 to 5.

    From here on torch uses one thread: workers are forked from this process, and a judge
    gains nothing from more.
    """
    torch.set_num_threads(1)
    start, x = time.perf_counter(), torch.ones(64, 64)
    for _ in range(1_000):
        x = (x @ x).clamp(0, 1)
    return min(5.0, max(1.0, (time.perf_counter() - start) / 0.03))
