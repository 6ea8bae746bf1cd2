"""What lies in a folder of submissions: notebooks, and what every other file is.

A notebook is known by what it holds: browsers save `maf.ipynb.txt`, some systems
`MAF.IPYNB`. Whoever handed in something has a line in the results, even if it is none.
"""

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

from gdm_course.grading.judge.notebook import Rejected, load, read
from gdm_course.grading.marks.ledger import Named
from gdm_course.grading.marks.walk import MACOS, not_entered, walk

CLAIM = re.compile(rb"solutions/([a-z_]{1,40})/src/([a-z_]{1,40})\.py")
SYSTEM = {".ds_store", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"}
MAGIC = {
    b"\0\5\x16\7": MACOS,  # ._NAME beside NAME
    b"PK\3\4": "a zip archive",
    b"PK\5\6": "a zip archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!": "a rar archive",
    b"\x1f\x8b": "a gzip archive",
    b"%PDF": "a PDF document",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
}
ADVICE = "hand in the notebook itself, NAME.ipynb"


@dataclass
class Found:
    """What lies in a folder: distinct notebooks, and all that is none.

    Attributes:
        names: of the files of each hash, relative to the folder.
        paths: one file of each hash.
        refused: why there is nothing to grade, by name: of a file, or "STUDENT/".
        aside: what another file or folder is, by its name; its student has a notebook.
        renamed: notebooks whose names do not end in .ipynb.
        claims: the unit that each hash says it is of: a guess.
    """

    names: dict[str, list[str]] = field(default_factory=dict)
    paths: dict[str, Path] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    aside: dict[str, str] = field(default_factory=dict)
    renamed: list[str] = field(default_factory=list)
    claims: dict[str, str] = field(default_factory=dict)

    @property
    def by_unit(self) -> list[tuple[str, Path]]:
        """Hashes and files, those of a unit in a row: its boxes are warm then."""
        return sorted(self.paths.items(), key=lambda item: self.claims.get(item[0], ""))


def find(folder: Path) -> Found:
    """Look at every file. Links are not followed, archives not opened.

    Raises:
        OSError: the folder itself cannot be read.
    """
    found = Found()
    if folder.is_file():
        _read(found, folder.name, folder)
        return found
    for name, path, what, lost in sorted(walk(folder)):
        if lost:
            found.refused[name] = what
        elif what and _named(name):
            found.refused[name] = f"{what}: {ADVICE}"
        elif what:
            found.aside[name] = what
        elif name.casefold().endswith(".ipynb") and _head(path)[:4] != b"\0\5\x16\7":
            _read(found, name, path)
        else:
            _look(found, name, path)
    _nobody_is_left_out(found)
    return found


def _named(name: str) -> bool:
    """Whether a name says that this is a notebook, whatever a browser made of its end."""
    return re.search(r"(?i)\.ipynb(?!\w)", name.rpartition("/")[2]) is not None


def _read(found: Found, name: str, path: Path) -> None:
    """Enter a notebook, or why it cannot be read."""
    try:
        data, key = load(path)
    except Rejected as error:
        found.refused[name] = str(error)
        return
    found.names.setdefault(key, []).append(name)
    found.paths.setdefault(key, path)
    if claim := CLAIM.search(data):
        found.claims[key] = b"/".join(claim.groups()).decode()


def _look(found: Found, name: str, path: Path) -> None:
    """Look into a file whose name does not end in .ipynb: a notebook all the same?"""
    head = _head(path)
    what = _kind(path.name, head)
    if _named(name) or head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{":
        try:
            read(load(path)[0])
        except Rejected as error:
            what = str(error) if _named(name) and what != MACOS else what
        else:
            found.renamed.append(name)
            return _read(found, name, path)
    found.aside[name] = what


def _head(path: Path) -> bytes:
    flags = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        handle = os.open(path, os.O_RDONLY | flags)
    except OSError:
        return b""
    try:
        return os.read(handle, 512) if stat.S_ISREG(os.fstat(handle).st_mode) else b""
    except OSError:
        return b""
    finally:
        os.close(handle)


def _kind(name: str, head: bytes) -> str:
    """What a file is, by how it begins."""
    if name.casefold() in SYSTEM:
        return "left by the system"
    if what := next((w for begin, w in MAGIC.items() if head.startswith(begin)), ""):
        return what
    if head[257:262] == b"ustar":
        return "a tar archive"
    if re.match(rb"\s*<(!doctype\s+)?html", head, re.IGNORECASE):
        return "a web page"
    if name.casefold().endswith(".py"):
        return "a Python script"
    return "a file of another kind" if head else "an empty file"


def _nobody_is_left_out(found: Found) -> None:
    """A line for each student of whom there is no notebook; systems are no students."""
    have = {Named(n).student for n in found.refused}
    have |= {Named(n).student for names in found.names.values() for n in names}
    without: dict[str, list[str]] = {}
    for name in found.aside:
        first = name.partition("/")[0]
        if not (not_entered(first) or first.casefold() in SYSTEM or first[:2] == "._"):
            without.setdefault(Named(name).student, []).append(name)
    for student, names in without.items():
        if student in have:
            continue
        if len(names) == 1:
            what = found.aside.pop(names[0])
            found.refused[names[0]] = f"no notebook here ({what}): {ADVICE}"
            continue
        few = "; ".join(f"{n.partition('/')[2] or n}: {found.aside[n]}" for n in names[:3])
        more = f"; and {len(names) - 3} more" if len(names) > 3 else ""
        found.refused[f"{student}/"] = f"no notebook here ({few}{more}): {ADVICE}"
