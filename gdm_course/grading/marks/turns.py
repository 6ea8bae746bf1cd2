"""One writer at a time in a folder of results: a lock that dies with its holder."""

import contextlib
import os
import socket
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

SOON = 0.5  # seconds to wait before saying so


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder of results; waits for whoever has it, and says for whom.

    The index and the reports are changed under it, for moments; nothing is graded.

    Raises:
        OSError: the folder cannot be written to.
    """
    from filelock import FileLock, Timeout  # torch depends on it

    lock, holder = FileLock(folder / "index.lock"), folder / "index.lock.by"
    try:
        lock.acquire(timeout=SOON)
    except Timeout:
        print(f"waiting: {_told(holder)} writes into {folder}", file=sys.stderr, flush=True)
        lock.acquire()
    try:
        since = datetime.now().strftime("%H:%M:%S")
        text = f"process {os.getpid()} on {socket.gethostname()}, since {since},"
        holder.write_text(text, encoding="utf-8")
        yield
    finally:
        with contextlib.suppress(OSError):
            holder.unlink()
        lock.release()


def _told(holder: Path) -> str:
    with contextlib.suppress(OSError, ValueError):
        if text := holder.read_text(encoding="utf-8")[:200]:
            return text
    return "another process"
