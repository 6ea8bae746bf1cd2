"""Waiting times of commands, and the budget of lectures and solutions."""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from gdm_course.authoring import derive
from gdm_course.authoring.check import check
from gdm_course.publishing import full
from gdm_course.publishing.execute import environment, execute, notebooks
from gdm_course.source import ROOT
from tests import mini_course

# what to call, seconds asked for
COMMANDS = {
    "gdm check": 2.0,
    "gdm --help": 1.0,
}

CHECK = "from pathlib import Path; from gdm_course.authoring.check import check; "
CHECK += "sys.exit(bool(check(Path())))"


def wall(
    command: list[str], repeat: int = 3, cwd: Path = ROOT, strict: bool = True
) -> float:
    """Median seconds of a command, start of Python included."""
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        subprocess.run(command, cwd=cwd, capture_output=True, check=strict)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def commands() -> Iterator[dict]:
    """The waiting time of each command."""
    for name, goal in COMMANDS.items():
        arguments = name.split()[1:]
        seconds = wall([sys.executable, "-m", "gdm_course", *arguments], strict=False)
        yield {"name": name, "seconds": round(seconds, 3), "goal": goal}
    yield thirty_units()
    yield {"name": "import gdm_course, after torch", "seconds": import_time(), "goal": 0.2}


def import_time() -> float:
    """Seconds that `import gdm_course` takes in a process that has imported torch."""
    code = "import torch, time; t = time.perf_counter(); import gdm_course; "
    code += "print(time.perf_counter() - t)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True)
    return round(float(done.stdout), 4)


def thirty_units() -> dict:
    """`gdm check` on a synthetic course of thirty units, start of Python included."""
    with tempfile.TemporaryDirectory() as folder:
        root = mini_course.make(Path(folder), 30)
        derive.sync(root)
        assert not check(root)
        source = f"import sys; sys.path.insert(0, {str(ROOT)!r}); {CHECK}"
        seconds = wall([sys.executable, "-c", source], cwd=root)
    return {"name": "gdm check, 30 units", "seconds": round(seconds, 3), "goal": 2.0}


def budgets() -> Iterator[dict]:
    """Every lecture and solution at full budget, as `make full` records it."""
    limit = full.limits()
    for path in notebooks("lectures", "solutions"):
        yield full.record(execute(path, environment(check=True)), limit)
