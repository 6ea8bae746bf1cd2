"""Marks into an nbgrader gradebook, through nbgrader's own interface.

A unit "flows/maf" is nbgrader's assignment "flows-maf" with one notebook "maf"; its grade
cells are those of the exercise, "check-NAME". nbgrader's autograder is never run. A score
that somebody entered by hand still takes precedence in nbgrader.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from gdm_course.grading.marks.collect import Entry, by_assignment, kind
from gdm_course.grading.marks.inert import shown
from gdm_course.grading.marks.ledger import NoResults


class NoGradebook(NoResults):
    """Marks cannot be entered; the sentence says why."""


def enter(entries: list[Entry], path: Path) -> Iterator[str]:
    """Enter all marks; yields one line per thing that needs attention, then a summary.

    Of two notebooks of one student for one assignment, the one of the later run counts,
    of one run the one whose name sorts last; the others are named.

    Raises:
        NoGradebook: nbgrader is not installed here, or the file is no gradebook, or it
            cannot be written to.
    """
    book = _open(path)
    try:
        yield from _entered(entries, book, path)
    except Exception as error:
        if type(error).__module__.split(".")[0] not in ("sqlalchemy", "nbgrader"):
            raise
        raise NoGradebook(f"{path} takes no marks: {_why(error)}") from None


def _entered(entries: list[Entry], book, path: Path) -> Iterator[str]:
    with book:
        entered = 0
        for unit, group in by_assignment(entries):
            group = sorted(group, key=lambda entry: (entry.run, entry.name))
            last = {_student(entry): entry for entry in group if entry.marks}
            _prepare(book, unit, [*last.values()])
            for entry in last.values():
                _enter(book, unit, entry)
            entered += len(last)
            for entry in group:
                if entry.marks and last[_student(entry)] is not entry:
                    yield f"not entered, a later one counts: {shown(entry.name)}"
        for entry in entries:
            if not entry.marks:
                yield f"not entered, {entry.status}: {shown(entry.name)}"
        yield f"{entered} submissions entered in {path}"


def _open(path: Path):
    try:
        from nbgrader.api import Gradebook
    except ImportError:
        raise NoGradebook(
            "nbgrader is not installed here, so no gradebook was written: run 'pip install "
            "nbgrader', then 'gdm grade report RESULTS --nbgrader gradebook.db'"
        ) from None
    here = str(Path(sys.executable).parent)  # a new gradebook calls the program 'alembic'
    os.environ["PATH"] = os.pathsep.join([here, os.environ.get("PATH", "")])
    try:
        return Gradebook(f"sqlite:///{path.resolve()}")
    except Exception as error:
        raise NoGradebook(f"{path} is no gradebook: {_why(error)}") from None


def _why(error: Exception) -> object:
    """What the database says, such as that it is read-only or locked by another program."""
    return getattr(error, "orig", None) or type(error).__name__


def _student(entry: Entry) -> str:
    return shown(entry.student, 100)


def _names(unit: str) -> tuple[str, str]:
    """nbgrader's names of the assignment and of its notebook."""
    return unit.replace("/", "-"), unit.rpartition("/")[2]


def _prepare(book, unit: str, group: list[Entry]) -> None:
    """The assignment with its cells, as `nbgrader generate_assignment` would enter it."""
    assignment, notebook = _names(unit)
    book.update_or_create_assignment(assignment)
    book.update_or_create_notebook(notebook, assignment)
    where = (notebook, assignment)
    for mark in group[0].marks if group else ():
        given = {"max_score": mark.points, "cell_type": "code"}
        book.update_or_create_grade_cell(f"check-{mark.name}", *where, **given)
        book.update_or_create_solution_cell(mark.name, *where)


def _enter(book, unit: str, entry: Entry) -> None:
    from nbgrader.api import MissingEntry

    (assignment, notebook), student = _names(unit), _student(entry)
    book.update_or_create_student(student)
    book.update_or_create_submission(assignment, student)
    where = (notebook, assignment, student)
    try:
        for mark in entry.marks:
            book.find_grade(f"check-{mark.name}", *where)
    except MissingEntry:  # of before a question was added
        book.remove_submission(assignment, student)
        book.add_submission(assignment, student)
    for mark in entry.marks:
        grade = book.find_grade(f"check-{mark.name}", *where)
        grade.auto_score, grade.needs_manual_grade = mark.earned, False
        comment = book.find_comment(mark.name, *where)
        comment.auto_comment = shown(f"{kind(mark)}: {mark.message}", 500)
    book.db.commit()
