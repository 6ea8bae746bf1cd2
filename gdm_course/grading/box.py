"""One box: starts it on a rung, exchanges frames with deadlines, watches it, ends it."""

import contextlib
import os
import selectors
import time
from typing import Any

from torch import Tensor

from gdm_course.grading import watch
from gdm_course.grading.start import Cold, Warm
from gdm_course.grading.wire import Malformed, decode, encode, frame_length

MIB = 1024 * 1024
MAX_OUTPUT, MAX_MEMORY, MAX_FILES = 2 * MIB, 2048 * MIB, 50_000
TICK = 0.1  # seconds between two looks at memory and files


class Died(Exception):
    """The box ended, or was ended because it passed a limit."""


class TooLate(Exception):
    """No answer within the time allowed."""


class Box:
    """A box with a guest in it. Use as a context manager: nothing survives its end.

    Args:
        started: where the guest runs.
        rung: the name of its rung.
    """

    def __init__(self, started: Cold | Warm, rung: str):
        self.started, self.rung = started, rung
        self.peak = self.said = self.id = 0  # bytes of memory, bytes on stderr
        self.tail, self.next_look = b"", 0.0
        self.to, self.coming, self.errors = started.streams
        self.selector = selectors.DefaultSelector()
        for stream in started.streams:
            os.set_blocking(stream, False)
        self.selector.register(self.coming, selectors.EVENT_READ)
        self.selector.register(self.errors, selectors.EVENT_READ)

    def __enter__(self) -> "Box":
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()

    def ready(self, seconds: float) -> None:
        """Wait until the guest has imported torch and sealed itself."""
        message, _ = self._receive(time.monotonic() + seconds)
        self._check(message)

    def request(
        self, message: dict, arrays: list[Tensor], seconds: float
    ) -> tuple[dict, list[Tensor]]:
        """Send one frame and wait for the answer to it.

        Raises:
            Died, TooLate, Malformed: then this box is of no further use.
        """
        deadline = time.monotonic() + seconds
        self.id += 1
        self._send(encode({"id": self.id, **message}, arrays), deadline)
        reply, found = self._receive(deadline)
        self._check(reply)
        return reply, found

    def _check(self, reply: dict) -> None:
        if type(reply.get("id")) is not int or reply["id"] != self.id:
            raise Malformed("an answer to another question")
        if type(reply.get("ok")) is not bool:
            raise Malformed("an answer that is neither right nor wrong")

    def _send(self, data: bytes, deadline: float) -> None:
        rest = memoryview(data)
        self.selector.register(self.to, selectors.EVENT_WRITE)
        try:
            while rest:
                if self.to in self._wait(deadline):
                    rest = rest[os.write(self.to, rest[: 1 << 16]) :]
        except (BrokenPipeError, BlockingIOError):
            raise Died("the process ended") from None
        finally:
            self.selector.unregister(self.to)

    def _receive(self, deadline: float) -> tuple[dict, list[Tensor]]:
        data, wanted = bytearray(), 8
        while len(data) < wanted:
            if self.coming not in self._wait(deadline):
                continue
            part = os.read(self.coming, min(wanted - len(data), 1 << 20))
            if not part:
                raise Died("the process ended")
            data += part
            if wanted == 8 and len(data) == 8:
                wanted = 8 + frame_length(bytes(data))
        return decode(bytes(data[8:]))

    def _wait(self, deadline: float) -> set[int]:
        """Wait for one tick; look at output, memory, files and the clock."""
        ready = {key.fd for key, _ in self.selector.select(TICK)}
        if self.errors in ready:
            self._hear(os.read(self.errors, 1 << 16))
        now = time.monotonic()
        if now > self.next_look:
            self._look()
            self.next_look = now + TICK
        if now > deadline:
            raise TooLate("no answer in time")
        return ready

    def _hear(self, part: bytes) -> None:
        if not part:
            self.selector.unregister(self.errors)
        self.said += len(part)
        self.tail = (self.tail + part)[-2000:]
        if self.said > MAX_OUTPUT:
            raise Died(f"more than {MAX_OUTPUT // MIB} MiB of output")

    def _look(self) -> None:
        members = self.started.members()
        used = watch.memory(members, MAX_MEMORY)
        self.peak = max(self.peak, used)
        if used > MAX_MEMORY:
            raise Died(f"more than {MAX_MEMORY // MIB} MiB of memory")
        if watch.files(members) > MAX_FILES:
            raise Died(f"more than {MAX_FILES} files")

    def close(self) -> None:
        """End everything that was started in the box."""
        with contextlib.suppress(Died, OSError):
            self._look()
        self.selector.close()
        self.started.end()
        for stream in self.started.streams:
            os.close(stream)
