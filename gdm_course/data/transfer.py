"""Bring one file here, whole or not at all.

pooch checks the sha256 of what comes and moves it only if it is right. Around it stands
what pooch lacks: several mirrors, resuming (`stream.py`), a lock between processes and a
check of the free space. All happens in `.downloads/` below the data folder; the verified
file then moves to its place in one `os.replace`, so that a kill at any moment leaves either
the old state or the new one.
"""

import contextlib
import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from gdm_course.data.registry import File
from gdm_course.data.stream import Broken, continue_part, size_of
from gdm_course.environment import must_write

TRIES = 20  # per mirror, as long as each one brings new bytes
PAUSE = 1.0  # seconds before going on after a dropped line
SPARE = 16 << 20  # bytes that must stay free


class Missing(FileNotFoundError):
    """A data set is not here and may not or cannot be downloaded; the message says why."""


class DownloadError(Missing):
    """A file could not be brought here; nothing was changed at its place."""


def fetch(file: File, root: Path) -> Path:
    """Download `file` to its place below `root`, unless the right file is there by then.

    Raises:
        DownloadError: no mirror gave the right bytes, or there is no room or permission.
    """
    place, staging = root / file.path, root / ".downloads" / file.sha256[:16]
    try:
        for folder in (place.parent, staging.parent):
            must_write(folder, "set GDM_DATA_DIR to another folder")
    except OSError as error:
        raise DownloadError(str(error)) from None
    with _lock(staging.with_suffix(".lock"), file.path):
        if not (place.is_file() and checksum(place) == file.sha256):
            staging.mkdir(exist_ok=True)
            _check_space(root, file, staging / "part")
            os.replace(_from_mirrors(file, staging), place)
            _sync(place.parent)
            shutil.rmtree(staging, ignore_errors=True)
    return place


def checksum(path: Path) -> str:
    """Return the sha256 of a file, hexadecimal."""
    import hashlib

    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _from_mirrors(file: File, staging: Path) -> Path:
    """Try the mirrors in turn; return the verified file, still in the staging folder."""
    reasons, reason, part = [], "", staging / "part"
    for url in file.urls:
        for _ in range(TRIES):
            before = size_of(part)
            try:
                return _attempt(file, url, part)
            except Broken as error:
                reason = str(error)
            started_over = before > 0 and not part.exists()  # what was kept was of no use
            if not started_over and size_of(part) <= before:
                break  # nothing new came: this mirror is no help
            time.sleep(PAUSE)
        reasons.append(f"{urlsplit(url).netloc}: {reason}")
    raise DownloadError(
        f"could not download {file.path} ({'; '.join(reasons)}): check the network and run "
        "the same command again, it continues where it stopped"
    )


def _attempt(file: File, url: str, part: Path) -> Path:
    """Have pooch drive one transfer from one mirror and check what came."""
    try:
        import pooch
    except ImportError as error:
        message = "downloads need pooch: pip install 'gdm_course[notebook]'"
        raise DownloadError(message) from error
    pooch.get_logger().setLevel(logging.ERROR)

    def downloader(url: str, output: str, _: object) -> None:
        continue_part(url, part, file)
        os.replace(part, output)

    known = f"sha256:{file.sha256}"
    try:
        return Path(pooch.retrieve(url, known, "whole", part.parent, downloader=downloader))
    except ValueError as error:  # pooch's word for a wrong checksum; it removed the file
        raise Broken("it sent a file with the wrong checksum") from error


def _check_space(root: Path, file: File, part: Path) -> None:
    missing, free = file.size - size_of(part), shutil.disk_usage(root).free
    if free < missing + SPARE:
        raise DownloadError(
            f"{file.path} needs {missing / 1e6:,.0f} MB more in {root}, which has "
            f"{free / 1e6:,.0f} MB free: make room or set GDM_DATA_DIR to another disk"
        )


def _sync(folder: Path) -> None:
    """Make a rename last through a power cut, where the system allows it."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def _lock(path: Path, what: str) -> Iterator[None]:
    """Hold a lock between processes; the system releases it when the holder dies."""
    from filelock import FileLock, Timeout  # torch depends on it

    lock = FileLock(path)
    try:
        lock.acquire(timeout=0.5)
    except Timeout:
        print(f"another process is downloading {what}: waiting for it", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
