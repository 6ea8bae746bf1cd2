"""One box: starts it on a rung, exchanges frames with deadlines, watches it, ends it."""

import os
import selectors
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from torch import Tensor

from gdm_course.grading import watch
from gdm_course.grading.ladder import free_uid
from gdm_course.grading.rungs import Rung, Site
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
        rung: of the ladder.
        stage: the package without answers.
        slot: of the pool's worker; another slot has another uid.
    """

    def __init__(self, rung: Rung, stage: Path, slot: int = 0):
        self.rung = rung
        self.peak = 0  # bytes
        self.said = 0  # bytes on stderr
        self.tail = b""
        self.id = 0
        self.uid = free_uid(slot)
        self.scratch = Path(tempfile.mkdtemp(prefix="gdm-box-"))
        if os.geteuid() == 0:
            os.chown(self.scratch, self.uid, self.uid)
        site = Site(stage, self.scratch, self.uid)
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            rung.command(site),
            **{"stdin": pipe, "stdout": pipe, "stderr": pipe, "bufsize": 0},
            env={"PATH": os.environ.get("PATH", "/usr/bin:/bin")}
            if rung.name == "Lc"
            else {},
            cwd="/",
            start_new_session=True,
        )
        self.selector = selectors.DefaultSelector()
        for stream in (self.process.stdout, self.process.stderr):
            os.set_blocking(stream.fileno(), False)
            self.selector.register(stream, selectors.EVENT_READ)
        os.set_blocking(self.process.stdin.fileno(), False)

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
        self.selector.register(self.process.stdin, selectors.EVENT_WRITE)
        try:
            while rest:
                for key in self._wait(deadline):
                    if key.fileobj is self.process.stdin:
                        rest = rest[os.write(key.fd, rest[: 1 << 16]) :]
        except (BrokenPipeError, BlockingIOError):
            raise Died("the process ended") from None
        finally:
            self.selector.unregister(self.process.stdin)

    def _receive(self, deadline: float) -> tuple[dict, list[Tensor]]:
        data, wanted = bytearray(), 8
        while len(data) < wanted:
            for key in self._wait(deadline):
                if key.fileobj is not self.process.stdout:
                    continue
                part = os.read(key.fd, min(wanted - len(data), 1 << 20))
                if not part:
                    raise Died(self._last_words())
                data += part
                if wanted == 8 and len(data) == 8:
                    wanted = 8 + frame_length(bytes(data))
        return decode(bytes(data[8:]))

    def _wait(self, deadline: float) -> list[selectors.SelectorKey]:
        """Wait for one tick; look at output, memory, files and the clock."""
        events = [key for key, _ in self.selector.select(TICK)]
        for key in events:
            if key.fileobj is self.process.stderr:
                self._hear(os.read(key.fd, 1 << 16), key)
        now = time.monotonic()
        if now > getattr(self, "next_look", 0):
            self.next_look = now + TICK
            self._look()
        if now > deadline:
            raise TooLate("no answer in time")
        return events

    def _hear(self, part: bytes, key: selectors.SelectorKey) -> None:
        if not part:
            self.selector.unregister(key.fileobj)
        self.said += len(part)
        self.tail = (self.tail + part)[-2000:]
        if self.said > MAX_OUTPUT:
            raise Died(f"more than {MAX_OUTPUT // MIB} MiB of output")

    def _look(self) -> None:
        used = watch.memory(self.process.pid, MAX_MEMORY)
        self.peak = max(self.peak, used)
        if used > MAX_MEMORY:
            raise Died(f"more than {MAX_MEMORY // MIB} MiB of memory")
        if watch.files(self.process.pid) > MAX_FILES:
            raise Died(f"more than {MAX_FILES} files")

    def _last_words(self) -> str:
        code = self.process.poll()
        return "the process ended" + (f" with {code}" if code is not None else "")

    def close(self) -> None:
        """End everything that was started in the box, and remove its folder."""
        self.selector.close()
        watch.end(self.process, self.uid if os.geteuid() == 0 else None)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            stream.close()
        shutil.rmtree(self.scratch, ignore_errors=True)
