"""Processes of this machine that grade: one notebook each at a time, replaced when killed.

The kernel ends a process when memory runs out. Whoever shared a pool with it must not
notice, and the notebook that it held is tried once more.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from multiprocessing import Pipe, Process, active_children
from multiprocessing.connection import wait
from queue import SimpleQueue

from gdm_course.grading.marks.stops import blocked, handled
from gdm_course.grading.marks.worker import ToldToStop, work


class Killed(Exception):
    """The worker of a notebook was killed, and so was the next one."""


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
        dismiss(self.seat)

    def end(self) -> None:
        """Wait for the last task, and for the worker to go."""
        self.join() if self.ident else dismiss(self.seat)

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
        self.pool, self.worker, self.pipe = pool, None, None

    def hire(self) -> None:
        """Start a process that works here."""
        with Seat.hiring, blocked():  # until the new one minds them
            if self.pool.stopping:
                raise EOFError("nobody is hired any more")
            self.pipe, theirs = Pipe()
            self.worker = Process(target=work, args=(theirs, self.pipe, os.getpid()))
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


def dismiss(seat: Seat) -> None:
    """Let the worker of a seat end by itself."""
    if seat.worker is not None:
        with contextlib.suppress(OSError):  # dead already
            seat.pipe.send(None)  # its other end may live on in another worker's fork
        seat.worker.join()
        seat.pipe.close()
