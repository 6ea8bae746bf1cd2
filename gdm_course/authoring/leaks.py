"""Find solution text in exercises: in sources, markdown, metadata and outputs."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gdm_course.authoring.course import Unit
from gdm_course.authoring.cut import split
from gdm_course.authoring.derive import Plan, Problem
from gdm_course.authoring.percent import AuthoringError, Script
from gdm_course.source import lines

DISTINCT = 12  # characters; shorter lines say nothing
TELLING = 24  # a single line this long, found word for word, is an answer


@dataclass(frozen=True)
class Parts:
    """A solution in three: the secret blocks (lines), public code, public markdown."""

    secret: list[list[str]]
    code: str
    markdown: str


def problems(made: Plan) -> Iterator[Problem]:
    """Say which exercise gives away which line."""
    for unit in made.course.units.values():
        script = made.scripts.get(unit.script("solutions"))
        path = made.course.root / unit.notebook("exercises")
        if script is None:
            continue
        parts = separate(script)
        stored = path.read_text(encoding="utf-8") if path.is_file() else ""
        yield from _report(
            unit, found_in(stored, parts), "delete it there", "gdm sync --force"
        )
        yield from _report(unit, public(parts), f"rewrite the public part of {script.name}")


def separate(script: Script) -> Parts:
    """Cut a solution into its secret and its public parts."""
    secret, code, markdown = [], [], []
    for cell in script.cells:
        if "solution" in cell.tags:
            secret.append(_distinct(lines(cell.source)))
        elif cell.kind == "markdown":
            markdown.append(cell.source)
        else:
            try:
                halves = split(cell, script.name)
            except AuthoringError:  # reported by the plan
                continue
            code.append(halves.public)
            secret += [_distinct(block) for block in halves.blocks]
    return Parts(
        [block for block in secret if block], *(_squeeze(t) for t in (code, markdown))
    )


def found_in(stored: str, parts: Parts) -> list[str]:
    """Secret lines anywhere in a stored exercise that the solution's public part lacks."""
    try:
        everything = _squeeze(_strings(json.loads(stored)))
    except ValueError:
        everything = _squeeze([stored])
    known = f"{parts.code}\n{parts.markdown}"
    lines = [line for block in parts.secret for line in block]
    return [line for line in lines if line in everything and line not in known]


def public(parts: Parts) -> list[str]:
    """Secret text that the solution's own public part repeats.

    A line of ordinary code may well appear in a plot below; a whole answer may not. In
    markdown, every distinctive line counts.
    """
    found = []
    for block in parts.secret:
        found += [line for line in block if line in parts.markdown]
        whole = all(line in parts.code for line in block)
        if whole and (len(block) > 1 or len(block[0]) >= TELLING):
            found.append(block[0])
    return list(dict.fromkeys(found))


def _report(unit: Unit, lines: list[str], what: str, repair: str = "") -> Iterator[Problem]:
    for line in lines:
        yield Problem(f"{unit.notebook('exercises')} gives away '{line}': {what}", repair)


def _distinct(lines: Any) -> list[str]:
    plain = [" ".join(line.split()) for line in lines]
    return [
        p for p in plain if len(p) >= DISTINCT and not p.startswith(("import ", "from "))
    ]


def _squeeze(texts: Any) -> str:
    """Texts as lines with single spaces, so that indentation does not hide a line."""
    return "\n".join(" ".join(line.split()) for text in texts for line in lines(text))


def _strings(value: Any) -> Iterator[str]:
    """Every string of a JSON value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, dict):
        yield from value
        for item in value.values():
            yield from _strings(item)
