"""A folder of results, read back: who handed in what, and what the judge said of it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from gdm_course.grading.judge.verdict import JUDGED, Mark, Result, Status, restore
from gdm_course.grading.marks.ledger import Ledger, Named, read

NOT_GRADED = "not graded"  # no verdict is stored: this is no mark, and no status of one


@dataclass(frozen=True)
class HandedIn(Named):
    """What became of one file as a whole.

    Attributes:
        name: of the file.
        result: the verdict; None if there is none.
        refused: why the file was not even read; "" if it was.
        run: the number of the run that brought it.
        newer: the name of a later file that was called the same; "" if there is none.
    """

    result: Result | None = None
    refused: str = ""
    run: int = 0
    newer: str = ""

    @property
    def status(self) -> str:
        """The status of the whole submission."""
        if self.refused:
            return Status.MALFORMED.value
        return self.result.status.value if self.result else NOT_GRADED

    @property
    def message(self) -> str:
        """A sentence about the whole submission, often ""."""
        missing = "no verdict is stored: run 'gdm grade' again"
        said = self.result.message if self.result else self.refused or missing
        newer = f"a later file has the same name: {self.newer}" if self.newer else ""
        return "; ".join(filter(None, [said, newer]))


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
    return entries(read(folder), folder)


def entries(ledger: Ledger, folder: Path) -> list[Entry]:
    """What became of each file of a ledger, sorted by name."""
    found = [
        Entry(name, restore(folder / f"{one.key}.json"), one.why, one.run)
        for name, one in sorted(ledger.files.items())
    ]
    last: dict[tuple[str, str], Entry] = {}
    for entry in sorted(found, key=lambda entry: entry.run):
        last[ledger.files[entry.name].own, entry.assignment] = entry
    newest = [last[ledger.files[entry.name].own, entry.assignment] for entry in found]
    return [
        entry if entry is new else replace(entry, newer=new.name)
        for entry, new in zip(found, newest)
    ]


def replaced(ledger: Ledger, folder: Path) -> list[Entry]:
    """The files in whose place a newer one lies, with the verdicts on them."""
    return [
        Entry(one.own, restore(folder / f"{one.key}.json"), "", one.run)
        for one in ledger.replaced
    ]


def by_assignment(entries: list[Entry]) -> Iterator[tuple[str, list[Entry]]]:
    """The entries of each unit, by its name; those without a unit are left out."""
    for name in sorted({entry.assignment for entry in entries} - {""}):
        yield name, [entry for entry in entries if entry.assignment == name]


def kind(mark: Mark) -> str:
    """How a question ended, in one word: right, wrong, or why there was no answer."""
    if mark.status in JUDGED:
        return "right" if mark.right else "wrong"
    return mark.status.value


def versions(entries: list[Entry]) -> dict[str, int]:
    """Units with marks of several versions of the assignment, and of how many."""
    found: dict[str, set[str]] = {}
    for entry in entries:
        if entry.result and entry.marks:
            found.setdefault(entry.assignment, set()).add(entry.result.fingerprint)
    return {unit: len(those) for unit, those in found.items() if len(those) > 1}
