"""One box: exchanges frames with its guest, keeps it within limits, ends it."""

import contextlib
from pathlib import Path
from typing import Any

from torch import Tensor

from gdm_course.grading import cgroup, watch
from gdm_course.grading.cgroup import Group
from gdm_course.grading.clock import Deadline
from gdm_course.grading.line import MIB, Died, Line, TooLate, receive, send
from gdm_course.grading.memory import Gauge, TooMuch
from gdm_course.grading.start import Cold, Warm
from gdm_course.grading.weights import Weights
from gdm_course.grading.wire import Malformed, encode

__all__ = ["Box", "Died", "TooLate"]

MAX_MEMORY, MAX_FILES, MAX_PROCESSES = 2048 * MIB, 60_000, 100
TOO_MUCH = f"more than {MAX_MEMORY // MIB} MiB of memory"
LIMITED_ELSEWHERE = {"Lc"}  # by the container's engine


class Box:
    """A box with a guest in it, on some rung. As a context manager nothing survives it.

    Attributes:
        peak: the highest use of memory, in bytes.
        cpu: seconds of processors that it has used.
    """

    def __init__(self, started: Cold | Warm, rung: str):
        self.started, self.rung = started, rung
        self.peak = self.id = 0
        self.cpu = 0.0
        self.gauge, self.weights = Gauge(MAX_MEMORY), Weights()
        self.group: Group | None = None
        self.line = Line(started.streams, self._look)

    def __enter__(self) -> "Box":
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()

    def ready(self, seconds: float) -> None:
        """Wait until the guest has imported torch and sealed itself."""
        _check(receive(self.line, self._deadline(seconds))[0], self.id)
        if self.rung not in LIMITED_ELSEWHERE:
            self._limit()

    def _limit(self) -> None:
        """Before any line of the student's: the kernel's limits, where we may set them."""
        members = self.started.members()
        for member in members:  # if memory runs out all the same, then not a judge's
            with contextlib.suppress(OSError):
                Path(f"/proc/{member}/oom_score_adj").write_text("1000")
        if (group := cgroup.group(MAX_MEMORY, MAX_PROCESSES)) is not None:
            try:
                group.take(members)
                self.group = group
            except OSError:
                group.close()

    def request(
        self, message: dict, arrays: list[Tensor], seconds: float
    ) -> tuple[dict, list[Tensor]]:
        """Send one frame and wait; Died, TooLate and Malformed end the use of this box."""
        deadline, self.id = self._deadline(seconds), self.id + 1
        try:
            send(self.line, encode({"id": self.id, **message}, arrays), deadline)
            reply, found = receive(self.line, deadline)
        except Died:
            if self.group is not None and self.group.overflowed():
                raise Died(TOO_MUCH) from None
            raise
        return _check(reply, self.id), found

    def _deadline(self, seconds: float) -> Deadline:
        return Deadline(seconds, lambda: self.cpu)

    def _look(self) -> None:
        """Ten times a second: what it uses, and whether that is too much."""
        seen = self.started.seen()
        members = self.started.of(seen)
        pids = [one.pid for one in members]
        self.cpu = max(self.cpu, sum(one.cpu for one in seen))
        if self.group is None or not self.group.weighs:
            self.weights.look(members)
        if self.group is None:
            used = _counted(self.gauge, pids)
        else:
            used, self.cpu = self.group.memory(), max(self.cpu, self.group.cpu())
        self.peak = max(self.peak, used)
        if watch.files(pids) > MAX_FILES:
            raise Died(f"more than {MAX_FILES} files")

    def close(self) -> None:
        """End everything that was started in the box."""
        with contextlib.suppress(Died, OSError):
            self._look()
        if self.group is not None:
            self.group.end()
        self.started.end()
        self.line.close()
        if self.group is not None:
            self.group.close()


def _check(reply: dict, number: int) -> dict:
    if type(reply.get("id")) is not int or reply["id"] != number:
        raise Malformed("an answer to another question")
    if type(reply.get("ok")) is not bool:
        raise Malformed("an answer that is neither right nor wrong")
    return reply


def _counted(gauge: Gauge, members: list[int]) -> int:
    """The memory in use, in bytes, where the kernel does not limit it.

    Raises:
        Died: too much of it, twice in a row: a process that starts another one counts
            double for a moment.
    """
    try:
        used = gauge.read(members)
        if used > MAX_MEMORY and gauge.read(members) > MAX_MEMORY:
            raise Died(TOO_MUCH)
    except TooMuch as error:
        raise Died(str(error)) from None
    return used
