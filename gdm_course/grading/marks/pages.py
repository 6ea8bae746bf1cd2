"""The pages of a report: one per submission, one for the class. They run nothing.

A strict policy forbids scripts, forms and anything from elsewhere; the one style sheet is
named by its hash. All text goes through `inert.tag`, which escapes it.
"""

import base64
from collections import Counter
from hashlib import sha256

from gdm_course.grading.marks import figures
from gdm_course.grading.marks.collect import (
    NOT_GRADED,
    Entry,
    by_assignment,
    kind,
    versions,
)
from gdm_course.grading.marks.inert import Markup, shown, tag

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff;
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
h3 { font-size: 1rem; margin-bottom: .3rem; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem .7rem .3rem 0;
  border-bottom: 1px solid #ccc; overflow-wrap: anywhere; }
th { font-weight: 600; border-bottom-color: #555; }
td.number, th.number { text-align: right; white-space: nowrap; }
td.word { white-space: nowrap; overflow-wrap: normal; }
code { font-size: .85em; overflow-wrap: anywhere; }
svg { max-width: 100%; height: auto; display: block; margin: .4rem 0; }
p.note { border-left: 4px solid #D55E00; padding-left: .8rem; }
footer { margin-top: 3rem; color: #555; font-size: .85rem; }
"""
HASH = base64.b64encode(sha256(STYLE.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; style-src 'sha256-{HASH}'; base-uri 'none'; form-action 'none'"
)
HEAD = Markup(
    '<meta charset="utf-8">\n'
    f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
    '<meta name="referrer" content="no-referrer">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    f"<style>{STYLE}</style>"
)
WORDS = {
    "right": "right",
    "wrong": "wrong",
    "missing": "not answered",
    "timeout": "no answer in time",
    "crash": "its process ended",
    "malformed": "could not be read",
}
UNSANDBOXED = "Graded without isolation: these marks could have been forged."


def student(entry: Entry) -> str:
    """The page of one submission. It shows nothing of other submissions."""
    title = entry.assignment or "no assignment"
    body = [
        tag("h1", f"Result: {title}"),
        tag("p", "File: ", tag("code", shown(entry.name))),
    ]
    if entry.earned is not None:
        body.append(tag("p", tag("strong", f"{entry.earned:g} of {entry.points:g} points")))
    body += _notes(entry)
    if entry.marks:
        body.append(_table(["question", "points#", "result", "remark"], _questions(entry)))
    return _page(f"Result: {title}", [*body, _foot(entry)])


def _notes(entry: Entry) -> list[Markup]:
    notes = [f"Status: {entry.status}. {entry.message}"] if entry.message else []
    if entry.result and entry.result.rung == "L0":
        notes.append(UNSANDBOXED)
    return [tag("p", note, class_="note") for note in notes]


def _questions(entry: Entry) -> list[list]:
    return [
        [tag("code", m.name), f"{m.earned:g} / {m.points:g}", WORDS[kind(m)], _remark(m)]
        for m in entry.marks
    ]


def _remark(mark) -> str:
    return "" if kind(mark) == "right" else mark.message


def _foot(entry: Entry) -> Markup:
    text = "Made by gdm grade from the stored verdict alone."
    if entry.result:
        told = [
            "The file that was graded has the SHA-256 ",
            tag("code", entry.result.sha256),
        ]
        return tag("footer", tag("p", *told, "."), tag("p", text))
    return tag("footer", tag("p", text))


def overview(
    entries: list[Entry], replaced: list[Entry] | None = None, aside: int = 0
) -> str:
    """The page of the class: figures per assignment, then one line per submission.

    Args:
        entries: all that was handed in.
        replaced: older files, in whose place a newer one lies.
        aside: how many files were not read, of students who handed in a notebook.
    """
    without = [entry for entry in entries if not entry.assignment]
    body = [tag("h1", "Results of the class"), tag("p", _counts(entries))]
    for unit, count in versions(entries).items():
        body.append(tag("p", VERSIONS.format(count=count, unit=unit), class_="note"))
    if len({entry.status for entry in entries}) > 1:
        body.append(figures.statuses(entries))
    for name, group in by_assignment(entries):
        body += _assignment(name, group)
    if without:
        body += [tag("h2", "Without an assignment, or without a verdict"), _people(without)]
    if replaced:
        body += [tag("h2", "Replaced by a newer file"), _older(replaced)]
    if aside:
        body.append(tag("p", ASIDE.format(count=aside)))
    return _page("Results of the class", [*body, tag("footer", tag("p", FOOT))])


FOOT = (
    "Made by gdm grade from the stored verdicts alone. The key tells names apart that look "
    "alike; 'same file' means equal to the byte, which unanswered exercises are, too."
)


VERSIONS = (
    "Marks of {count} versions of {unit} stand side by side (see the last column of "
    "marks.csv): grade the older ones again."
)
ASIDE = "Files that are no notebooks and were not read: {count}, listed in aside.csv."


def _older(replaced: list[Entry]) -> Markup:
    rows = [[shown(e.name), _points(e), e.status, e.message] for e in replaced]
    return _table(["file", "points#", "status", "remark"], rows)


def _points(entry: Entry) -> str:
    return "" if entry.earned is None else f"{entry.earned:g} / {entry.points:g}"


def _counts(entries: list[Entry]) -> str:
    late = sum(entry.status == NOT_GRADED for entry in entries)
    rest = f"; {late} of them not graded yet: run gdm grade again" if late else ""
    return f"{len(entries)} submissions{rest}."


def _assignment(name: str, group: list[Entry]) -> list[Markup]:
    marked = sorted(e.earned / e.points for e in group if e.points)
    body = [tag("h2", name)]
    if marked:
        middle = (marked[(len(marked) - 1) // 2] + marked[len(marked) // 2]) / 2
        mean = sum(marked) / len(marked)
        said = (
            f"{len(group)} submissions; mean {mean:.0%}, median {middle:.0%} of the points."
        )
        body += [tag("p", said), tag("h3", "Marks"), figures.histogram(group)]
        body += [tag("h3", "Questions"), figures.questions(group), _statistics(group)]
    return [*body, tag("h3", "Submissions"), _people(group)]


def _statistics(group: list[Entry]) -> Markup:
    """The numbers behind the figure of questions, for readers who do not see it."""
    found: dict[str, Counter] = {}
    for mark in (mark for entry in group for mark in entry.marks):
        found.setdefault(mark.name, Counter())[kind(mark)] += 1
    kinds = [k for k in WORDS if any(counts[k] for counts in found.values())]
    rows = [[tag("code", n), *(str(c[k]) for k in kinds)] for n, c in found.items()]
    return _table(["question", *(f"{WORDS[k]}#" for k in kinds)], rows)


def _people(group: list[Entry]) -> Markup:
    same = Counter(entry.result.sha256 for entry in group if entry.result)
    rows = []
    for entry in group:
        link = tag("a", shown(entry.name), href=f"pages/{entry.key}.html")
        copies = same[entry.result.sha256] - 1 if entry.result else 0
        remark = [entry.message] * bool(entry.message)
        remark += [UNSANDBOXED] * (entry.status == "unsandboxed")
        remark += [f"same file as {copies} more"] * (copies > 0)
        key = tag("code", entry.key[:6])
        rows.append([link, key, _points(entry), entry.status, "; ".join(remark)])
    return _table(["file", "key", "points#", "status", "remark"], rows)


def _table(head: list[str], rows: list[list]) -> Markup:
    """A table; a column whose head ends in # holds numbers, one of words does not wrap."""
    classes = ["number" if h.endswith("#") else None for h in head]
    classes = [
        c or ("word" if h in ("status", "result", "key") else None)
        for c, h in zip(classes, head)
    ]
    top = [tag("th", h.rstrip("#"), class_=c) for h, c in zip(head, classes)]
    body = [tag("tr", [tag("td", v, class_=c) for v, c in zip(r, classes)]) for r in rows]
    return tag("table", tag("thead", tag("tr", top)), tag("tbody", body))


def _page(title: str, body: list[Markup]) -> str:
    head = tag("head", HEAD, tag("title", title))
    return f'<!doctype html>\n<html lang="en">{head}{tag("body", body)}</html>\n'
