"""What the judge says of a submission, and how it is stored: plain data, written at once.

Reports are made from these files alone; nothing of a submission is read again.
"""

import contextlib
import json
import math
import os
import tempfile
import time
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from pathlib import Path

from gdm_course.grading.box.held import Unwritable

SCHEMA = 1
RIGHT = "right"  # the message of a right answer


class Status(StrEnum):
    """How a mark came about: a 0 always says which 0 it is."""

    GRADED = "graded"  # asked and judged; right or wrong
    TIMEOUT = "timeout"  # no answer in time
    CRASH = "crash"  # the process died, or passed a limit
    MALFORMED = "malformed"  # the file is no notebook, or the answer no frame
    MISSING = "missing"  # not answered
    UNJUDGED = "unjudged"  # the grader itself failed: no mark, and the next run tries again
    UNSANDBOXED = "unsandboxed"  # judged, but the code ran without isolation


JUDGED = (Status.GRADED, Status.UNSANDBOXED)


@dataclass(frozen=True)
class Mark:
    """One question of one submission.

    Attributes:
        message: for the student; it holds no input, expected value or text of theirs.
        seconds: from the first ask to the verdict, loading not included.
        right: what the judgement was, whatever it is worth; None, as in files of before,
            is read off the points, or off the message where there are none to earn.
    """

    name: str
    points: float
    earned: float
    status: Status
    message: str
    seconds: float = 0.0
    right: bool | None = None

    def __post_init__(self) -> None:
        if self.right is None:
            full = self.earned >= self.points if self.points else self.message == RIGHT
            object.__setattr__(self, "right", full and self.status in JUDGED)
        elif type(self.right) is not bool:
            raise TypeError(f"right={self.right!r}, expected True, False or None")


@dataclass(frozen=True)
class Result:
    """One submission.

    Attributes:
        sha256: of the file's bytes; also the name of the stored file.
        assignment: the unit, "" if it could not be told.
        fingerprint: of the assignment; another one means that the marks are stale.
        status: of the submission as a whole; malformed if nothing could be read.
        rung: of the isolation ladder; "" if nothing was run.
        seed: of the asks. For the instructor only: it makes a regrade repeatable.
        boxes: how many were needed; more than one means that questions broke them.
        memory_mib: the highest use of a box.
    """

    sha256: str
    assignment: str
    fingerprint: str
    status: Status
    message: str
    marks: tuple[Mark, ...] = ()
    rung: str = ""
    seed: int = 0
    boxes: int = 0
    seconds: float = 0.0
    memory_mib: int = 0
    schema: int = field(default=SCHEMA)

    @property
    def earned(self) -> float:
        """The sum of points earned."""
        return sum(mark.earned for mark in self.marks)

    @property
    def points(self) -> float:
        """The sum of points there are."""
        return sum(mark.points for mark in self.marks)


def store(result: Result, folder: Path) -> Path:
    """Write a result under its hash; a reader sees the old file or the new one, whole."""
    data = {**asdict(result), "earned": result.earned, "points": result.points}
    path = folder / f"{result.sha256}.json"
    write(path, json.dumps(data, indent=1) + "\n")
    return path


def write(path: Path, text: str) -> None:
    """Replace a text file at once.

    Raises:
        Unwritable: it cannot be; the old file is as it was.
    """
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:  # interrupted: no half file stays behind
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise Unwritable(error.errno, error.strerror, str(path)) from error


def clear(folder: Path) -> None:
    """Remove half files of writers that were killed; writing one takes no hour."""
    for path in folder.glob(".*.part"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > 3600:
                path.unlink()


def credible(result: Result, key: str, points: dict[str, float]) -> bool:
    """Whether a stored result can be a judge's, on the file of this hash.

    Args:
        result: as it was restored.
        key: the SHA-256 of the file.
        points: of the questions of its assignment; none if it says that it has none.
    """
    if result.sha256 != key or {m.name: m.points for m in result.marks} != points:
        return False
    if not points:
        return result.status is Status.MALFORMED and not result.assignment
    judged = (Status.UNSANDBOXED,) if result.rung == "L0" else (Status.GRADED,)
    return len(result.marks) == len(points) and all(
        type(m.earned) in (int, float)
        and (m.earned == 0 or (m.earned == m.points and m.status in judged))
        for m in result.marks
    )


def restore(path: Path) -> Result | None:
    """Read a stored result; None if there is none, or if it is not one of this version."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data.pop("schema") != SCHEMA:
            return None
        data.pop("earned"), data.pop("points")
        data["marks"] = tuple(_typed(Mark, mark) for mark in data["marks"])
        found = _typed(Result, data)
        return found if found.sha256 == path.stem else None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def _typed(kind: type, data: dict):
    """A `Mark` or a `Result` of plain data.

    Raises:
        ValueError, TypeError, KeyError: a value that is missing, or not of its type.
    """
    made = kind(**{**data, "status": Status(data["status"])})
    for one in fields(kind):
        value, wanted = getattr(made, one.name), one.type
        wanted = {float: (int, float), tuple[Mark, ...]: tuple}.get(wanted, wanted)
        odd = isinstance(value, bool) and wanted in (int, (int, float))  # True is an int
        if odd or not isinstance(value, wanted):
            raise TypeError(f"{one.name} is no {one.type}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{one.name} is no number")
    return made
