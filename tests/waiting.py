"""Waiting for an event, however slow the machine is; only what never happens fails."""

import contextlib
import fcntl
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

LONG = 300  # seconds; a machine that needs more is not slow but stuck


def until(condition: Callable[[], Any]) -> Any:
    """Call until it returns something true, and return that; what it said last if never."""
    end = time.monotonic() + LONG
    while not (found := condition()) and time.monotonic() < end:
        time.sleep(0.01)
    return found


@contextlib.contextmanager
def alone(thing: str) -> Iterator[None]:
    """Have something of the machine to oneself: tests of another process wait."""
    with (Path(tempfile.gettempdir()) / f"gdm-test-{thing}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
