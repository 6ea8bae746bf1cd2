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
from dataclasses import dataclass, field
from pathlib import Path

from gdm_course.grading.collect import HASH, NoResults, index, write_index
from gdm_course.grading.exports import table
from gdm_course.grading.verdict import Result, Status, restore, store, write

RULE = (
    "marks of the present assignment before older ones, sealed before unsandboxed, "
    "judged before broken, then the folder named first"
)
STORED = re.compile(r"([0-9a-f]{64})\.json")


@dataclass
class Merged:
    """What several folders hold together.

    Attributes:
        names: of files, to their hashes.
        refused: names of files that could not be read, to the reason.
        conflicts: where folders disagree: the name or hash, kept, dropped, why.
    """

    names: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    verdicts: dict[str, tuple[Result, Path]] = field(default_factory=dict)
    conflicts: list[tuple[str, str, str, str]] = field(default_factory=list)


def merge(folders: list[Path], now: Callable[[str], str | None]) -> Merged:
    """Read all folders, in the order of their names on the command line.

    Args:
        folders: of results.
        now: the present fingerprint of an assignment; None if it is not of this course.

    Raises:
        NoResults: one of them holds none; nothing was written.
    """
    merged = Merged()
    indexes = {folder: index(folder) for folder in folders}
    for folder, (names, refused) in indexes.items():
        for path in sorted(folder.glob("*.json")):
            if found := STORED.fullmatch(path.name):
                _verdict(merged, found[1], path, now)
        for name, key in names.items():
            _name(merged, name, key, folder)
        for name, why in refused.items():
            merged.refused.setdefault(name, why)
    for name in merged.refused.keys() & merged.names.keys():
        why = merged.refused.pop(name)
        merged.conflicts.append((name, "the file that was read", why, "read in one"))
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


def _name(merged: Merged, name: str, key: str, folder: Path) -> None:
    """Enter a name; another file under the same name gets a number, and is listed."""
    new, number = name, 1
    while merged.names.get(new, key) != key:
        number += 1
        new = f"{name} ({number})"
    if new != name and new not in merged.names:
        merged.conflicts.append((name, new, str(folder), "one name, different files"))
    merged.names[new] = key


def save(merged: Merged, out: Path) -> None:
    """Write verdicts, index and the list of conflicts; reports are made from them.

    Raises:
        NoResults: the folder holds other results, which would be mixed up with these.
    """
    out.mkdir(parents=True, exist_ok=True)
    present = {found[1] for p in out.iterdir() if (found := STORED.fullmatch(p.name))}
    if foreign := present - {*merged.verdicts}:
        raise NoResults(
            f"{out} holds {len(foreign)} other verdicts: name it among the folders to "
            "merge, or choose another --out"
        )
    for result, _ in merged.verdicts.values():
        store(result, out)
    write_index(merged.names, merged.refused, out)
    head = [("name or SHA-256", "kept", "dropped", "why")]
    write(out / "conflicts.csv", table([*head, *merged.conflicts]))
