"""A box gets the processor time of one busy process, however many it has.

The judge lowers the priority of all of them: n processes of niceness 5 log n, about, get as
much as one of niceness 0. Where Linux groups processes by session, it weighs sessions.
"""

import contextlib
import math
import os
from collections import deque
from pathlib import Path

from gdm_course.grading.box.watch import Seen, look

STEP = math.log(1.25)  # of a process's share, per unit of niceness
LOWEST = 19
LOOKS = 10  # a second: who is busy for a moment only does not count


class Weights:
    """The priority of one box, below the judge's own; it only ever falls.

    An ordinary user could not raise it again.
    """

    def __init__(self) -> None:
        self.nice, self.base = 0, os.getpriority(os.PRIO_PROCESS, 0)
        self.counts = deque([0] * LOOKS, maxlen=LOOKS)

    def look(self, members: list[Seen]) -> None:
        """Count who is busy, and see to it that all together weigh as one."""
        tasks = [task for member in members for task in _tasks(member)]
        busy = [task for task in tasks if task.state == "R"]
        if by_session():
            busy = [*{task.session: task for task in busy}.values()]
        self.counts.append(len(busy))
        self.nice = max(self.nice, niceness(sum(self.counts) / LOOKS))
        for task in tasks if self.nice else ():
            _lower(task, min(LOWEST, self.base + self.nice), self.nice)


def niceness(n: float) -> int:
    """What makes n busy processes weigh as one of niceness 0."""
    return min(LOWEST, math.ceil(math.log(n) / STEP)) if n > 1 else 0


def by_session() -> bool:
    """Whether the kernel shares the processor among sessions first."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/sched_autogroup_enabled").read_bytes()[:1] == b"1"
    return False


def _tasks(member: Seen) -> list[Seen]:
    """A process, or its threads if it has several."""
    if member.threads < 2:
        return [member]
    with contextlib.suppress(OSError):
        found = map(look, os.listdir(f"/proc/{member.pid}/task"))
        return [task for task in found if task is not None]
    return []


def _lower(task: Seen, nice: int, of_session: int) -> None:
    with contextlib.suppress(OSError):
        if os.getpriority(os.PRIO_PROCESS, task.pid) < nice:
            os.setpriority(os.PRIO_PROCESS, task.pid, nice)
        if by_session():
            group = Path(f"/proc/{task.pid}/autogroup")
            if int(group.read_text().split()[-1]) < of_session:
                group.write_text(str(of_session))
