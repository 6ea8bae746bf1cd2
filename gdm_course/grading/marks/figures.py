"""Figures of a class as SVG: shapes and text, no script, no style, nothing from elsewhere.

The colours are Okabe and Ito's. None of them carries a meaning alone: every bar has its
number, every part its word in a legend in the same order.
"""

from collections import Counter
from collections.abc import Iterable

from gdm_course.grading.marks.collect import Entry, kind
from gdm_course.grading.marks.inert import Markup, shown, tag

BLUE, ORANGE, GREY, INK, RULE = "#0072B2", "#E69F00", "#B5B5B5", "#222222", "#777777"
KINDS = {
    "right": BLUE,
    "wrong": ORANGE,
    "missing": GREY,
    "timeout": "#D55E00",
    "crash": "#000000",
    "malformed": "#CC79A7",
}
WIDTH, LEFT, RIGHT = 680, 190, 40
BINS = 10


def histogram(entries: list[Entry]) -> Markup:
    """How many submissions reach which share of the points, in ten steps of ten percent."""
    shares = [e.earned / e.points for e in entries if e.points]
    counts = Counter(min(BINS - 1, int(share * BINS + 1e-9)) for share in shares)
    top, height, step = max([*counts.values(), 1]), 130, (WIDTH - 80) / BINS
    parts = [_text(WIDTH / 2, 196, "share of the points, %", "middle")]
    for i in range(BINS + 1):
        parts.append(_text(40 + i * step, 174, f"{100 * i // BINS}", "middle"))
    for i, count in sorted(counts.items()):
        tall = height * count / top
        x, y = 40 + i * step, 156 - tall
        parts.append(_box(x + 3, y, step - 6, tall, BLUE))
        parts.append(_text(x + step / 2, y - 5, str(count), "middle"))
    parts.append(_line(40, 156, WIDTH - 40, 156))
    return _figure(206, f"distribution of marks of {len(shares)} submissions", parts)


def questions(entries: list[Entry]) -> Markup:
    """One bar per question: the share right, wrong, and of every other end."""
    found: dict[str, Counter] = {}
    for mark in (mark for entry in entries for mark in entry.marks):
        found.setdefault(mark.name, Counter())[kind(mark)] += 1
    return _bars(found, "how each question ended")


def statuses(entries: list[Entry]) -> Markup:
    """One bar per status of a whole submission, with how many have it."""
    found = Counter(entry.status for entry in entries)
    most, parts, room = max([*found.values(), 1]), [], WIDTH - LEFT - RIGHT
    for i, (status, count) in enumerate(found.most_common()):
        y, wide = 8 + 26 * i, room * count / most
        parts.append(_text(LEFT - 10, y + 14, status, "end"))
        parts.append(_box(LEFT, y, wide, 18, BLUE if status == "graded" else ORANGE))
        parts.append(_text(LEFT + wide + 6, y + 14, str(count)))
    return _figure(14 + 26 * len(found), "how many submissions have which status", parts)


def _bars(rows: dict[str, Counter], title: str) -> Markup:
    """Stacked bars of equal length, with the share of the first kind as a number."""
    parts = [*_legend({k for counts in rows.values() for k in counts})]
    room = WIDTH - LEFT - RIGHT - 20
    for i, (name, counts) in enumerate(rows.items()):
        y, x, total = 36 + 28 * i, float(LEFT), counts.total()
        parts.append(_text(LEFT - 10, y + 15, shown(name, 26), "end"))
        for which in (k for k in KINDS if counts[k]):
            wide = room * counts[which] / total
            parts.append(_box(x, y, wide, 20, KINDS[which], f"{which}: {counts[which]}"))
            x += wide
        right = f"{100 * counts['right'] / total:.0f} %"
        parts.append(_text(LEFT + room + 8, y + 15, right))
    return _figure(44 + 28 * len(rows), title, parts)


def _legend(present: set[str]) -> Iterable[Markup]:
    x = LEFT
    for name in (k for k in KINDS if k in present):
        yield _box(x, 10, 12, 12, KINDS[name])
        yield _text(x + 17, 20, name)
        x += 32 + 7 * len(name)


def _figure(height: float, title: str, parts: list[Markup]) -> Markup:
    view = f"0 0 {WIDTH} {height}"
    return tag(
        "svg",
        tag("title", title),
        parts,
        xmlns="http://www.w3.org/2000/svg",
        role="img",
        aria_label=title,
        viewBox=view,
        width=WIDTH,
        height=height,
        font_family="sans-serif",
        font_size=13,
    )


def _box(
    x: float, y: float, width: float, height: float, fill: str, title: str = ""
) -> Markup:
    inside = tag("title", title) if title else ""
    sides = {"x": _round(x), "y": _round(y), "width": _round(width)}
    edge = {"stroke": "#FFFFFF", "stroke_width": 1}
    return tag("rect", inside, height=_round(height), fill=fill, **sides, **edge)


def _line(x1: float, y1: float, x2: float, y2: float) -> Markup:
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, stroke=RULE, stroke_width=1)


def _text(x: float, y: float, text: str, anchor: str = "start") -> Markup:
    return tag("text", text, x=_round(x), y=_round(y), text_anchor=anchor, fill=INK)


def _round(x: float) -> str:
    return f"{x:.1f}".removesuffix(".0")
