"""A process of the pool: it works until nothing is left, or until it is told to stop."""

import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

from gdm_course.grading.box import held
from gdm_course.grading.guest import light
from gdm_course.grading.judge import verdict
from gdm_course.grading.marks.stops import listen


class ToldToStop(Exception):
    """A worker was told to stop: its notebook keeps no verdict."""


class Stopped(BaseException):
    """Raised in a worker that is told to stop, to leave its notebook."""


_stopped = _ending = False


def work(pipe: Connection, parents: Connection, parent: int) -> None:
    """Do what comes through the pipe, until there is nothing more to do."""
    parents.close()
    light.install()
    listen(_told_to_stop)
    threading.Thread(target=_outlive_nobody, args=(parent,), daemon=True).start()
    while True:
        try:
            work = pipe.recv()
        except (EOFError, OSError):
            return
        if work is None:
            return
        call, args, kwargs = work
        try:
            answer = _unless_stopped(call, *args, **kwargs)
        except Stopped:  # the signal came at its door, before or after its own `try`
            answer = None, ToldToStop("told to stop")
        if _ending:
            _end()
        try:
            pipe.send(answer)
        except Exception as error:  # it cannot travel, but its name can
            pipe.send((None, RuntimeError(f"{type(error).__name__}: {answer[1]!r}")))


def _told_to_stop(number: int, frame: object) -> None:
    """Leave the submission under way; at more than a Ctrl-C, end: nobody waits for us.

    It is left once: a second signal must not disturb how the first one is obeyed. And not
    while a verdict is written, which is the last of it: half a file would stay behind.
    """
    global _stopped, _ending
    before, _stopped, _ending = _stopped, True, _ending or number != signal.SIGINT
    while frame is not None:
        if frame.f_code is verdict.write.__code__:
            return
        if frame.f_code is _unless_stopped.__code__:
            if not before:
                raise Stopped
            return
        frame = frame.f_back
    if _ending:
        _end()


def _end() -> None:
    from gdm_course.grading.marks import batch

    batch._boxes.cache_clear()  # ends boxes, removes their folders
    held.drop_all()
    os._exit(1)


def _unless_stopped(
    call: Callable, *args: object, **kwargs: object
) -> tuple[object, Exception | None]:
    """What the call returns, or raises; nothing is begun once told to stop."""
    try:
        if not _stopped:
            return call(*args, **kwargs), None
    except Stopped:
        pass
    except Exception as error:
        return None, error
    return None, ToldToStop("told to stop")


def _outlive_nobody(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGINT)  # the main thread leaves its submission
    time.sleep(0.5)
    _end()
