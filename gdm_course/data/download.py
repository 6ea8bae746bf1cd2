"""The data folder: what is there, what is missing, how to get it.

    GDM_DATA_DIR    the folder (default ~/.cache/gdm_course); a relative one starts at the
                    course's folder, from whatever notebook
    GDM_OFFLINE=1   never download

A data set is downloaded when it is first asked for, or by `gdm data get NAME`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from gdm_course import environment
from gdm_course.data import transfer
from gdm_course.data.registry import Dataset, File, dataset, datasets
from gdm_course.data.transfer import DownloadError, Missing


class Row(NamedTuple):
    """One line of `gdm data list`; `state` is here, part, or absent."""

    name: str
    title: str
    megabytes: float | None
    state: str
    terms: str


class Finding(NamedTuple):
    """One line of `gdm data verify`; `right` is None for a file of unknown checksum."""

    path: Path
    right: bool | None
    remark: str


def folder() -> Path:
    """Return the data folder."""
    return environment.data_folder()


def offline() -> bool:
    """Say whether the environment forbids downloads."""
    return environment.on("GDM_OFFLINE")


def here(name: str) -> list[Path]:
    """Return the files of the first form of a data set that is whole, else nothing."""
    for form in dataset(name).forms:
        if all(_present(file) for file in form):
            return [folder() / file.path for file in form]
    return []


def need(name: str) -> list[Path]:
    """Return the files of a data set, downloading them first if they are not here.

    Raises:
        Missing: they are not here, and downloads are off or there is nothing to download.
        DownloadError: the download failed.
    """
    if found := here(name):
        return found
    data = dataset(name)
    where = "GDM_DATA_DIR" if environment.given() else folder()
    if not data.downloads:
        raise Missing(
            f"{where} has no {data.title} and no public copy has a known checksum: put "
            f"{data.forms[0][0].path} into {folder()}, or use {data.instead}"
        )
    if offline():
        raise Missing(
            f"{where} has no {data.title} and downloads are off (GDM_OFFLINE=1): run "
            f"'gdm data get {name}' once with a network, or use {data.instead}"
        )
    return [transfer.fetch(file, folder()) for file in data.downloads]


def get(name: str) -> list[Path]:
    """Download a data set, replacing files that have the wrong bytes; return its files.

    Raises:
        ValueError: unknown name.
        Missing: downloads are off, or the data set is local only, and it is not here whole.
        DownloadError: the download failed.
    """
    found = here(name)
    if found and all(finding.right is not False for finding in _check(name, found)):
        return found
    if found and not offline() and dataset(name).downloads:
        return [transfer.fetch(file, folder()) for file in dataset(name).downloads]
    if found:
        raise Missing(
            f"{name} is damaged and cannot be downloaded here: see 'gdm data verify'"
        )
    return need(name)


def rows() -> list[Row]:
    """Return one row per data set, for `gdm data list`."""
    return [_row(data) for data in datasets().values()]


def verify() -> Iterator[Finding]:
    """Compare every file that is here with its known size and sha256."""
    for name in datasets():
        files = {f.path: folder() / f.path for form in dataset(name).forms for f in form}
        yield from _check(name, [path for path in files.values() if path.is_file()])


def _row(data: Dataset) -> Row:
    files = [file for form in data.forms for file in form]
    state = "here" if here(data.name) else "absent"
    if state == "absent" and any((folder() / file.path).is_file() for file in files):
        state = "part"
    form = data.downloads or data.forms[0]
    megabytes = sum(f.size for f in form) / 1e6 if all(f.size for f in form) else None
    return Row(data.name, data.title, megabytes, state, data.terms)


def _present(file: File) -> bool:
    """A file of the wrong size counts as absent: it was never put there by `transfer`."""
    path = folder() / file.path
    return path.is_file() and file.size in (None, path.stat().st_size)


def _check(name: str, paths: list[Path]) -> Iterator[Finding]:
    known = {folder() / file.path: file for form in dataset(name).forms for file in form}
    for path in paths:
        file, size = known[path], path.stat().st_size
        if file.sha256 is None:
            yield Finding(path, None, "no known checksum")
        elif size != file.size:
            yield Finding(path, False, f"{size:,} bytes, expected {file.size:,}")
        else:
            right = transfer.checksum(path) == file.sha256
            yield Finding(path, right, "sha256 is right" if right else "wrong sha256")


__all__ = [
    "DownloadError",
    "Finding",
    "Missing",
    "Row",
    "folder",
    "get",
    "here",
    "need",
    "offline",
    "rows",
    "verify",
]
