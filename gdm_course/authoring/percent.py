"""Percent scripts: cells marked by `# %%` lines. Read and written here, byte for byte.

The same format as jupytext's (a test compares the two on every script), read in a thirtieth
of the time: jupytext alone takes over a second to import.
"""

import json
import re
from dataclasses import dataclass, field, replace

from gdm_course.source import lines

MARK = "# %%"
_OPTIONS = re.compile(r"^ *(?P<kind>\[markdown\])? *(?:tags=(?P<tags>\[.*\]))? *$")
_MAGIC = re.compile(r"^(\s*)# ([%!][a-zA-Z%./].*)$")  # "# %pip install x", as jupytext does


class AuthoringError(Exception):
    """Something in a script, course.toml or the package that its author has to repair."""


@dataclass(frozen=True)
class Cell:
    """One cell of a script.

    Attributes:
        kind: "code" or "markdown".
        source: what the notebook shows, without trailing newline.
        tags: of the cell.
        raw: its lines in the script, or None to write them from `source`.
        gap: empty lines after it in the script.
        line: of its `# %%`, counted from 1.
    """

    kind: str
    source: str
    tags: tuple[str, ...] = ()
    raw: tuple[str, ...] | None = None
    gap: int = 1
    line: int = 0

    @property
    def quoted(self) -> str | None:
        """The dotted name after `from:`, or None."""
        names = [tag.removeprefix("from:") for tag in self.tags if tag.startswith("from:")]
        return names[0] if names else None

    @property
    def generated(self) -> bool:
        """Whether sync fills the cell, so that nobody else may edit it."""
        return self.quoted is not None or bool({"setup", "nav"} & {*self.tags})

    def with_source(self, source: str) -> "Cell":
        """The same cell with another text."""
        return self if source == self.source else replace(self, source=source, raw=None)


@dataclass(frozen=True)
class Script:
    """A percent script: its cells, and the lines before the first one."""

    name: str  # for messages: "lectures/flows/src/realnvp.py"
    cells: tuple[Cell, ...]
    head: tuple[str, ...] = field(default=())


def read(text: str, name: str) -> Script:
    """Split a script into cells.

    Raises:
        AuthoringError: a mark, a tag list or a markdown cell is malformed.
    """
    rows = lines(text)
    marks = [i for i, line in enumerate(rows) if re.match(r"# ?%%(?!%)( |$)", line)]
    head = rows[: marks[0]] if marks else rows
    if any(line.strip() and not line.startswith("#") for line in head):
        raise AuthoringError(
            f"{name}: code before the first '# %%' line: start with a cell"
        )
    cells = [
        _cell(rows[start:end], f"{name}:{start + 1}", start + 1)
        for start, end in zip(marks, [*marks[1:], len(rows)])
    ]
    return Script(name, tuple(cells), tuple(head))


def write(script: Script) -> str:
    """The text of a script: what `read` has read, if nothing changed."""
    rows = list(script.head)
    for cell in script.cells:
        rows += [mark(cell), *body(cell), *[""] * cell.gap]
    return "\n".join(rows).rstrip("\n") + "\n"


def mark(cell: Cell) -> str:
    """The `# %%` line of a cell."""
    kind = [] if cell.kind == "code" else [f"[{cell.kind}]"]
    tags = [f"tags={json.dumps([*cell.tags], ensure_ascii=False)}"] if cell.tags else []
    return " ".join([MARK, *kind, *tags])


def body(cell: Cell) -> tuple[str, ...]:
    """The lines of a cell in the script."""
    if cell.raw is not None:
        return cell.raw
    rows = lines(cell.source)
    if cell.kind == "markdown":
        return tuple(f"# {line}" if line.strip() else "#" for line in rows)
    return tuple(re.sub(r"^(\s*)([%!][a-zA-Z%./].*)$", r"\1# \2", line) for line in rows)


def _cell(rows: list[str], place: str, number: int) -> Cell:
    options = _OPTIONS.match(
        rows[0].removeprefix("# ").removeprefix("#").removeprefix("%%")
    )
    if options is None:
        raise AuthoringError(
            f"{place}: '{rows[0]}' is no cell mark: write '# %%', then [markdown] or "
            'nothing, then tags=["..."] or nothing'
        )
    kind = "markdown" if options["kind"] else "code"
    raw, gap = _trim(rows[1:])
    source = "\n".join(_markdown(raw, place) if kind == "markdown" else map(_code, raw))
    return Cell(kind, source.strip("\n"), _tags(options["tags"], place), raw, gap, number)


def _trim(rows: list[str]) -> tuple[tuple[str, ...], int]:
    """Cut empty lines at the end: the body and how many there were."""
    end = len(rows)
    while end and not rows[end - 1].strip():
        end -= 1
    return tuple(rows[:end]), len(rows) - end


def _tags(text: str | None, place: str) -> tuple[str, ...]:
    try:
        tags = json.loads(text or "[]")
    except json.JSONDecodeError:
        raise AuthoringError(
            f'{place}: tags={text} is no list such as tags=["notes"]'
        ) from None
    if sum(tag.startswith("from:") for tag in tags) > 1:
        raise AuthoringError(
            f"{place}: a cell quotes one definition, not several: split it"
        )
    return tuple(tags)


def _markdown(rows: tuple[str, ...], place: str) -> list[str]:
    for line in rows:
        if line.strip() and not line.startswith("#"):
            raise AuthoringError(
                f"{place}: '{line}' in a markdown cell must start with '# '"
            )
    return [line.removeprefix("#").removeprefix(" ") for line in rows]


def _code(line: str) -> str:
    return _MAGIC.sub(r"\1\2", line)
