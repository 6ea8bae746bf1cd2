"""A walk through a folder of submissions, which no student can stop for the others."""

import os
import stat
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

MAX_DEPTH = 32  # folders in one another
MAX_ENTRIES = 5_000  # files and folders of one student
MACOS = "left by macOS"
OTHER = {
    stat.S_IFLNK: "a link, which is not followed",
    stat.S_IFIFO: "a pipe, which is not opened",
    stat.S_IFSOCK: "a socket, which is not opened",
    stat.S_IFCHR: "a device, which is not opened",
    stat.S_IFBLK: "a device, which is not opened",
}


class Seen(NamedTuple):
    """A file, or a folder that is not looked into.

    Attributes:
        name: relative to the class; that of a folder ends in "/".
        path: where it is.
        what: it is, if it is not to be opened; "" for a regular file.
        lost: something of a student's is not looked at, and `what` says why.
    """

    name: str
    path: Path
    what: str = ""
    lost: bool = False


def walk(folder: Path) -> Iterator[Seen]:
    """All files below a folder, in no order, and folders that are empty or not entered.

    Links are not followed, and hidden folders not entered.

    Raises:
        OSError: the folder itself cannot be read.
    """
    todo, seen = [("", folder, 0)], Counter()
    while todo:
        name, place, depth = todo.pop()
        student = name.partition("/")[0]
        try:
            entries, why = _entries(place, depth, MAX_ENTRIES - seen[student])
        except OSError as error:
            if place == folder:
                raise
            entries, why = [], f"this folder cannot be read: {error.strerror}"
        seen[student] += len(entries) if student else 0
        for entry in entries:
            inner, path = f"{name}{entry.name}", Path(entry.path)
            if not entry.is_dir(follow_symlinks=False):
                yield Seen(inner + "/" * entry.is_dir(), path, _other(entry))
            elif what := not_entered(entry.name):
                yield Seen(f"{inner}/", path, what)
            else:
                todo.append((f"{inner}/", path, depth + 1))
        if why:
            yield Seen(name, place, why, lost=True)
        elif not entries and name:
            yield Seen(name, place, "an empty folder")


def _entries(place: Path, depth: int, most: int) -> tuple[list[os.DirEntry], str]:
    """What is in a folder, as far as one student may go, and why not more of it."""
    advice = "hand in the notebook alone"
    if depth > MAX_DEPTH:
        return [], f"more than {MAX_DEPTH} folders in one another: {advice}"
    with os.scandir(place) as found:
        if depth == 0:  # the class
            return [*found], ""
        entries = [*islice(found, most + 1)]
    if len(entries) <= most:
        return entries, ""
    return entries[:most], f"one student's files are more than {MAX_ENTRIES:,}: {advice}"


def not_entered(folder: str) -> str:
    """Why a folder of this name is not looked into; "" if it is."""
    if folder.casefold() == "__macosx":
        return MACOS
    if folder == ".ipynb_checkpoints":
        return "copies that JupyterLab makes by itself"
    return "a hidden folder, which is not searched" if folder.startswith(".") else ""


def _other(entry: os.DirEntry) -> str:
    """What is no regular file; "" for one that is."""
    try:
        return OTHER.get(stat.S_IFMT(entry.stat(follow_symlinks=False).st_mode), "")
    except OSError as error:
        return f"a file that cannot be looked at ({error.strerror})"
