"""What was handed in, over all runs into one folder of results: its `index.json`."""

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from itertools import count, takewhile
from pathlib import Path, PurePosixPath

from gdm_course.grading.judge.verdict import write

HASH = re.compile(r"[0-9a-f]{64}")
END = re.compile(r"(?is)\.ipynb(?!\w).*")  # .ipynb, and what a browser puts after it


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
        if rest or self.name.endswith("/"):
            return first
        begin = END.split(first)[0]
        return begin if begin not in ("", first) else PurePosixPath(first).stem


@dataclass
class Handed:
    """One file that was handed in.

    Attributes:
        own: its name as it was found; another file of that name is shown with a number.
        key: its hash; "" if it was not read.
        why: it was not read; "" if it was.
        path: where it lay; "" if that is not known.
        run: the number of the run that brought it.
    """

    own: str
    key: str = ""
    why: str = ""
    path: str = ""
    run: int = 0


@dataclass
class Ledger:
    """All files of all runs.

    Attributes:
        files: by the name that is shown.
        replaced: older files, in whose place a newer one lies.
        aside: what was not read, by where it lies: its name, and what it is.
        roots: the folders that were graded.
    """

    files: dict[str, Handed] = field(default_factory=dict)
    replaced: list[Handed] = field(default_factory=list)
    aside: dict[str, list[str]] = field(default_factory=dict)
    roots: list[str] = field(default_factory=list)

    @property
    def names(self) -> dict[str, str]:
        """The hash of every file that was read."""
        return {name: one.key for name, one in self.files.items() if one.key}

    @property
    def refused(self) -> dict[str, str]:
        """Why every other one was not."""
        return {name: one.why for name, one in self.files.items() if not one.key}

    @property
    def runs(self) -> int:
        """The number of the last run that brought something."""
        return max((one.run for one in self.files.values()), default=0)

    def enter(self, one: Handed) -> str:
        """Give a file a line; returns its name there, numbered if it is taken."""
        taken = sum(1 for _ in called(self, one.own))
        name = f"{one.own} ({taken + 1})" if taken else one.own
        self.files[name] = one
        return name


def keep(ledger: Ledger, folder: Path) -> None:
    """Write it into a folder of results."""
    files = ledger.files.items()
    more = {n: {"own": h.own, "path": h.path, "run": h.run} for n, h in files}
    data = {"submissions": ledger.names, "refused": ledger.refused, "files": more}
    data |= {"replaced": [asdict(one) for one in ledger.replaced]}
    data |= {"aside": ledger.aside, "roots": ledger.roots}
    write(folder / "index.json", json.dumps(data, indent=1) + "\n")


def called(ledger: Ledger, own: str) -> Iterator[str]:
    """The names in a row that are taken: own, own (2), own (3)..."""
    names = (f"{own} ({number})" if number > 1 else own for number in count(1))
    return takewhile(ledger.files.__contains__, names)


def read(folder: Path, empty: bool = False) -> Ledger:
    """The ledger of a folder of results.

    Args:
        folder: of results.
        empty: a folder without one is new.

    Raises:
        NoResults: there is none, or it cannot be read.
    """
    path = folder / "index.json"
    try:
        return _ledger(json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        if empty and folder.is_dir():
            return Ledger()
        raise NoResults(f"{folder} has no index.json: give a folder of results") from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise NoResults(
            f"{path} is no index of results, so nobody knows whose verdicts lie there: "
            "bring it back from a backup, or grade everything into a new --out"
        ) from None


def _ledger(data: dict) -> Ledger:
    """A ledger of plain data.

    Raises:
        ValueError, TypeError, LookupError, AttributeError: it has another form.
    """
    more, names, refused = data.get("files", {}), data["submissions"], data["refused"]
    files = {name: Handed(**{"own": name, **more.get(name, {})}) for name in refused}
    files |= {name: Handed(**{"own": name, **more.get(name, {})}) for name in names}
    for name, one in files.items():
        one.key, one.why = names.get(name, ""), "" if name in names else refused[name]
    replaced = [Handed(**one) for one in data.get("replaced", [])]
    made = Ledger(files, replaced, data.get("aside", {}), data.get("roots", []))
    for one in (*files.values(), *replaced):
        _must_be(str, one.own, one.key, one.why, one.path)
        _must_be(int, one.run)
        if one.key and not HASH.fullmatch(one.key):
            raise ValueError(one.key)
    for what in made.aside.values():
        _must_be(str, *what)
    _must_be(str, *made.roots)
    return made


def _must_be(kind: type, *values: object) -> None:
    if not all(type(value) is kind for value in values):
        raise TypeError(f"expected {kind}")
