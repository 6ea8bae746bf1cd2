"""The rules by which runs into one folder of results add up; see docs/grading.md.

A file is known by where it lies, and is shown under its name in the outermost folder that
was ever graded into these results:

1. other bytes in the same place are a newer file: it counts, and the older one is listed
   as replaced (unless they are of two units: then both are listed);
2. the same name and bytes elsewhere are the same file, in a folder that was moved;
3. the same name with other bytes elsewhere is another file: `NAME (2)`;
4. what lay there before and is gone stays.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from gdm_course.grading.judge.verdict import clear, restore
from gdm_course.grading.marks.gather import Found
from gdm_course.grading.marks.inert import shown
from gdm_course.grading.marks.ledger import Handed, Ledger, keep, read
from gdm_course.grading.marks.turns import alone

FEW = 10  # names in a line


@dataclass
class Change:
    """What a run changed, as far as somebody should know: names of files."""

    replaced: list[str] = field(default_factory=list)
    second: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)


def enter(found: Found, place: Path, out: Path) -> list[str]:
    """Enter what a run found into a folder of results; lines for whoever grades.

    Raises:
        NoResults: the folder has an index that cannot be read.
        OSError: it cannot be written to.
    """

    def unit(key: str) -> str:
        result = restore(out / f"{key}.json")
        return result.assignment if result else ""

    with alone(out):
        clear(out)
        book = read(out, empty=True)
        change = add(book, found, place, unit)
        keep(book, out)
    now = sum(map(len, found.names.values())) + len(found.refused)
    lines = [
        _told(
            "there are notebooks under other names, read all the same",
            sorted(found.renamed),
        ),
        _told("no notebooks, not read (see aside.csv)", sorted(found.aside)),
        _told("a newer file replaces one of before", change.replaced),
        _told("another file has that name already, so both are listed", change.second),
        _told(f"no longer in {place}, kept from before", change.gone),
    ]
    if more := len(book.files) - now:
        lines.append(f"{more} more files are from earlier runs, {len(book.files)} in all")
    return [line for line in lines if line]


def _told(what: str, names: list[str]) -> str:
    """One line that names a few of them; "" if there are none."""
    few = ", ".join(shown(name) for name in names[:FEW])
    more = f" and {len(names) - FEW} more" if len(names) > FEW else ""
    return f"{what}: {few}{more}" if names else ""


def add(ledger: Ledger, found: Found, place: Path, unit: Callable[[str], str]) -> Change:
    """Enter what a run found.

    Args:
        ledger: of all runs before; it is changed.
        found: in the folder, or of the one file.
        place: the folder, or the file.
        unit: of a hash that was judged before; "" if that is not known.
    """
    place = place.resolve()
    given = place if place.is_dir() else place.parent
    if place.is_dir() and str(place) not in ledger.roots:
        ledger.roots.append(str(place))
    above = [root for root in map(Path, ledger.roots) if given.is_relative_to(root)]
    base = min(above, key=lambda root: len(root.parts), default=given)
    new = [(n, key, "") for key, names in found.names.items() for n in names]
    new += [(n, "", why) for n, why in found.refused.items()]
    runs = _Runs(ledger, ledger.runs + 1)
    for name, key, why in sorted(new):
        own = (given / name).relative_to(base).as_posix() + "/" * name.endswith("/")
        one = Handed(own, key, why, str(given / name), runs.number)
        runs.bring(one, lambda old, key=key: _apart(unit(old), found.claims.get(key, "")))
    _miss(runs, place, {str(given / name) for name, _, _ in new})
    now = {(one.own, one.key) for one in ledger.files.values()}
    ledger.replaced = [r for r in ledger.replaced if (r.own, r.key) not in now]
    kept = {p: what for p, what in ledger.aside.items() if not _below(place, p)}
    aside = {str(given / n): [n, what] for n, what in found.aside.items()}
    ledger.aside = kept | aside
    return runs.change


def _apart(one: str, other: str) -> bool:
    """Whether two files are known to be of two units."""
    return bool(one and other and one != other)


def _below(place: Path, path: str) -> bool:
    return bool(path) and Path(path).is_relative_to(place)


class _Runs:
    """A ledger that is added to, with the names of its files by place and by own name."""

    def __init__(self, ledger: Ledger, number: int):
        self.ledger, self.number, self.change = ledger, number, Change()
        self.at = {one.path: name for name, one in ledger.files.items() if one.path}
        self.called: dict[str, list[str]] = {}
        for name, one in ledger.files.items():
            self.called.setdefault(one.own, []).append(name)

    def bring(self, one: Handed, apart: Callable[[str], bool]) -> None:
        """Enter one file; what lay in its place goes, unless it is of another unit."""
        name = self.at.get(one.path, "")
        old = self.ledger.files.get(name)
        if old is None or (one.key and old.key != one.key and apart(old.key)):
            if old is not None:
                old.path = ""  # both count: the new one lies there now
            return _enter(self, one)
        if (old.key, old.own) == (one.key, one.own):
            old.why = one.why
            return
        _remove(self, name)
        if old.key == one.key:  # it only has another name now
            one.run = old.run
        elif old.key:
            self.ledger.replaced.append(old)
            self.change.replaced.append(name)
        _enter(self, one)


def _enter(runs: _Runs, one: Handed) -> None:
    """Give it a line, unless the same file has one under the same name."""
    for name in [*runs.called.get(one.own, [])]:
        old = runs.ledger.files[name]
        if old.key == one.key:
            old.path, old.why = one.path, one.why
            runs.at[one.path] = name
            return
        if one.key and not old.key:  # now there is a file that can be read
            _remove(runs, name)
    name = runs.ledger.enter(one)
    runs.at[one.path] = name
    runs.called.setdefault(one.own, []).append(name)
    if name != one.own:
        runs.change.second.append(name)


def _remove(runs: _Runs, name: str) -> None:
    old = runs.ledger.files.pop(name)
    runs.called[old.own].remove(name)
    runs.at.pop(old.path, None)


def _miss(runs: _Runs, place: Path, seen: set[str]) -> None:
    """Note what lay there before and does not now; no file is lost with it."""
    for name, one in [*runs.ledger.files.items()]:
        if _below(place, one.path) and one.path not in seen:
            if one.key:
                runs.change.gone.append(name)
            else:
                _remove(runs, name)
