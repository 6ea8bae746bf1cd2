"""Several folders of results made one: tasks of an array job, or several machines.

Where two folders hold different verdicts on the same file, one rule decides, and every
case is listed in `conflicts.csv`:

1. marks of the assignment as it is now beat marks of an older version of it;
2. marks from a sealed box beat marks without isolation;
3. a verdict that the whole file was judged beats one that its box broke;
4. else the folder named first wins.

One name with two different files keeps both: the second is shown as `NAME (2)`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from gdm_course.grading.judge.verdict import Result, Status, restore, store, write
from gdm_course.grading.marks.exports import table
from gdm_course.grading.marks.ledger import (
    HASH,
    Handed,
    Ledger,
    NoResults,
    called,
    keep,
    read,
)

RULE = (
    "marks of the present assignment before older ones, sealed before unsandboxed, "
    "judged before broken, then the folder named first"
)
STORED = re.compile(r"([0-9a-f]{64})\.json")


@dataclass
class Merged:
    """What several folders hold together.

    Attributes:
        ledger: of all files of all folders.
        conflicts: where folders disagree: the name or hash, kept, dropped, why.
    """

    ledger: Ledger = field(default_factory=Ledger)
    verdicts: dict[str, tuple[Result, Path]] = field(default_factory=dict)
    conflicts: list[tuple[str, str, str, str]] = field(default_factory=list)

    @property
    def names(self) -> dict[str, str]:
        """The hash of every file that was read."""
        return self.ledger.names

    @property
    def refused(self) -> dict[str, str]:
        """Why every other one was not."""
        return self.ledger.refused


def merge(folders: list[Path], now: Callable[[str], str | None]) -> Merged:
    """Read all folders, in the order of their names on the command line.

    Args:
        folders: of results.
        now: the present fingerprint of an assignment; None if it is not of this course.

    Raises:
        NoResults: one of them holds none; nothing was written.
    """
    merged = Merged()
    books = {folder: read(folder) for folder in folders}
    for folder, book in books.items():
        for path in sorted(folder.glob("*.json")):
            if found := STORED.fullmatch(path.name):
                _verdict(merged, found[1], path, now)
        runs = merged.ledger.runs
        for one in book.files.values():
            _enter(merged, replace(one, run=runs + one.run), folder)
        known = [(r.own, r.key) for r in merged.ledger.replaced]
        merged.ledger.replaced += [r for r in book.replaced if (r.own, r.key) not in known]
        merged.ledger.aside |= book.aside
        merged.ledger.roots = [*dict.fromkeys([*merged.ledger.roots, *book.roots])]
    return merged


def _verdict(merged: Merged, key: str, path: Path, now: Callable) -> None:
    result = restore(path)
    if result is None or result.sha256 != key or not HASH.fullmatch(key):
        merged.conflicts.append((key, "", str(path), "no verdict of this version"))
        return
    if key not in merged.verdicts:
        merged.verdicts[key] = result, path
        return
    first, place = merged.verdicts[key]
    if first == result:
        return
    new = _rank(result, now) > _rank(first, now)
    kept, dropped = ((result, path), (first, place))[:: 1 if new else -1]
    merged.verdicts[key] = kept
    merged.conflicts.append((key, _told(*kept), _told(*dropped), _why(first, result)))


def _rank(result: Result, now: Callable[[str], str | None]) -> tuple[bool, bool, bool]:
    return (
        now(result.assignment) == result.fingerprint,
        result.rung != "L0",
        result.status in (Status.GRADED, Status.UNSANDBOXED),
    )


def _told(result: Result, path: Path) -> str:
    return (
        f"{result.earned:g} of {result.points:g}, {result.status.value}, in {path.parent}"
    )


def _why(first: Result, second: Result) -> str:
    if first.fingerprint != second.fingerprint:
        return "another version of the assignment"
    if first.rung != second.rung:
        return "another isolation"
    return "graded twice, under two seeds" if first.seed != second.seed else "changed"


def _enter(merged: Merged, one: Handed, folder: Path) -> None:
    """Enter a file; another one under the same name gets a number, and is listed.

    A file that one folder could not read is judged by what another one read.
    """
    files = merged.ledger.files
    same = [name for name in called(merged.ledger, one.own) if files[name].own == one.own]
    if one.key in {files[name].key for name in same}:
        return
    unread = next((name for name in same if not files[name].key), None)
    if same and (unread or not one.key):
        why = files.pop(unread).why if unread else one.why
        told = (one.own, "the file that was read", why, "read in one")
        merged.conflicts.append(told)
    if one.key or not same:
        name = merged.ledger.enter(one)
        if name != one.own:
            told = (one.own, name, str(folder), "one name, different files")
            merged.conflicts.append(told)


def save(merged: Merged, out: Path) -> None:
    """Write verdicts, index and the list of conflicts; reports are made from them.

    Raises:
        NoResults: the folder holds other results, which would be mixed up with these.
        OSError: something cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    present = {p.stem for p in out.iterdir() if STORED.fullmatch(p.name) and restore(p)}
    if foreign := present - {*merged.verdicts}:
        raise NoResults(
            f"{out} holds {len(foreign)} other verdicts: name it among the folders to "
            "merge, or choose another --out"
        )
    for result, _ in merged.verdicts.values():
        store(result, out)
    keep(merged.ledger, out)
    head = [("name or SHA-256", "kept", "dropped", "why")]
    write(out / "conflicts.csv", table([*head, *merged.conflicts]))
