"""Ctrl-C, and the signals by which systems end a process: all are one interrupt."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STOPS = [signal.SIGINT, signal.SIGTERM]
HANGUP = getattr(signal, "SIGHUP", None)  # Windows has none


@contextmanager
def minding_interrupts() -> Iterator[None]:
    """Raise KeyboardInterrupt at every stop, and at the end if Python lost it on the way.

    In a destructor, it does.
    """
    heard = []

    def hear(number: int, frame: object) -> None:
        heard.append(number)
        signal.default_int_handler(number, frame)

    with handled(hear):
        yield
    if heard:
        raise KeyboardInterrupt


@contextmanager
def handled(hear: Callable | signal.Handlers) -> Iterator[None]:
    """Give every stop to a handler; only the main thread can, elsewhere nothing changes."""
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, hear) for number in _ours() if main}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _ours() -> list[signal.Signals]:
    """The stops that count: under `nohup`, no SIGHUP."""
    ignored = HANGUP is None or signal.getsignal(HANGUP) == signal.SIG_IGN
    return STOPS if ignored else [*STOPS, HANGUP]


@contextmanager
def blocked() -> Iterator[None]:
    """Keep all stops waiting; a process that is forked meanwhile starts like this."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ours())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def listen(hear: Callable) -> None:
    """In a process that was forked while stops were blocked: give them to a handler."""
    for number in _ours():
        signal.signal(number, hear)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ours())
