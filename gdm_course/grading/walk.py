"""A walk through a folder of submissions, which no student can stop for the others."""

import os
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

MAX_DEPTH = 32  # folders in one another
MAX_ENTRIES = 5_000  # files and folders of one student


def walk(folder: Path) -> Iterator[tuple[Path, str]]:
    """Notebooks below a folder, and folders of which something is not looked at.

    Links are not followed, and hidden folders not entered.

    Yields:
        a notebook with "", or a folder with the reason.

    Raises:
        OSError: the folder itself cannot be read.
    """
    todo, seen = [(folder, 0)], Counter()
    while todo:
        place, depth = todo.pop()
        student = place.relative_to(folder).parts[:1]
        try:
            entries, why = _entries(place, depth, MAX_ENTRIES - seen[student])
        except OSError as error:
            if place == folder:
                raise
            entries, why = [], f"this folder cannot be read: {error.strerror}"
        seen[student] += len(entries) if student else 0
        for entry in sorted(entries, key=lambda e: e.name):
            if entry.is_dir(follow_symlinks=False):
                if not entry.name.startswith("."):  # .ipynb_checkpoints
                    todo.append((Path(entry.path), depth + 1))
            elif entry.name.endswith(".ipynb"):
                yield Path(entry.path), ""
        if why:
            yield place, why


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
