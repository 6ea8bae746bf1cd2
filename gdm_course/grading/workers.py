"""Who grades: processes of this machine, a Dask cluster, or one task of an array job."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from multiprocessing import active_children
from pathlib import Path
from tempfile import NamedTemporaryFile

from gdm_course.grading import apart, batch, light
from gdm_course.grading.ladder import LADDER
from gdm_course.grading.session import slowness

PATIENCE = 20  # seconds to wait for a scheduler


class NoWorkers(Exception):
    """These workers cannot grade; the sentence says what to do."""


class Stopped(BaseException):
    """Raised in a worker that is told to stop: its submission keeps no verdict."""


@contextmanager
def minding_interrupts() -> Iterator[None]:
    """Raise KeyboardInterrupt at the end, if Python lost it (in a destructor, it does)."""
    heard = []

    def hear(number: int, frame: object) -> None:
        heard.append(number)
        signal.default_int_handler(number, frame)

    before = signal.signal(signal.SIGINT, hear)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if heard:
        raise KeyboardInterrupt


# An array job -----------------------------------------------------------------------------


def share(paths: dict[str, Path], shard: str) -> dict[str, Path]:
    """The submissions of one task, "2/8" for the second of eight; chosen by hash.

    Raises:
        NoWorkers: the text has another form.
    """
    try:
        i, n = map(int, shard.split("/"))
        if not 1 <= i <= n:
            raise ValueError
    except ValueError:
        known = "expected I/N with I from 1 to N, such as 2/8"
        raise NoWorkers(f"--shard {shard}: {known}") from None
    return {key: p for key, p in paths.items() if int(key[:16], 16) % n == i - 1}


# This machine -----------------------------------------------------------------------------


class Local(ProcessPoolExecutor):
    """Processes of this machine: they stop when told to, and end with their parent."""

    def __init__(self, workers: int):
        super().__init__(workers, initializer=_prepare, initargs=(os.getpid(),))

    def submit(self, call: Callable, /, *args: object, **kwargs: object) -> Future:
        """As usual, but nothing is begun any more once the worker was told to stop."""
        return super().submit(_unless_stopped, call, *args, **kwargs)

    def stop(self) -> None:
        """End the submissions under way and drop the rest. Returns when nothing runs."""
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # once is enough
        self.shutdown(wait=False, cancel_futures=True)
        for child in active_children():
            os.kill(child.pid, signal.SIGINT)
        self.shutdown(wait=True)
        signal.signal(signal.SIGINT, before)


_stopped = False


def _prepare(parent: int) -> None:
    """In a new worker: what to do at Ctrl-C, and when the parent dies."""
    light.install()
    signal.signal(signal.SIGINT, _interrupted)
    threading.Thread(target=_outlive_nobody, args=(parent,), daemon=True).start()


def _interrupted(number: int, frame: object) -> None:
    """Leave the submission under way; between two of them there is nothing to leave."""
    global _stopped
    _stopped = True
    while frame is not None:
        if frame.f_code is _unless_stopped.__code__:
            raise Stopped
        frame = frame.f_back


def _unless_stopped(call: Callable, *args: object, **kwargs: object) -> object:
    try:
        if not _stopped:
            return call(*args, **kwargs)
    except Stopped:
        pass
    raise RuntimeError("told to stop")  # no BaseException: the parent counts it as lost


def _outlive_nobody(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGINT)  # the main thread leaves its submission
    time.sleep(0.5)
    batch._boxes.cache_clear()  # ends boxes, removes their folders
    os._exit(1)


# A cluster --------------------------------------------------------------------------------


class Cluster(Executor):
    """The workers of a running Dask cluster.

    Submissions and results must lie where every worker sees them under the same path.

    Args:
        address: of the scheduler, "tcp://host:8786".
        rung: of isolation, which each worker must have.
        places: what each worker must see.
        out: the folder of results.

    Raises:
        NoWorkers: no Dask, no scheduler there, no workers, or one that cannot grade.
    """

    def __init__(self, address: str, rung: str, places: list[Path], out: Path):
        self.client = _client(address)
        try:
            _must_be_able(self.client, rung, places, out)
        except NoWorkers:
            self.client.close()
            raise
        self.inner = self.client.get_executor(pure=False)

    def submit(self, call: Callable, /, *args: object, **kwargs: object) -> Future:
        """Grade on some worker."""
        return self.inner.submit(_one_at_a_time, call, *args, **kwargs)

    def stop(self) -> None:
        """Drop what has not begun; submissions under way end on their workers."""
        self.shutdown(cancel_futures=True)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the cluster, which goes on without us."""
        self.inner.shutdown(wait=wait and not cancel_futures)
        self.client.close()


def _client(address: str):
    try:
        from distributed import Client
    except ImportError:
        raise NoWorkers(
            "Dask is not installed: run \"pip install 'gdm_course[cluster]'\""
        ) from None
    try:
        return Client(address, timeout=PATIENCE)
    except (OSError, ValueError, TimeoutError):
        raise NoWorkers(
            f"no Dask scheduler at {address!r}: give its --address tcp://HOST:PORT"
        ) from None


def _must_be_able(client, rung: str, places: list[Path], out: Path) -> None:
    known = {key: a.fingerprint for key, a in batch._maps().items()}
    with NamedTemporaryFile(dir=out, prefix=".seen-") as marker:
        names = [str(p.resolve()) for p in [*places, Path(marker.name)]]
        said = client.run(_obstacle, names, rung, known)
    if not said:
        raise NoWorkers("the cluster has no workers: start some with 'dask worker'")
    for address, sentence in said.items():
        if sentence:
            raise NoWorkers(f"the worker {address} cannot grade: {sentence}")


def _obstacle(names: list[str], rung: str, known: dict[str, str]) -> str:
    """On a worker: why it cannot grade, or nothing."""
    for name in names:
        if told := apart.obstacle(name, rung):
            return told
    reason = next(r for r in LADDER if r.name == rung).missing()
    if reason:
        return f"it has no isolation {rung}: {reason}"
    own = {key: a.fingerprint for key, a in batch._maps().items()}
    return "" if own == known else "it has another version of the course: update it"


_lock = threading.Lock()


def _one_at_a_time(call: Callable, job: batch.Job) -> object:
    """A worker's threads take turns: a nursery holds one box."""
    with _lock:
        budget = replace(job.budget, scale=_pace())
        return call(replace(job, budget=budget))


_pace = cache(slowness)
