"""Processes of this machine that grade: one notebook each at a time, replaced when killed.

The kernel ends a process when memory runs out. Whoever shared a pool with it must not
notice, and the notebook that it held is tried once more.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from multiprocessing import Pipe, Process, active_children
from multiprocessing.connection import Connection, wait
from queue import SimpleQueue

from gdm_course.grading import held, light
from gdm_course.grading.stops import blocked, handled, listen


class ToldToStop(Exception):
    """A worker was told to stop: its notebook keeps no verdict."""


class Killed(Exception):
    """The worker of a notebook was killed, and so was the next one."""


class Stopped(BaseException):
    """Raised in a worker that is told to stop, to leave its notebook."""


# In the process that started --------------------------------------------------------------


class Local(Executor):
    """Processes of this machine: they stop when told to, and end with their parent."""

    def __init__(self, workers: int):
        self.tasks: SimpleQueue = SimpleQueue()
        self.stopping = False
        self.desks = [Desk(self) for _ in range(workers)]
        try:
            for desk in self.desks:
                desk.seat.hire()
            for desk in self.desks:  # forks come first: a thread might hold a lock
                desk.start()
        except BaseException:  # an interrupt: nobody has this pool, to stop it
            self.stop()
            raise

    def submit(self, call: Callable, /, *args: object, **kwargs: object) -> Future:
        """Have some worker call this, once it has nothing else to do."""
        future: Future = Future()
        self.tasks.put((future, (call, args, kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the workers when all is done, or at once with what is under way."""
        self.stopping |= cancel_futures
        for _ in self.desks:
            self.tasks.put(None)
        for desk in self.desks if wait else ():
            desk.end()

    def stop(self) -> None:
        """End the submissions under way and drop the rest. Returns when nothing runs."""
        with handled(signal.SIG_IGN):  # once is enough
            with Seat.hiring:  # whoever comes later sees that we stop
                self.shutdown(wait=False, cancel_futures=True)
                children = active_children()
            for child in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, signal.SIGINT)
            self.shutdown(wait=True)


class Desk(threading.Thread):
    """Carries one task after the other to a worker, and its answer back."""

    def __init__(self, pool: Local):
        super().__init__(daemon=True)
        self.pool, self.seat = pool, Seat(pool)

    def run(self) -> None:
        """Until there are no more tasks."""
        while (task := self.pool.tasks.get()) is not None:
            future, work = task
            if self.pool.stopping:
                future.cancel()
            elif future.set_running_or_notify_cancel():
                self._do(future, work)
        self.seat.leave()

    def end(self) -> None:
        """Wait for the last task, and for the worker to go."""
        self.join() if self.ident else self.seat.leave()

    def _do(self, future: Future, work: tuple) -> None:
        for _ in range(2):
            try:
                result, error = self.seat.ask(work)
                return future.set_exception(error) if error else future.set_result(result)
            except (EOFError, OSError):  # it was killed
                self.seat.bury()
            if self.pool.stopping:
                return future.set_exception(ToldToStop())
        why = "its worker was killed twice, for want of memory perhaps: give fewer --jobs"
        future.set_exception(Killed(why))


class Seat:
    """A place for a worker, and the process that sits there now."""

    hiring = threading.Lock()  # a fork inherits what others have open: one at a time

    def __init__(self, pool: Local):
        self.pool = pool
        self.worker: Process | None = None
        self.pipe: Connection | None = None

    def hire(self) -> None:
        """Start a process that works here."""
        with Seat.hiring, blocked():  # until the new one minds them
            if self.pool.stopping:
                raise EOFError("nobody is hired any more")
            self.pipe, theirs = Pipe()
            self.worker = Process(target=_work, args=(theirs, self.pipe, os.getpid()))
            self.worker.start()
            theirs.close()

    def ask(self, work: tuple) -> tuple[object, Exception | None]:
        """The answer to a piece of work; EOFError or OSError if the worker dies of it."""
        if self.worker is None:
            self.hire()
        self.pipe.send(work)
        if self.pipe not in wait([self.pipe, self.worker.sentinel]):
            raise EOFError
        return self.pipe.recv()

    def bury(self) -> None:
        """Take a dead worker away."""
        if self.worker is not None:
            self.pipe.close()
            self.worker.kill()
            self.worker.join()
        self.worker = None

    def leave(self) -> None:
        """Let the worker end by itself."""
        if self.worker is not None:
            with contextlib.suppress(OSError):  # dead already
                self.pipe.send(None)  # its other end may live on in another worker's fork
            self.worker.join()
            self.pipe.close()


# In a worker ------------------------------------------------------------------------------

_stopped = _ending = False


def _work(pipe: Connection, parents: Connection, parent: int) -> None:
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
        answer = _unless_stopped(call, *args, **kwargs)
        try:
            pipe.send(answer)
        except Exception as error:  # it cannot travel, but its name can
            pipe.send((None, RuntimeError(f"{type(error).__name__}: {answer[1]!r}")))


def _told_to_stop(number: int, frame: object) -> None:
    """Leave the submission under way; at more than a Ctrl-C, end: nobody waits for us.

    It is left once: a second signal must not disturb how the first one is obeyed.
    """
    global _stopped, _ending
    before, _stopped, _ending = _stopped, True, _ending or number != signal.SIGINT
    while frame is not None:
        if frame.f_code is _unless_stopped.__code__:
            if not before:
                raise Stopped
            return
        frame = frame.f_back
    if _ending:
        _end()


def _end() -> None:
    from gdm_course.grading import batch

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
        if _ending:
            _end()
    except Exception as error:
        return None, error
    return None, ToldToStop("told to stop")


def _outlive_nobody(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGINT)  # the main thread leaves its submission
    time.sleep(0.5)
    _end()
