"""Time that counts against a submission: its own processor seconds, not its neighbours'.

On a busy machine a box waits for a processor. What it waits is not its fault, up to
`PATIENCE` times the seconds that it is allowed.
"""

import time
from collections.abc import Callable

PATIENCE = 4.0
now = time.monotonic


def counted(wall: float, cpu: float) -> float:
    """Seconds that count, of seconds passed and seconds of processors used.

    More than one busy process does not count more than the clock on the wall; one that
    sleeps counts a share of it, so that everything ends.
    """
    return min(wall, max(cpu, wall / PATIENCE))


class Deadline:
    """So many counted seconds from now.

    Args:
        seconds: allowed.
        cpu: the processor seconds that the box has used so far, when called.
    """

    def __init__(self, seconds: float, cpu: Callable[[], float]):
        self.seconds, self.cpu = seconds, cpu
        self.begun, self.used = now(), cpu()

    def passed(self) -> bool:
        """Whether the time is over."""
        wall = now() - self.begun
        return wall > self.seconds and counted(wall, self.cpu() - self.used) > self.seconds
