"""One box: exchanges frames with its guest, keeps it within limits, ends it."""

import contextlib
import time
from typing import Any

from torch import Tensor

from gdm_course.grading import watch
from gdm_course.grading.line import MIB, Died, Line, TooLate, receive, send
from gdm_course.grading.start import Cold, Warm
from gdm_course.grading.wire import Malformed, encode

__all__ = ["Box", "Died", "TooLate"]

MAX_MEMORY, MAX_FILES = 2048 * MIB, 60_000


class Box:
    """A box with a guest in it, on some rung. As a context manager nothing survives it."""

    def __init__(self, started: Cold | Warm, rung: str):
        self.started, self.rung = started, rung
        self.peak = self.id = 0
        self.line = Line(started.streams, self._look)

    def __enter__(self) -> "Box":
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()

    def ready(self, seconds: float) -> None:
        """Wait until the guest has imported torch and sealed itself."""
        _check(receive(self.line, time.monotonic() + seconds)[0], self.id)

    def request(
        self, message: dict, arrays: list[Tensor], seconds: float
    ) -> tuple[dict, list[Tensor]]:
        """Send one frame and wait; Died, TooLate and Malformed end the use of this box."""
        deadline, self.id = time.monotonic() + seconds, self.id + 1
        send(self.line, encode({"id": self.id, **message}, arrays), deadline)
        reply, found = receive(self.line, deadline)
        return _check(reply, self.id), found

    def _look(self) -> None:
        self.peak = max(self.peak, _within_limits(self.started.members()))

    def close(self) -> None:
        """End everything that was started in the box."""
        with contextlib.suppress(Died, OSError):
            self._look()
        self.started.end()
        self.line.close()


def _check(reply: dict, number: int) -> dict:
    if type(reply.get("id")) is not int or reply["id"] != number:
        raise Malformed("an answer to another question")
    if type(reply.get("ok")) is not bool:
        raise Malformed("an answer that is neither right nor wrong")
    return reply


def _within_limits(members: list[int]) -> int:
    """The memory in use, in bytes.

    Raises:
        Died: too much of it, or too many files.
    """
    used = watch.memory(members, MAX_MEMORY)
    if used > MAX_MEMORY:
        raise Died(f"more than {MAX_MEMORY // MIB} MiB of memory")
    if watch.files(members) > MAX_FILES:
        raise Died(f"more than {MAX_FILES} files")
    return used
