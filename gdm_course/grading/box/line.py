"""Frames over a box's descriptors, with deadlines; a guard looks on at every turn."""

import os
import selectors
import time
from collections.abc import Callable

from torch import Tensor

from gdm_course.grading.box.clock import Deadline
from gdm_course.grading.guest.wire import decode, frame_length

MIB = 1024 * 1024
MAX_OUTPUT = 64 * MIB  # all is thrown away but its end; more than this is a flood
TICK = 0.1  # seconds between two looks


class Died(Exception):
    """The box ended, or was ended because it passed a limit."""


class TooLate(Exception):
    """No answer within the time allowed."""


class Line:
    """To the guest, from it, what it prints: three descriptors that never block.

    `look` is called ten times a second; it raises `Died` when a limit is passed.
    """

    def __init__(self, streams: tuple[int, int, int], look: Callable[[], None]):
        self.to, self.coming, self.errors = self.streams = streams
        self.look, self.next_look = look, 0.0
        self.said, self.tail = 0, b""
        self.selector = selectors.DefaultSelector()
        for stream in streams:
            os.set_blocking(stream, False)
        for stream in streams[1:]:
            self.selector.register(stream, selectors.EVENT_READ)

    def wait(self, deadline: Deadline) -> set[int]:
        """Wait for one tick; look at output, limits and the clock."""
        ready = {key.fd for key, _ in self.selector.select(TICK)}
        if self.errors in ready:
            self._hear(os.read(self.errors, 1 << 16))
        if (now := time.monotonic()) > self.next_look:
            self.look()
            self.next_look = now + TICK
        if deadline.passed():
            raise TooLate("no answer in time")
        return ready

    def _hear(self, part: bytes) -> None:
        if not part:
            self.selector.unregister(self.errors)
        self.said, self.tail = self.said + len(part), (self.tail + part)[-2000:]
        if self.said > MAX_OUTPUT:
            raise Died(f"more than {MAX_OUTPUT // MIB} MiB of output")

    def close(self) -> None:
        """Close all three."""
        self.selector.close()
        for stream in self.streams:
            os.close(stream)


def send(line: Line, data: bytes, deadline: Deadline) -> None:
    """Write a frame, as fast as the guest reads it."""
    rest = memoryview(data)
    line.selector.register(line.to, selectors.EVENT_WRITE)
    try:
        while rest:
            if line.to in line.wait(deadline):
                rest = rest[os.write(line.to, rest[: 1 << 16]) :]
    except (BrokenPipeError, BlockingIOError):
        raise Died("the process ended") from None
    finally:
        line.selector.unregister(line.to)


def receive(line: Line, deadline: Deadline) -> tuple[dict, list[Tensor]]:
    """Read a frame; no byte is read past what a frame may have."""
    data, wanted = bytearray(), 8
    while len(data) < wanted:
        if line.coming not in line.wait(deadline):
            continue
        part = os.read(line.coming, min(wanted - len(data), 1 << 20))
        if not part:
            raise Died("the process ended")
        data += part
        if wanted == 8 and len(data) == 8:
            wanted = 8 + frame_length(bytes(data))
    return decode(bytes(data[8:]))
