"""Marks for other programs: CSV for spreadsheets, results.json for Gradescope."""

import csv
import io
import json
from collections.abc import Iterable

from gdm_course.grading.marks.collect import Entry, kind
from gdm_course.grading.marks.inert import cell, shown

BOM = "\ufeff"  # without it, a spreadsheet on Windows takes UTF-8 for something else
COMMON = ("student", "file", "assignment", "status", "earned", "points", "message")
LAST = ("isolation", "key", "sha256", "version")


def marks(entries: list[Entry]) -> str:
    """One line per submission, one column per question; empty where there is no mark."""
    columns = dict.fromkeys((e.assignment, m.name) for e in entries for m in e.marks)
    rows = [[*COMMON, *map(":".join, columns), *LAST]]
    for e in entries:
        own = {(e.assignment, m.name): m.earned for m in e.marks}
        person = [e.student, e.name, e.assignment, e.status, e.earned, e.points, e.message]
        rows.append([*person, *map(own.get, columns), *_about(e)])
    return table(rows)


def _about(e: Entry) -> list[str]:
    if e.result is None:
        return ["", e.key, "", ""]
    return [e.result.rung, e.key, e.result.sha256, e.result.fingerprint]


def aside(files: Iterable[tuple[str, str]]) -> str:
    """One line per file that was not read, with what it is."""
    return table([["file", "what"], *sorted(files)])


def questions(entries: list[Entry]) -> str:
    """One line per question of each submission, with its status and the judge's remark."""
    rows = [["student", "file", "assignment", "question", "earned", "points"]]
    rows[0] += ["result", "status", "message", "seconds"]
    for e in entries:
        for m in e.marks:
            asked = [e.student, e.name, e.assignment, m.name, m.earned, m.points]
            rows.append([*asked, kind(m), m.status.value, m.message, m.seconds])
    return table(rows)


def table(rows: list) -> str:
    """Rows as CSV that a spreadsheet opens and no cell of which it takes for a formula."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows([map(cell, row) for row in rows])
    return BOM + text.getvalue()


def gradescope(entry: Entry) -> str:
    """A `results.json` as Gradescope's autograder documentation describes it.

    It holds what the student may see: no seed, no name, nothing of others. Gradescope asks
    for a `score` or for `tests` with scores; without marks there is neither: a file that
    could not be judged has not earned 0.
    """
    result = entry.result
    told = [f"Status: {entry.status}.", entry.message]
    if result and result.rung == "L0":
        told.append("Graded without isolation.")
    if entry.earned is None:
        told.append("No mark: this is not a 0. Ask your instructor.")
    about = {
        "execution_time": round(result.seconds) if result else 0,
        "output": shown(" ".join(filter(None, told)), 2_000),
        "output_format": "text",
        "test_output_format": "text",
        "test_name_format": "text",
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "extra_data": {"sha256": result.sha256 if result else ""},
    }
    if entry.earned is not None:
        tests = [_test(mark, i) for i, mark in enumerate(entry.marks, 1)]
        about |= {"score": entry.earned, "tests": tests}
    return json.dumps(about, indent=1) + "\n"


def _test(mark, number: int) -> dict:
    return {
        "score": mark.earned,
        "max_score": mark.points,
        "status": "passed" if kind(mark) == "right" else "failed",
        "name": shown(mark.name),
        "name_format": "text",
        "number": str(number),
        "output": shown(f"{kind(mark)}: {mark.message}", 2_000),
        "output_format": "text",
        "visibility": "visible",
    }
