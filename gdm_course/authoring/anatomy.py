"""Rules of the hour: how long a core may be, what it asks, who needs which section.

They hold for every unit but a sheet (`anatomy = "sheet"` in course.toml); those of folded
cells hold everywhere.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterator

from gdm_course.authoring import hour
from gdm_course.authoring.derive import Plan, Problem
from gdm_course.authoring.names import Names, imported, names, parse
from gdm_course.authoring.percent import Cell, Script

LIMITS = {"minutes": 65, "words": 2000, "quoted": 180, "cells": 26}  # of a core
LEAST = {"Question": 0, "Predict": 2, "Change": 1}
QUESTIONS = 5
TITLE = re.compile(r"# ?@title +([^`$\\{}*_<>=#|\[\]\n]+)(\n|$)")
_TAG = re.compile(r"\\tag\{(\d+)\}")
_REFERENCE = re.compile(r"(?<![\w\])])\((\d{1,2})\)")
_ANSWER = re.compile(
    r"<details[^>]*>\s*<summary>\s*Answer.*?</summary>.*?</details>", re.DOTALL
)


def problems(made: Plan) -> Iterator[Problem]:
    """Everything that breaks a rule of the hour."""
    for script in made.scripts.values():
        yield from _folded(script)
    for unit in made.course.units.values():
        lecture = made.scripts.get(unit.script("lectures"))
        if lecture is None or unit.sheet:
            continue
        yield from _long(lecture)
        yield from _asked(lecture)
        yield from _equations(lecture)
        yield from _sections(lecture)
        if solution := made.scripts.get(unit.script("solutions")):
            yield from _exercise(lecture, solution)


def _folded(script: Script) -> Iterator[Problem]:
    for cell in script.cells:
        if "fold" not in cell.tags:
            continue
        place = f"{script.name}:{cell.line}"
        if cell.kind != "code":
            yield Problem(f"{place}: 'fold' is for code: text for the lecturer is 'notes'")
        elif cell.quoted is not None:
            yield Problem(
                f"{place}: a quoted definition is there to be read: do not fold it"
            )
        elif not TITLE.match(cell.source):
            yield Problem(
                f"{place}: a folded cell must begin with '# @title' and what it draws, in "
                "plain words, for that line is all that a reader sees of it"
            )


def _long(script: Script) -> Iterator[Problem]:
    core = hour.hour(script).core
    folded = f" ({core.folded} of them folded)" if core.folded else ""
    told = {
        "minutes": f"takes {core.minutes} minutes",
        "words": f"has {core.words:,} words",
        "quoted": f"quotes {core.quoted} lines",
        "cells": f"has {core.cells} code cells{folded}",
    }
    for name, most in LIMITS.items():
        if getattr(core, name) > most:
            yield Problem(
                f"{script.name}:1: the core {told[name]}, at most {most:,} are an hour: "
                f"shorten it, or move a part behind it as '{hour.FURTHER}...'"
            )


def _texts(script: Script) -> list[Cell]:
    """The text cells that a student reads."""
    others = {"nav", "notes"}
    return [c for c in script.cells if c.kind == "markdown" and not others & {*c.tags}]


def _asked(script: Script) -> Iterator[Problem]:
    core = [cell for part in hour.sections(script) if not part.title for cell in part.cells]
    texts = [cell.source for cell in _texts(Script(script.name, tuple(core)))]
    kinds = Counter(match[1] for text in texts for match in hour.asked(text))
    few = any(kinds[kind] < least for kind, least in LEAST.items())
    if few or kinds.total() < QUESTIONS:
        found = ", ".join(f"{kinds[kind]} **{kind}" for kind in LEAST)
        yield Problem(
            f"{script.name}:1: the core has only these questions: {found}: ask at least "
            f"{QUESTIONS}, of which {LEAST['Predict']} begin with **Predict and "
            f"{LEAST['Change']} with **Change"
        )
    texts = _texts(script)
    for cell, after in zip(texts, [*(text.source for text in texts[1:]), ""]):
        yield from _answers(cell, after, script.name)


def _answers(cell: Cell, after: str, name: str) -> Iterator[Problem]:
    """Questions of a cell that neither it nor the beginning of the next text answers."""
    found, next_asks = hour.asked(cell.source), hour.asked(after)
    before = after[: next_asks[0].start()] if next_asks else after
    ends = [match.start() for match in found[1:]]
    for match, end in zip(found, [*ends, None]):
        text = cell.source[match.start() : end] + (before if end is None else "")
        if not _ANSWER.search(text):
            line = cell.line + 1 + cell.source.count("\n", 0, match.start())
            yield Problem(
                f"{name}:{line}: the **{match[1]} has no answer: fold one into <details>"
                "<summary>Answer</summary> ... </details>, here or in the next text cell"
            )


def _equations(script: Script) -> Iterator[Problem]:
    texts, last, known = _texts(script), 0, set()
    for cell in texts:
        for match in _TAG.finditer(cell.source):
            number, line = int(match[1]), cell.source.count("\n", 0, match.start())
            known.add(number)
            if number != last + 1:
                yield Problem(
                    f"{script.name}:{cell.line + 1 + line}: equation ({number}) follows "
                    f"({last}): number equations in the order in which they appear"
                )
            last = number
    for line, text in _with_references(script, texts):
        for match in _REFERENCE.finditer(text):
            if int(match[1]) not in known:
                at = line + text.count("\n", 0, match.start())
                yield Problem(
                    f"{script.name}:{at}: {match[0]} is no equation of this lecture: "
                    "write a number in brackets for equations only"
                )


def _with_references(script: Script, texts: list[Cell]) -> Iterator[tuple[int, str]]:
    """What may refer to equations, with its line: text, and docstrings of quotes."""
    for cell in texts:
        yield cell.line + 1, hour.blank(cell.source)
    for cell in script.cells:
        kinds = ast.FunctionDef | ast.ClassDef
        for node in ast.walk(parse(cell.source)) if cell.quoted else ():
            if isinstance(node, kinds) and ast.get_docstring(node, clean=False):
                first = node.body[0]
                yield cell.line + first.lineno, ast.get_docstring(node, clean=False)


def _sections(script: Script) -> Iterator[Problem]:
    """Names that cross from one section into another, and sections out of place."""
    core, further = _bound(script)
    for part in hour.sections(script)[1:]:
        if not part.title:
            yield Problem(
                f"{script.name}:{part.line}: this section is not further, but comes after "
                "one that is: further sections come last"
            )
    for name, line in core.needed.items():
        for title in _owners(name, further) if name not in core.bound else []:
            yield _crossing(f"{script.name}:{line}", "the core", name, title)
    for i, (here, own) in enumerate(further):
        for name, line in own.needed.items():
            if name not in core.bound:
                titles = _owners(name, [*further[:i], *further[i + 1 :]])
            else:  # it was the core's, unless an earlier section has made another of it
                titles = [title for title, found in further[:i] if name in found.made]
            for title in titles:
                yield _crossing(f"{script.name}:{line}", f"'{here}'", name, title)


def _exercise(lecture: Script, solution: Script) -> Iterator[Problem]:
    """Names that an exercise needs and only a further section gives."""
    core, further = _bound(lecture)
    for name, line in names(solution.cells).needed.items():
        for title in _owners(name, further) if name not in core.bound else []:
            yield _crossing(f"{solution.name}:{line}", "the exercise", name, title)
    given = imported(solution.cells)
    for part in hour.sections(lecture):
        for dotted in [cell.quoted for cell in part.cells if part.title and cell.quoted]:
            if dotted in given and dotted.split(".")[-1] not in core.bound:
                place = f"{solution.name}:{given[dotted]}"
                yield _crossing(place, "the exercise", dotted, part.title)


def _bound(script: Script) -> tuple[Names, list[tuple[str, Names]]]:
    """The names of the core, and of each further section with its title."""
    parts = hour.sections(script)
    core = names(cell for part in parts if not part.title for cell in part.cells)
    return core, [(part.title, names(part.cells)) for part in parts if part.title]


def _owners(name: str, further: list[tuple[str, Names]]) -> list[str]:
    return [title for title, found in further if name in found.bound]


def _crossing(place: str, who: str, name: str, title: str) -> Problem:
    return Problem(
        f"{place}: {who} uses '{name}', which '{title}' binds: a further section may be "
        "left out, so bind it in the core, or give it another name there"
    )
