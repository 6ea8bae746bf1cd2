"""Grade a folder: a pool of judges, one file per submission, able to resume."""

import os
import re
from collections.abc import Iterator
from concurrent.futures import Executor, as_completed
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path

from gdm_course.authoring.course import load as load_course
from gdm_course.grading import judge
from gdm_course.grading.assignment import Assignment, assignment, assignments, match
from gdm_course.grading.boxes import Boxes
from gdm_course.grading.ladder import LADDER
from gdm_course.grading.notebook import Rejected, load, read
from gdm_course.grading.session import Budget, slowness
from gdm_course.grading.verdict import Result, credible, restore, store
from gdm_course.source import ROOT

CLAIM = re.compile(rb"solutions/[a-z_]{1,40}/src/[a-z_]{1,40}\.py")


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


@dataclass
class Found:
    """What lies in a folder: distinct notebooks, and files that cannot be opened.

    Attributes:
        names: of the files of each hash, relative to the folder.
        paths: one file of each hash.
        refused: why a file was not even read, by its name.
        claims: the unit that each hash says it is of: a guess, to keep units together.
    """

    names: dict[str, list[str]]
    paths: dict[str, Path]
    refused: dict[str, str]
    claims: dict[str, bytes] = field(default_factory=dict)

    @property
    def by_unit(self) -> list[tuple[str, Path]]:
        """Hashes and files, those of a unit in a row: its boxes are warm then."""
        return sorted(self.paths.items(), key=lambda item: self.claims.get(item[0], b""))


def find(folder: Path) -> Found:
    """Look for `.ipynb` files at any depth. Links are not followed, archives not opened."""
    found = Found({}, {}, {})
    places = [folder] if folder.is_file() else _walk(folder)
    for path in places:
        name = path.name if path == folder else path.relative_to(folder).as_posix()
        try:
            data, key = load(path)
        except Rejected as error:
            found.refused[name] = str(error)
            continue
        found.names.setdefault(key, []).append(name)
        found.paths.setdefault(key, path)
        if claim := CLAIM.search(data):
            found.claims[key] = claim[0]
    return found


def _walk(folder: Path) -> Iterator[Path]:
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        if entry.is_dir(follow_symlinks=False):
            if not entry.name.startswith("."):  # .ipynb_checkpoints
                yield from _walk(Path(entry.path))
        elif entry.name.endswith(".ipynb"):
            yield Path(entry.path)


def grade_one(job: Job) -> Result:
    """Grade one submission and store the verdict: the unit of work of any executor."""
    try:
        data, key = load(job.path)
        if key != job.key:
            raise Rejected("the file changed while it was graded: grade again")
        notebook = read(data)
        chosen = _map(job.unit) if job.unit else match(notebook, _maps())
        if chosen is None:
            raise Rejected("no assignment of this course: name it with --unit")
        boxes = _boxes(job.rung, chosen.key)
        result = judge.grade(notebook, job.key, chosen, boxes.make, job.budget)
    except Rejected as error:
        result = judge.rejected(job.key, str(error))
    store(result, job.out)
    return result


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
    if result is None or (rung != "L0" and result.rung == "L0"):
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
    """Grade in parallel; yields each job as it ends, with None if its worker died."""
    waiting = {executor.submit(grade_one, job): job for job in jobs}
    for future in as_completed(waiting):
        try:
            yield waiting[future], future.result()
        except Exception:
            yield waiting[future], None
