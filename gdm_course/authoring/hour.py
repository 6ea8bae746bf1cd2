"""The hour of a lecture: its core, its further sections, and how long each of them takes.

What counts, cell by cell (`setup`, `nav` and the lecturer's `notes` never do):

- words: of text, headings, tables and folded answers, but not formulas, code, the targets
  of links and the descriptions of pictures. A word has a letter or a digit.
- lines: of code that is not folded, without empty ones; quoted are those of `from:` cells.
- code cells: all of them, folded ones too.
- questions: paragraphs that begin with **Question, **Predict or **Change.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace

from gdm_course.authoring.percent import Cell, Script
from gdm_course.source import lines

WORDS, QUOTED, OTHER = 140, 8, 20  # read in a minute: words, quoted lines, other lines
QUESTION, RUNNING = 2, 2  # minutes for each question, and for running it all
FURTHER = "## Further: "
NOT_TEXT = re.compile(r"```.*?```|`[^`\n]+`|\$\$.*?\$\$|\$[^$]+\$|<!--.*?-->", re.DOTALL)
_ASKED = re.compile(r"(?:\A|(?<=\n\n))\*\*(Question|Predict|Change)\b")
_UNSEEN = re.compile(r"!\[[^\]]*\]\([^)]*\)|(?<=\])\([^)\s]*(?: \"[^\"]*\")?\)|<[^>]+>")


@dataclass(frozen=True)
class Section:
    """The core of a lecture (title "") or one of its further sections: cells, in order."""

    title: str
    line: int
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Counts:
    """What there is to read and to do in some cells."""

    words: int = 0
    quoted: int = 0  # lines
    other: int = 0  # lines of code that are neither quoted nor folded
    questions: int = 0
    cells: int = 0  # of code
    folded: int = 0  # of them

    @property
    def minutes(self) -> int:
        """How long it takes, running included; 0 if there is nothing."""
        reading = self.words / WORDS + self.quoted / QUOTED + self.other / OTHER
        minutes = reading + QUESTION * self.questions
        return round(minutes + RUNNING) if minutes or self.cells else 0

    def __add__(self, more: "Counts") -> "Counts":
        """Both together."""
        return Counts(
            *(getattr(self, f.name) + getattr(more, f.name) for f in fields(self))
        )


@dataclass(frozen=True)
class Hour:
    """The counts of a lecture: of its core, and of all further sections together."""

    core: Counts
    further: Counts

    def __str__(self) -> str:
        """As the lecture's first lines say it."""
        more = f", and {self.further.minutes} further" if self.further.minutes else ""
        return f"{self.core.minutes} minutes{more}"


def hour(script: Script) -> Hour:
    """Count a lecture whose quoted cells are filled."""
    core, further = Counts(), Counts()
    for section in sections(script):
        found = count(section.cells)
        core, further = (
            (core, further + found) if section.title else (core + found, further)
        )
    return Hour(core, further)


def sections(script: Script) -> list[Section]:
    """The core, then each further section up to the next heading of level 2.

    A heading after them that is not further has the title "" again.
    """
    found = [Section("", 1, ())]
    for part in (part for cell in script.cells for part in _parts(cell)):
        head = part.source.partition("\n")[0] if part.kind == "markdown" else ""
        further = head.startswith(FURTHER)
        if further or (head.startswith("## ") and found[-1].title):
            title = head.removeprefix("## ") if further else ""
            found.append(Section(title, part.line + 1, ()))
        found[-1] = replace(found[-1], cells=(*found[-1].cells, part))
    return found


def count(cells: Iterable[Cell]) -> Counts:
    """Count some cells."""
    return sum((_count(cell) for cell in cells), Counts())


def words(text: str) -> int:
    """The words of a markdown text, as the head of this file counts them."""
    plain = _UNSEEN.sub(" ", blank(text))
    return sum(any(map(str.isalnum, word)) for word in plain.split())


def blank(text: str) -> str:
    """A text with its code and formulas made blank, every letter and line in its place."""
    return NOT_TEXT.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)


def asked(text: str) -> list[re.Match]:
    """Where the questions of a text begin; group 1 is Question, Predict or Change."""
    return list(_ASKED.finditer(blank(text)))


def table(scripts: Iterable[tuple[str, Script]]) -> str:
    """The counts of lectures: a row for each core and each further section, run alone."""
    form = "{:<24} {:<36} {:>7} {:>6} {:>6} {:>6} {:>6} {:>7} {:>9}"
    heads = ["", "minutes", "words", "quoted", "other", "cells", "folded", "questions"]
    rows = [form.format("unit", *heads)]
    for name, script in scripts:
        told = hour(script)
        more = [part for part in sections(script) if part.title]
        parts = [("core", told.core)]
        parts += [
            (f"+ {part.title.removeprefix('Further: ')[:34]}", count(part.cells))
            for part in more
        ]
        parts += [("+ all further", told.further)] if len(more) > 1 else []
        for title, n in parts:
            counted = (n.minutes, n.words, n.quoted, n.other, n.cells, n.folded)
            rows.append(form.format(name, title, *counted, n.questions))
    return "\n".join(rows)


def _parts(cell: Cell) -> Iterator[Cell]:
    """A text cell cut before each heading of level 2; any other cell as it is."""
    if cell.kind != "markdown" or cell.generated or "notes" in cell.tags:
        yield cell
        return
    rows, plain = lines(cell.source), lines(blank(cell.source))
    cuts = [i for i, row in enumerate(plain) if row.startswith("## ") and i]
    for start, end in zip([0, *cuts], [*cuts, len(rows)]):
        source = "\n".join(rows[start:end])
        yield replace(cell, source=source, raw=None, line=cell.line + start)


def _count(cell: Cell) -> Counts:
    if {"setup", "nav", "notes"} & {*cell.tags}:
        return Counts()
    if cell.kind == "markdown":
        return Counts(words=words(cell.source), questions=len(asked(cell.source)))
    seen = sum(bool(row.strip()) for row in lines(cell.source))
    if "fold" in cell.tags:
        return Counts(cells=1, folded=1)
    quoted = cell.quoted is not None
    return Counts(quoted=seen * quoted, other=seen * (not quoted), cells=1)
