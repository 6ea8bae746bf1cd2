"""Grade a folder: a pool of judges, one file per submission, able to resume."""

from collections.abc import Iterator
from concurrent.futures import Executor, as_completed
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path

from gdm_course.authoring.course import load as load_course
from gdm_course.grading.box.held import Unwritable
from gdm_course.grading.box.ladder import LADDER
from gdm_course.grading.judge import judge
from gdm_course.grading.judge.assignment import Assignment, assignment, assignments, match
from gdm_course.grading.judge.boxes import Boxes
from gdm_course.grading.judge.budget import Budget, slowness
from gdm_course.grading.judge.notebook import Rejected, load, read
from gdm_course.grading.judge.verdict import Result, Status, credible, restore, store
from gdm_course.grading.marks.gather import Found as Found
from gdm_course.grading.marks.gather import find as find
from gdm_course.grading.marks.worker import ToldToStop
from gdm_course.source import ROOT


@dataclass(frozen=True)
class Job:
    """One distinct submission, and all the settings that a worker needs.

    Attributes:
        path: of one of the files with these bytes.
        key: their hash.
        unit: the assignment, if it is not to be found out.
    """

    path: Path
    key: str
    out: Path
    rung: str
    unit: str = ""
    budget: Budget = field(default_factory=Budget)


def grade_one(job: Job) -> Result:
    """Grade one submission and store the verdict: the unit of work of any executor.

    Whatever goes wrong in the judge becomes a verdict, too: the others are graded.

    Raises:
        Unwritable: the verdict, or a box, has no room; so it would be for the others.
    """
    try:
        result = _judged(job)
    except Unwritable:
        raise
    except Rejected as error:
        result = judge.rejected(job.key, str(error))
    except Changed as error:
        result = judge.unjudged(job.key, job.unit, str(error))
    except Exception as error:
        result = judge.unjudged(job.key, job.unit, type(error).__name__)
    store(result, job.out)
    return result


def _judged(job: Job) -> Result:
    notebook = read(_found(job))
    chosen = _map(job.unit) if job.unit else match(notebook, _maps())
    if chosen is None:
        raise Rejected("no assignment of this course: name it with --unit")
    boxes = _boxes(job.rung, chosen.key)
    return judge.grade(notebook, job.key, chosen, boxes.make, job.budget)


class Changed(Exception):
    """The file is not the one that was found: no verdict on that one can be had."""


def _found(job: Job) -> bytes:
    try:
        data, key = load(job.path)
    except Rejected as error:
        raise Changed(f"since it was found, {error}") from None
    if key != job.key:
        raise Changed("the file changed while it waited")
    return data


@cache
def _maps() -> dict[str, Assignment]:
    return assignments(load_course(ROOT))


@cache
def _map(unit: str) -> Assignment:
    return assignment(load_course(ROOT), unit)


@lru_cache(maxsize=2)  # an assignment's boxes stay warm until others are needed
def _boxes(rung: str, key: str) -> Boxes:
    return Boxes(next(r for r in LADDER if r.name == rung), _map(key))


def fresh(path: Path, rung: str) -> Result | None:
    """A stored verdict that still holds: of this file and of the assignment as it is now.

    One without isolation gives way to one with it; one that no judge writes is none.
    """
    result = restore(path)
    if result is None or result.status == Status.UNJUDGED:
        return None
    if rung != "L0" and result.rung == "L0":
        return None
    known = _maps().get(result.assignment)
    if result.fingerprint != (known.fingerprint if known else ""):
        return None
    return result if credible(result, path.stem, known.points if known else {}) else None


def plan(
    found: Found, out: Path, rung: str, unit: str, resume: bool
) -> tuple[list[Job], list[Result]]:
    """What is to be done, and what is done already."""
    budget = Budget(scale=slowness())
    jobs, done = [], []
    for key, path in found.by_unit:
        kept = fresh(out / f"{key}.json", rung) if resume else None
        if kept is not None and unit in ("", kept.assignment):
            done.append(kept)
        else:
            (out / f"{key}.json").unlink(missing_ok=True)  # an old mark is never kept
            jobs.append(Job(path.resolve(), key, out, rung, unit, budget))
    return jobs, done


def run(jobs: list[Job], executor: Executor) -> Iterator[tuple[Job, Result | None]]:
    """Grade in parallel; yields each job as it ends, and None if no verdict is stored.

    Raises:
        Unwritable: a verdict cannot be stored; the next one could not be, either.
    """
    waiting = {executor.submit(grade_one, job): job for job in jobs}
    for future in as_completed(waiting):
        job = waiting[future]
        try:
            yield job, future.result()
        except ToldToStop:
            yield job, None
        except Unwritable:
            raise
        except Exception as error:  # its worker died
            result = judge.unjudged(job.key, job.unit, str(error))
            store(result, job.out)
            yield job, result
