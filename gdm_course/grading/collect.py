"""A folder of results, read back: who handed in what, and what the judge said of it."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath

from gdm_course.grading.verdict import JUDGED, Mark, Result, Status, restore, write

HASH = re.compile(r"[0-9a-f]{64}")
NOT_GRADED = "not graded"  # no verdict is stored: this is no mark, and no status of one


class NoResults(Exception):
    """A folder holds no results; the sentence says what to do."""


@dataclass(frozen=True)
class Named:
    """A file under the name that its student chose: show it through `inert.shown` only."""

    name: str

    @property
    def key(self) -> str:
        """A short name for files and links, which the student does not choose."""
        return sha256(self.name.encode("utf-8", "surrogatepass")).hexdigest()[:24]

    @property
    def student(self) -> str:
        """The first folder of the name, or the name of a file that lies in none."""
        first, *rest = PurePosixPath(self.name).parts or ("",)
        return first if rest else PurePosixPath(first).stem


@dataclass(frozen=True)
class HandedIn(Named):
    """What became of one file as a whole.

    Attributes:
        name: of the file.
        result: the verdict; None if there is none.
        refused: why the file was not even read; "" if it was.
    """

    result: Result | None = None
    refused: str = ""

    @property
    def status(self) -> str:
        """The status of the whole submission."""
        if self.refused:
            return Status.MALFORMED.value
        return self.result.status.value if self.result else NOT_GRADED

    @property
    def message(self) -> str:
        """A sentence about the whole submission, often ""."""
        if self.result is None:
            missing = "no verdict is stored: run 'gdm grade' again"
            return self.refused or missing
        return self.result.message


class Entry(HandedIn):
    """One file that was handed in, with its marks."""

    @property
    def marks(self) -> tuple[Mark, ...]:
        """One per question; none if nothing could be asked."""
        return self.result.marks if self.result else ()

    @property
    def earned(self) -> float | None:
        """Points; None, not 0, if there are no marks."""
        return self.result.earned if self.result and self.marks else None

    @property
    def points(self) -> float | None:
        """Points there are; None if the assignment is not known."""
        return self.result.points if self.result and self.marks else None

    @property
    def assignment(self) -> str:
        """The unit, "" if it could not be told."""
        return self.result.assignment if self.result else ""


def collect(folder: Path) -> list[Entry]:
    """All that was handed in, sorted by name.

    Raises:
        NoResults: there is no index, or it is none of ours.
    """
    names, refused = index(folder)
    entries = [Entry(n, restore(folder / f"{key}.json")) for n, key in names.items()]
    entries += [Entry(n, None, why) for n, why in refused.items() if n not in names]
    return sorted(entries, key=lambda entry: entry.name)


def index(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """The index of a folder: names to hashes, and refused names to the reason.

    Raises:
        NoResults: there is none, or it has another form.
    """
    path = folder / "index.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        names, refused = found["submissions"], found["refused"]
        pairs = [*names.items(), *refused.items()]
        fine = all(isinstance(k, str) and isinstance(v, str) for k, v in pairs)
    except OSError:
        raise NoResults(f"{folder} has no index.json: give a folder of results") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        fine = False
    if not fine or not all(map(HASH.fullmatch, names.values())):
        raise NoResults(f"{path} is no index of results: run 'gdm grade' again")
    return names, refused


def write_index(names: dict[str, str], refused: dict[str, str], folder: Path) -> None:
    """Write which files have which verdict: `index.json`."""
    text = json.dumps({"submissions": names, "refused": refused}, indent=1)
    write(folder / "index.json", text + "\n")


def by_assignment(entries: list[Entry]) -> Iterator[tuple[str, list[Entry]]]:
    """The entries of each unit, by its name; those without a unit are left out."""
    for name in sorted({entry.assignment for entry in entries} - {""}):
        yield name, [entry for entry in entries if entry.assignment == name]


def kind(mark: Mark) -> str:
    """How a question ended, in one word: right, wrong, or why there was no answer."""
    if mark.status in JUDGED:
        return "right" if mark.right else "wrong"
    return mark.status.value
