"""The grader: seconds and memory beside its peers, and a class that is interrupted.

    python -m tests.benchmarks.grading                one small notebook, beside the peers
    python -m tests.benchmarks.grading --ours         the same, without the peers
    python -m tests.benchmarks.grading --class 500    a class, stopped in the middle
    python -m tests.benchmarks.grading --fuzz         a million frames, 10,000 notebooks

A peer that is not installed is named, and left out.
"""

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gdm_course.grading.box import watch
from gdm_course.grading.judge.verdict import Result, restore
from gdm_course.source import ROOT
from tests.benchmarks import peers
from tests.grading_class import UNIT, UNITS, Made, points, write_class

GRADE = [sys.executable, "-m", "gdm_course", "grade"]
SETUP = """import math
import torch
from torch import Tensor
from torch.distributions import Normal
from gdm_course.checks.foundations import densities as check"""
MB = 1e6
MANY = 100  # for the rate of one worker and of two


@contextmanager
def folder() -> Iterator[Path]:
    """A folder that boxes can enter, whoever they run as."""
    place = Path(tempfile.mkdtemp(prefix="gdm-bench-"))
    place.chmod(0o755)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def verdicts(out: Path) -> dict[str, Result]:
    """The stored verdicts, by hash."""
    found = [path for path in out.glob("*.json") if len(path.stem) == 64]
    return {path.stem: restore(path) for path in found}


# One small notebook -----------------------------------------------------------------------


def small() -> dict:
    """Imports, six answers, and a check under each: what a student hands in, no plots."""
    whole = json.loads((ROOT / f"solutions/{UNIT}.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in whole["cells"] if "nbgrader" in cell["metadata"]]
    for i, cell in enumerate(cells):
        cell.update(source="".join(cell["source"]), id=f"cell-{i}")
    setup = {"cell_type": "code", "metadata": {}, "outputs": [], "source": SETUP}
    setup |= {"execution_count": None, "id": "setup"}
    return {**whole, "cells": [setup, *cells]}


def ours(place: Path, n: int, jobs: int) -> tuple[peers.Run, list[Result]]:
    """`gdm grade` on n submissions; the verdicts in the order in which they came."""
    peers.copies(place, small(), n, "in/s{}.ipynb")
    command = [*GRADE, str(place / "in"), "--out", str(place / "out"), "--jobs", str(jobs)]
    run, _ = peers.watched(command, ROOT, os.environ | {})
    paths = [p for p in (place / "out").glob("*.json") if len(p.stem) == 64]
    found = [restore(path) for path in sorted(paths, key=lambda p: p.stat().st_mtime_ns)]
    total = sum(points(UNIT).values())
    assert [r.earned for r in found] == [total] * n, "not all of them got full marks"
    memory = max(result.memory_mib for result in found) << 20
    return peers.Run(run.seconds, memory), found


def per_second(out: Path, jobs: int) -> float:
    """Verdicts per second once every worker has given its first."""
    times = [p.stat().st_mtime for p in out.glob("*.json") if len(p.stem) == 64]
    rest = sorted(times)[2 * jobs - 1 :]
    return (len(rest) - 1) / (rest[-1] - rest[0]) if len(rest) > 1 else float("nan")


def row(name: str, n: int, run: peers.Run, **more: float) -> dict:
    """A line of the table: of one command on n submissions."""
    each = round(run.seconds / n, 2)
    memory = round(run.memory / MB)
    return {"grader": name, "n": n, "seconds_each": each, "memory_mb": memory, **more}


def rows(n: int = 8, beside: bool = True) -> Iterator[dict]:
    """One row per grader and number of workers, all on the same notebook."""
    for count, jobs in ((1, 1), (n, 1), (MANY, 1), (MANY, 2)):
        with folder() as place:
            run, found = ours(place, count, jobs)
            rate = per_second(place / "out", jobs)
        later = statistics.median(r.seconds for r in found[jobs:] or found)
        yield row(f"gdm grade --jobs {jobs}", count, run, in_box=later, per_second=rate)
    for name, (variable, module, usual, grade) in peers.PEERS.items() if beside else ():
        if (python := peers.python(variable, module, usual)) is None:
            absent = f"not installed: name a python that has it in {variable}"
            yield {"grader": name, "absent": absent}
            continue
        worth = points(UNIT)
        for count in (1, n):
            with folder() as place:
                total = worth if name == "otter-grader" else sum(worth.values())
                yield row(name, count, grade(python, place, small(), count, total))


def line(found: dict) -> str:
    """A row as a line of the table."""
    if "absent" in found:
        return f"| {found['grader']} | {found['absent']} | | | | |"
    rate = found.get("per_second", float("nan"))
    cells = [
        found["grader"],
        found["n"],
        f"{found['seconds_each']:.2f}",
        f"{found['in_box']:.2f}" if "in_box" in found else "",
        f"{rate:.1f}" if rate == rate else "",
        found["memory_mb"],
    ]
    return f"| {' | '.join(map(str, cells))} |"


HEAD = """| grader | submissions | seconds each | in a box | per second | memory, MB |
|---|---:|---:|---:|---:|---:|"""


# A class that is interrupted --------------------------------------------------------------


def until_half(command: list[str], out: Path, half: int) -> tuple[float, int, str]:
    """Start, press Ctrl-C when half is done; seconds, the peak of a judge, what it says."""
    begun, peak = time.perf_counter(), 0
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while process.poll() is None and len([*out.glob("*.json")]) < half + 1:  # the index
        peak = max(peak, judges(process.pid))
        time.sleep(0.2)
    everybody = watch.family(process.pid)
    os.killpg(process.pid, signal.SIGINT)
    said = "".join(process.communicate())
    end = time.monotonic() + 10  # the kernel takes a moment to end what was killed
    while (left := [*filter(alive, everybody)]) and time.monotonic() < end:
        time.sleep(0.1)
    assert not left, f"still running: {left}"
    assert process.returncode == 130, said
    return time.perf_counter() - begun, peak, said.splitlines()[-1]


def alive(pid: int) -> bool:
    """Whether a process runs; dead ones that nobody has collected do not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return stat.rpartition(b")")[2].split()[0] != b"Z"


def judges(pid: int) -> int:
    """The highest peak of the workers that judge, in bytes."""
    peak = 0
    for path in (Path(f"/proc/{one}") for one in watch.family(pid)[1:]):
        try:
            if b"gdm_course\0grade" in (path / "cmdline").read_bytes():
                status = (path / "status").read_text()
                peak = max(peak, int(status.partition("VmHWM:")[2].split()[0]) << 10)
        except (OSError, IndexError):
            continue
    return peak


def a_class(n: int) -> dict:
    """Grade a class of all units, stopped in the middle; every promise is asserted."""
    with folder() as place:
        out = place / "out"
        known = write_class(place / "in", n, units=UNITS)
        command = [*GRADE, str(place / "in"), "--out", str(out)]
        first, peak, said = until_half(command, out, n // 2)
        kept = {p: p.stat().st_mtime_ns for p in out.glob("*.json") if len(p.stem) == 64}
        seeds = {key: result.seed for key, result in verdicts(out).items()}
        begun = time.perf_counter()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        second = time.perf_counter() - begun
        assert f"{n - len(kept)} graded, {len(kept)} kept from before" in done.stdout
        twice = [path for path, when in kept.items() if path.stat().st_mtime_ns != when]
        assert not twice, "graded twice"
        found = verdicts(out)
        assert all(found[key].seed == seed for key, seed in seeds.items())
        wrong = mistakes(out, known, found)
    assert not wrong, wrong
    about = Counter(made.kind for made in known.values())
    boxes = max(result.memory_mib for result in found.values()) << 20
    return {
        "submissions": n,
        "kinds": dict(about),
        "units": len({made.unit for made in known.values()}),
        "first_seconds": round(first, 1),
        "stored_when_stopped": len(kept),
        "said": said,
        "second_seconds": round(second, 1),
        "judge_peak_mb": round(peak / MB),
        "box_peak_mb": round(boxes / MB),
        "lost": n - len(found),
        "graded_twice": len(twice),
        "wrong_marks": len(wrong),
    }


def mistakes(out: Path, known: dict[str, Made], found: dict[str, Result]) -> list[str]:
    """The files of the class without a verdict, or with other marks than they must have."""
    index = json.loads((out / "index.json").read_text())["submissions"]
    wrong = []
    for name, made in known.items():
        result = found.get(index.get(name, ""))
        marks = {m.name: m.earned for m in result.marks} if result else None
        if marks != made.expected:
            wrong.append(f"{name} ({made.unit}, {made.kind}): {marks}")
    return wrong


# Nonsense ---------------------------------------------------------------------------------

FRAMES, NOTEBOOKS = 1_000_000, 10_000


def fuzz() -> Iterator[dict]:
    """A million mutated frames, ten thousand damaged notebooks, read by a judge."""
    from gdm_course.grading.judge.budget import slowness
    from gdm_course.grading.marks.workers import Local
    from tests import test_grading_notebook, test_grading_wire

    slowness()
    for what, n, work in (
        ("mutated frames", FRAMES, test_grading_wire.fuzz),
        ("damaged notebooks", NOTEBOOKS, test_grading_notebook.fuzz),
    ):
        with Local(1) as judge:
            begun = time.perf_counter()
            read, refused = judge.submit(work, n, 0).result()  # another error ends this
            seconds = round(time.perf_counter() - begun, 1)
            peak = round(judge.submit(own_peak).result() / MB)
        assert read + refused == n
        numbers = {"read": read, "refused": refused, "other_errors": 0}
        yield {"what": what, "n": n, "seconds": seconds, **numbers, "judge_peak_mb": peak}


def own_peak() -> int:
    """The most memory that this process has had, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


def main(arguments: list[str]) -> int:
    """Measure what was asked for, and print it."""
    if "--class" in arguments:
        n = int(arguments[arguments.index("--class") + 1])
        print(json.dumps(a_class(n), indent=1))
    elif "--fuzz" in arguments:
        for found in fuzz():
            print(json.dumps(found), flush=True)
    else:
        print("load of the machine:", *os.getloadavg())
        print(HEAD)
        for found in rows(beside="--ours" not in arguments):
            print(line(found), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
