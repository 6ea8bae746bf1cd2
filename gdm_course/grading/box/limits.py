"""What a box may use: by the kernel's limits where we may set them, else by looking on."""

import contextlib
from pathlib import Path

from gdm_course.grading.box import cgroup, watch
from gdm_course.grading.box.line import MIB, Died
from gdm_course.grading.box.memory import Gauge, TooMuch
from gdm_course.grading.box.start import Started
from gdm_course.grading.box.weights import Weights

MAX_MEMORY, MAX_FILES, MAX_PROCESSES = 2048 * MIB, 60_000, 100
TOO_MUCH = f"more than {MAX_MEMORY // MIB} MiB of memory"
ELSEWHERE = {"Lc"}  # the container's engine limits these boxes


class Limits:
    """The limits of one box, and what it has used.

    Attributes:
        peak: the highest use of memory, in bytes.
        cpu: seconds of processors.
    """

    def __init__(self, started: Started):
        self.started, self.peak, self.cpu = started, 0, 0.0
        self.means: Counted | Grouped = Counted()

    def impose(self, rung: str) -> None:
        """Before any line of the student's runs: let the kernel do it, if it will."""
        members = self.started.members()
        _go_first(members)
        if rung not in ELSEWHERE:
            group = cgroup.group(members, MAX_MEMORY, MAX_PROCESSES)
            self.means = Grouped(group) if group is not None else self.means

    def look(self) -> None:
        """Ten times a second. Raises Died: it uses too much of something."""
        seen = self.started.seen()
        members = self.started.of(seen)
        self.cpu = max(self.cpu, sum(one.cpu for one in seen), self.means.cpu())
        self.peak = max(self.peak, self.means.memory(members))
        if watch.files([one.pid for one in members]) > MAX_FILES:
            raise Died(f"more than {MAX_FILES} files")

    def end(self) -> None:
        """Look for the last time, then kill all that is in it."""
        with contextlib.suppress(Died, OSError):
            self.look()
        self.means.kill()
        self.started.end()
        self.means.close()


def _go_first(members: list[int]) -> None:
    """Should the machine's memory end, then the kernel ends boxes, and no judge."""
    for member in members:
        with contextlib.suppress(OSError):
            Path(f"/proc/{member}/oom_score_adj").write_text("1000")


class Counted:
    """Limits of a box that the judge looks after."""

    def __init__(self) -> None:
        self.gauge, self.weights = Gauge(MAX_MEMORY), Weights()

    def cpu(self) -> float:
        """Nothing is known but what its processes show."""
        return 0.0

    def memory(self, members: list[watch.Seen]) -> int:
        """Bytes in use.

        Raises:
            Died: too much, twice in a row: a process that starts another one counts
                double for a moment.
        """
        self.weights.look(members)
        pids = [one.pid for one in members]
        try:
            used = self.gauge.read(pids)
            if used > MAX_MEMORY and self.gauge.read(pids) > MAX_MEMORY:
                raise Died(TOO_MUCH)
        except TooMuch as error:
            raise Died(str(error)) from None
        return used

    def why(self, end: Died) -> Died:
        """Why the box has died, if somebody knows better."""
        return end

    def kill(self) -> None:
        """Left to who started it."""

    def close(self) -> None:
        """Nothing was made."""


class Grouped(Counted):
    """Limits of a box that the kernel looks after."""

    def __init__(self, group: cgroup.Group):
        self.group = group
        self.weights = None if cgroup.weighs(group) else Weights()

    def cpu(self) -> float:
        """Seconds of all that was ever in it."""
        return cgroup.cpu(self.group)

    def memory(self, members: list[watch.Seen]) -> int:
        """Bytes in use: never more than the limit."""
        if self.weights is not None:
            self.weights.look(members)
        return cgroup.memory(self.group)

    def why(self, end: Died) -> Died:
        """The kernel may have ended it for want of memory."""
        return Died(TOO_MUCH) if cgroup.overflowed(self.group) else end

    def kill(self) -> None:
        """At once, whatever it forks."""
        self.group.kill()

    def close(self) -> None:
        """Remove the group."""
        self.group.close()
