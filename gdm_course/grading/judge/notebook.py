"""Read a stranger's notebook: bytes to code cells, or one declared error.

Nothing of it is executed and no archive is opened. Sizes are counted before JSON is parsed:
a file of a few megabytes can otherwise ask for gigabytes.
"""

import json
import os
import re
import stat
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

MIB = 1024 * 1024
MAX_BYTES, MAX_SOURCE = 16 * MIB, 6 * MIB
MAX_CELLS, MAX_DEPTH = 2_000, 40
MAX_CONTAINERS, MAX_STRINGS, MAX_ITEMS = 200_000, 500_000, 1_000_000
# Strings, skipped without a stack. Possessive, and one that never ends is a string up to
# the end: so each byte is looked at once, and no input makes it slow.
STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
HARMFUL = re.compile("[\x00\ud800-\udfff]")  # what Python refuses to compile


class Rejected(Exception):
    """This file is no notebook that can be graded; the sentence says what to do."""


@dataclass(frozen=True)
class Cell:
    """A code cell: its source, the grade_id it claims to have ("" for none), its tags."""

    source: str
    grade_id: str = ""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Notebook:
    """What the grader keeps of a notebook: code cells, and which unit it says it is of."""

    cells: tuple[Cell, ...]
    claims: str = ""  # metadata.gdm.source, "solutions/foundations/src/densities.py"


def load(path: Path) -> tuple[bytes, str]:
    """Return the bytes of a submission and their hash.

    Raises:
        Rejected: a link, pipe, device or folder, or more than 16 MiB.
    """
    names = ("O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK", "O_BINARY")  # each where it exists
    flags = os.O_RDONLY
    for name in names:
        flags |= getattr(os, name, 0)
    try:
        handle = os.open(path, flags)
    except OSError as error:
        raise Rejected(f"the file cannot be opened: {error.strerror}") from None
    about = os.fstat(handle)
    try:
        _must_be_a_file(about)
        data = os.read(handle, MAX_BYTES + 1)
    finally:
        os.close(handle)
    return data, sha256(data).hexdigest()


def _must_be_a_file(about: os.stat_result) -> None:
    if not stat.S_ISREG(about.st_mode):
        raise Rejected("no regular file: hand in the notebook itself")
    if about.st_size > MAX_BYTES:
        raise Rejected(
            f"{about.st_size / MIB:.0f} MiB, at most {MAX_BYTES // MIB} are read: "
            "clear the outputs (Edit, Clear All Outputs) and hand in again"
        )


def read(data: bytes) -> Notebook:
    """Read the bytes of an `.ipynb`.

    Raises:
        Rejected: whatever is wrong with them.
    """
    _measure(data)
    found = _parse(data)
    if not isinstance(found, dict) or not isinstance(found.get("cells", []), list):
        raise Rejected("JSON, but no notebook: hand in the .ipynb file")
    version = found.get("nbformat")
    if type(version) is not int or version != 4:
        shown = version if type(version) is int and 0 < version < 1000 else "unknown"
        raise Rejected(
            f"notebook format {shown}, expected 4: open it in JupyterLab and save it, or "
            "run 'jupyter nbconvert --to notebook --nbformat 4 FILE'"
        )
    if "cells" not in found:
        raise Rejected("a notebook without cells")
    if len(found["cells"]) > MAX_CELLS:
        raise Rejected(f"more than {MAX_CELLS} cells")
    cells = tuple(c for raw in found["cells"] if (c := _cell(raw)) is not None)
    if sum(len(cell.source) for cell in cells) > MAX_SOURCE:
        raise Rejected(f"more than {MAX_SOURCE // MIB} MiB of code")
    return Notebook(cells, _claim(found.get("metadata")))


def _measure(data: bytes) -> None:
    """Bound size, nesting and number of items before anything is parsed."""
    if len(data) > MAX_BYTES:
        raise Rejected(f"more than {MAX_BYTES // MIB} MiB: clear the outputs")
    if not data.strip():
        raise Rejected("an empty file")
    if data[:4] == b"PK\x03\x04":
        raise Rejected("a zip archive: hand in the .ipynb file itself")
    bare, strings = STRING.subn(b"", data, count=MAX_STRINGS + 1)
    items = bare.count(b",") + bare.count(b":")
    brackets = max(bare.count(b"[") + bare.count(b"{"), bare.count(b"]") + bare.count(b"}"))
    if strings > MAX_STRINGS or brackets > MAX_CONTAINERS or items > MAX_ITEMS:
        raise Rejected("too many items: clear the outputs and hand in again")
    depth = deepest = 0
    for mark in re.findall(rb"[\[\]{}]", bare):
        depth += 1 if mark in b"[{" else -1
        deepest = max(deepest, depth)
    if deepest > MAX_DEPTH:
        raise Rejected(f"nested {deepest} deep, at most {MAX_DEPTH} levels are read")


def _parse(data: bytes) -> Any:
    try:
        return json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise Rejected("not UTF-8 text: hand in the .ipynb as Jupyter saved it") from None
    except (ValueError, RecursionError):
        # also of integers with more digits than Python converts
        raise Rejected("no valid JSON: hand in the .ipynb as Jupyter saved it") from None


def _cell(raw: Any) -> Cell | None:
    """A code cell, or None for another kind of cell."""
    if not isinstance(raw, dict) or not isinstance(raw.get("cell_type"), str):
        raise Rejected("a cell without a type")
    source = raw.get("source", "")
    if isinstance(source, list) and all(isinstance(line, str) for line in source):
        source = "".join(source)
    if not isinstance(source, str):
        raise Rejected("a cell whose source is neither text nor lines of text")
    if raw["cell_type"] != "code":
        return None
    metadata = raw.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    nbgrader, tags = metadata.get("nbgrader"), metadata.get("tags")
    identity = nbgrader.get("grade_id") if isinstance(nbgrader, dict) else ""
    kept = [t for t in tags if isinstance(t, str)] if isinstance(tags, list) else []
    return Cell(
        HARMFUL.sub("\N{REPLACEMENT CHARACTER}", _plain_text(source)),
        identity if isinstance(identity, str) else "",
        tuple(kept[:20]),
    )


def _plain_text(source: str) -> str:
    """Line ends as Python writes them, and no byte order mark, which it does not read."""
    return source.removeprefix("\N{BYTE ORDER MARK}").replace("\r\n", "\n")


def _claim(metadata: Any) -> str:
    gdm = metadata.get("gdm") if isinstance(metadata, dict) else None
    source = gdm.get("source") if isinstance(gdm, dict) else ""
    return source if isinstance(source, str) and len(source) < 200 else ""
