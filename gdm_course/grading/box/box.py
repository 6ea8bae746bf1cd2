"""One box: exchanges frames with its guest, keeps it within limits, ends it."""

import contextlib

from torch import Tensor

from gdm_course.grading.box.clock import Deadline
from gdm_course.grading.box.limits import Limits
from gdm_course.grading.box.line import Died, Line, TooLate, receive, send
from gdm_course.grading.box.start import Started
from gdm_course.grading.guest.wire import Malformed, encode

__all__ = ["Box", "Died", "TooLate"]


class Box(contextlib.AbstractContextManager):
    """A box with a guest in it, on some rung. `peak`: bytes of memory, once closed."""

    def __init__(self, started: Started, rung: str):
        self.rung, self.id, self.peak = rung, 0, 0
        self.limits = Limits(started)
        self.line = Line(started.streams, self.limits.look)

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def cpu(self) -> float:
        """Seconds of processors that it has used."""
        return self.limits.cpu

    def ready(self, seconds: float) -> None:
        """Wait until the guest has imported torch and sealed itself."""
        _check(receive(self.line, Deadline(seconds, lambda: self.cpu))[0], self.id)
        self.limits.impose(self.rung)

    def request(
        self, message: dict, arrays: list[Tensor], seconds: float
    ) -> tuple[dict, list[Tensor]]:
        """Send one frame and wait; Died, TooLate and Malformed end the use of this box."""
        deadline, self.id = Deadline(seconds, lambda: self.cpu), self.id + 1
        try:
            send(self.line, encode({"id": self.id, **message}, arrays), deadline)
            reply, found = receive(self.line, deadline)
        except Died as end:
            raise self.limits.means.why(end) from None
        return _check(reply, self.id), found

    def close(self) -> None:
        """End everything that was started in the box."""
        self.limits.end()
        self.peak = self.limits.peak
        self.line.close()


def _check(reply: dict, number: int) -> dict:
    if type(reply.get("id")) is not int or reply["id"] != number:
        raise Malformed("an answer to another question")
    if type(reply.get("ok")) is not bool:
        raise Malformed("an answer that is neither right nor wrong")
    return reply
