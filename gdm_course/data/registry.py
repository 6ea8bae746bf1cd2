"""Which data sets the course knows; the table itself is `registry.toml`, beside it."""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class File:
    """One file of a data set.

    Attributes:
        path: below the data folder, with forward slashes.
        size, sha256: in bytes and hexadecimal; None for a file that a user made.
        urls: mirrors, tried in this order; empty for a file that is local only.
    """

    path: str
    size: int | None = None
    sha256: str | None = None
    urls: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """One data set.

    Attributes:
        name, title: how the code and how people call it.
        terms: its licence, or what is known of it.
        instead: what to use without it.
        forms: equivalent sets of files; any one serves.
    """

    name: str
    title: str
    terms: str
    instead: str
    forms: tuple[tuple[File, ...], ...]

    @property
    def downloads(self) -> tuple[File, ...]:
        """The files to download; none for a data set that is local only."""
        return next((form for form in self.forms if all(f.urls for f in form)), ())


def _file(entry: dict, mirrors: list[str]) -> File:
    names = entry.get("at") or [entry["path"].rpartition("/")[2]] * len(mirrors)
    urls = tuple(base + name for base, name in zip(mirrors, names, strict=True))
    return File(entry["path"], entry.get("size"), entry.get("sha256"), urls)


@cache
def datasets() -> dict[str, Dataset]:
    """Return every data set by name, in the order of the table."""
    table = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    found = {}
    for name, row in table.items():
        forms = tuple(
            tuple(_file(entry, form.get("mirrors", [])) for entry in form["files"])
            for form in row["forms"]
        )
        found[name] = Dataset(name, row["title"], row["terms"], row["instead"], forms)
    return found


def dataset(name: str) -> Dataset:
    """Look up a data set.

    Raises:
        ValueError: no data set has that name; the message lists those that exist.
    """
    if name not in datasets():
        raise ValueError(
            f"no data set is called {name!r}: choose from {', '.join(datasets())}"
        )
    return datasets()[name]
