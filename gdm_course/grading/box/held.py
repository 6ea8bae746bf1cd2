"""Temporary folders that go with their process, however it ends.

A process holds a lock on each folder that it makes. The system releases it when the
process dies, so whoever can take the lock of a folder knows that nobody uses it any more.
"""

import contextlib
import os
import shutil
import tempfile
from multiprocessing import util
from pathlib import Path

from gdm_course.grading.box.removal import remove

try:
    import fcntl
except ImportError:  # Windows: no boxes, and folders are removed at the end only
    fcntl = None

STAGE, SCRATCH, RELEASE = "gdm-stage-", "gdm-box-", ".gdm-release-"
_held: dict[Path, int | None] = {}  # open folders, which keep their locks
_owner = 0


class Unwritable(OSError):
    """Something of the grader's cannot be written: no room, no right, or in the way."""


def make(prefix: str, where: Path | None = None) -> Path:
    """Make an empty folder that is this process's, until `drop` or its end.

    Raises:
        Unwritable: it cannot be made there.
    """
    _own()
    while True:
        try:
            path = Path(tempfile.mkdtemp(prefix=prefix, dir=where))
        except OSError as error:
            place = str(where or tempfile.gettempdir())
            raise Unwritable(error.errno, error.strerror, place) from error
        with contextlib.suppress(BlockingIOError, FileNotFoundError):  # swept: another one
            _held[path] = _lock(path)
            return path


def drop(path: Path) -> None:
    """Remove a folder that `make` made, if it is still there."""
    _remove(path)
    if (handle := _held.pop(path, None)) is not None:
        os.close(handle)


def sweep(*prefixes: str, where: Path | None = None) -> None:
    """Remove the folders whose process was killed before it could."""
    place = Path(where or tempfile.gettempdir())
    for path in [path for prefix in prefixes for path in place.glob(f"{prefix}*")]:
        with contextlib.suppress(OSError):
            if path not in _held and (handle := _lock(path)) is not None:
                _remove(path)
                os.close(handle)


def drop_all() -> None:
    """Remove what this process still holds."""
    for path in [*_held] if _owner == os.getpid() else ():
        drop(path)


def _lock(path: Path) -> int | None:
    """Open and lock a folder; None where this file system has no locks on folders.

    Raises:
        BlockingIOError: a process uses it.
        OSError: it is gone, a link, or another user's.
    """
    if fcntl is None:
        return None
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(path, flags)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.stat(path)  # it may have been swept between the two lines above
    except (BlockingIOError, FileNotFoundError):
        os.close(handle)
        raise
    except OSError:
        os.close(handle)
        return None
    return handle


def _remove(path: Path) -> None:
    remove(path) if fcntl else shutil.rmtree(path, ignore_errors=True)


def _own() -> None:
    """Once per process: nothing stays behind at its end, a pool's worker included."""
    global _owner
    if _owner != os.getpid():
        for handle in _held.values():  # inherited by a fork: they are its parent's
            os.close(handle) if handle is not None else None
        _held.clear()
        _owner = os.getpid()
        util.Finalize(None, drop_all, exitpriority=0)  # after all who use them
