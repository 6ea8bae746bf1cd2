"""Waiting for an event, however slow the machine is; only what never happens fails."""

import time
from collections.abc import Callable
from typing import Any

LONG = 300  # seconds; a machine that needs more is not slow but stuck


def until(condition: Callable[[], Any]) -> Any:
    """Call until it returns something true, and return that; what it said last if never."""
    end = time.monotonic() + LONG
    while not (found := condition()) and time.monotonic() < end:
        time.sleep(0.01)
    return found
