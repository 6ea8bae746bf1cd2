"""The house in one picture: which room of the package enters which, read from the imports.

A room stands above every room that it enters. Lines that follow from others are left out:
who enters the training room enters what that needs.
"""

import re
from html import escape
from pathlib import Path

from gdm_course.source import PACKAGE

IMPORT = re.compile(
    r"^\s*(?:from\s+gdm_course\.([\w.]+)\s+import|from\s+gdm_course\s+import\s+([\w, ]+)|"
    r"import\s+gdm_course\.([\w.]+))",
    re.MULTILINE,
)
DOORS = {"__init__", "__main__", "startup"}  # of the package itself: they lead everywhere
SPLIT = {"grading"}  # so large that its rooms are shown
WIDE, HIGH, GAP, FLOOR, MARGIN = 118, 26, 12, 74, 14


def room(parts: tuple[str, ...]) -> str:
    """The room of a module: ("flows", "maf") is in "flows"."""
    inner = parts[0] in SPLIT and len(parts) > 2
    return "/".join(parts[:2]) if inner else parts[0]


def plan(package: Path = PACKAGE) -> dict[str, set[str]]:
    """Each room, and the rooms that its files import from, anywhere in them."""
    entered: dict[str, set[str]] = {}
    for path in sorted(package.rglob("*.py")):
        inside = path.relative_to(package).with_suffix("").parts
        if (here := room(inside)) in SPLIT:
            continue
        for dotted, names, plain in IMPORT.findall(path.read_text(encoding="utf-8")):
            several = [name.split(" as ")[0].strip() for name in names.split(",")]
            for name in [dotted or plain] if dotted or plain else several:
                parts = tuple(name.split("."))
                entered.setdefault(here, set()).add(room((*parts, "")))
        entered.setdefault(here, set())
    return {
        here: {there for there in found if there != here and there in entered} - DOORS
        for here, found in entered.items()
        if here not in DOORS
    }


def floors(entered: dict[str, set[str]]) -> dict[str, int]:
    """The floor of each room: one above the highest that it enters.

    Raises:
        ValueError: two rooms enter each other, by whatever way.
    """
    level: dict[str, int] = {}
    while len(level) < len(entered):
        ready = [r for r, below in entered.items() if r not in level and below <= {*level}]
        if not ready:
            rest = ", ".join(sorted({*entered} - {*level}))
            raise ValueError(f"rooms enter each other in a circle, somewhere in: {rest}")
        new = {r: 1 + max((level[b] for b in entered[r]), default=-1) for r in ready}
        level.update(new)
    return level


def lines(entered: dict[str, set[str]]) -> set[tuple[str, str]]:
    """What is left of the imports without those that follow from others."""
    level, beneath = floors(entered), {}
    for here in sorted(entered, key=level.get):
        below = entered[here]
        beneath[here] = below.union(*(beneath[b] for b in below))
    return {
        (here, there)
        for here, below in entered.items()
        for there in below
        if not any(there in beneath[other] for other in below - {there})
    }


def rows(entered: dict[str, set[str]]) -> list[list[str]]:
    """The rooms of each floor, the lowest first, each above what it needs if it can."""
    level, needs, found = floors(entered), lines(entered), []
    middle: dict[str, float] = {}
    for n in range(max(level.values()) + 1):
        row = sorted(name for name in level if level[name] == n)
        below = {r: [middle[b] for a, b in needs if a == r] for r in row}
        row.sort(key=lambda r: sum(below[r]) / len(below[r]) if below[r] else 0.0)
        middle |= {name: i - (len(row) - 1) / 2 for i, name in enumerate(row)}
        found.append(row)
    return found


def places(entered: dict[str, set[str]]) -> dict[str, tuple[int, int]]:
    """The upper left corner of each room's box, the highest floor on top, in pixels."""
    found, storeys = {}, rows(entered)
    widest = max(map(len, storeys)) * (WIDE + GAP) - GAP
    for n, row in enumerate(reversed(storeys)):
        start = MARGIN + (widest - len(row) * (WIDE + GAP) + GAP) // 2
        for i, name in enumerate(row):
            found[name] = (start + i * (WIDE + GAP), MARGIN + n * FLOOR)
    return found


HEAD = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">
<title>The rooms of gdm_course: each imports from those below it</title>
<rect width="{width}" height="{height}" fill="#ffffff"/>
<g stroke="#8C8C8C" stroke-width="1" fill="none">
"""
ROOMS = """
</g><g font-family="sans-serif" font-size="12" text-anchor="middle">
"""


def svg(package: Path = PACKAGE) -> str:
    """The picture, the same on every machine: `gdm sync` writes it into docs/."""
    entered = plan(package)
    place = places(entered)
    width = max(x for x, _ in place.values()) + WIDE + MARGIN
    height = max(y for _, y in place.values()) + HIGH + MARGIN
    drawn = [
        f'<path d="M{x + WIDE // 2} {y + HIGH} L{u + WIDE // 2} {v}"/>'
        for (x, y), (u, v) in sorted((place[a], place[b]) for a, b in lines(entered))
    ]
    boxes = [_box(name, *at) for name, at in sorted(place.items())]
    head = HEAD.format(width=width, height=height)
    return head + "\n".join(drawn) + ROOMS + "\n".join(boxes) + "\n</g></svg>\n"


def _box(name: str, x: int, y: int) -> str:
    return (
        f'<rect x="{x}" y="{y}" width="{WIDE}" height="{HIGH}" rx="4" fill="#eef4fa" '
        f'stroke="#0072B2"/><text x="{x + WIDE // 2}" y="{y + 17}">{escape(name)}</text>'
    )
