"""Who grades: processes of this machine, a Dask cluster, or one task of an array job."""

import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import NamedTemporaryFile

from gdm_course.grading.box.ladder import LADDER
from gdm_course.grading.judge.budget import slowness
from gdm_course.grading.marks import apart, batch
from gdm_course.grading.marks.pool import Local

__all__ = ["Cluster", "Local", "NoWorkers", "share"]

PATIENCE = 20  # seconds to wait for a scheduler


class NoWorkers(Exception):
    """These workers cannot grade; the sentence says what to do."""


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
    if not sys.flags.safe_path:
        return "its Python looks for modules in its current folder: set PYTHONSAFEPATH=1"
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
