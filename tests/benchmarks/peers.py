"""nbgrader and otter-grader, each in an environment of its own, on our small notebook.

GDM_NBGRADER and GDM_OTTER name the pythons of these environments; /tmp/nbg and /tmp/otter
are looked at, too. Both run a notebook in a kernel, and that is this Python with this
torch.
"""

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gdm_course.grading.box import watch
from gdm_course.source import ROOT

LAUNCH = "import sys; sys.path.append(sys.argv.pop(1)); "
LAUNCH += "from ipykernel.kernelapp import launch_new_instance as go; go()"
CONFIG = """c = get_config()
c.CourseDirectory.course_id = "bench"
c.CourseDirectory.root = "."
"""
OTTER = """import json, sys, time
from otter.api import grade_submission
scores = []
for path in sys.argv[2:]:
    found = grade_submission(path, sys.argv[1], quiet=True)
    scores.append([found.total, found.possible])
print(json.dumps(scores))
"""
SCORES = """import sys
from nbgrader.api import Gradebook
with Gradebook("sqlite:///gradebook.db") as book:
    print([[s.score, s.max_score] for s in book.assignment_submissions("ps1")])
"""


@dataclass(frozen=True)
class Run:
    """What grading n copies of one notebook took.

    Attributes:
        seconds: of the whole command, its start included.
        memory: the most that runs a student's code, in bytes: the kernel, or the box.
    """

    seconds: float
    memory: int


def python(name: str, module: str, folder: str) -> str | None:
    """An interpreter with a peer: what the variable names, or one in a known folder."""
    for path in (os.environ.get(name, ""), f"{folder}/bin/python"):
        if os.path.exists(path):
            code = f"import {module}"
            if subprocess.run([path, "-c", code], capture_output=True).returncode == 0:
                return path
    return None


def watched(command: list[str], cwd: Path, env: dict) -> tuple[Run, str]:
    """Run a command; its time, the peak of what it starts, and what it prints."""
    peak, over = [0], threading.Event()

    def look(pid: int) -> None:
        while not over.wait(0.1):
            peak[0] = max(peak[0], watch.memory(watch.family(pid)[1:], 1 << 60))

    begun = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    thread = threading.Thread(target=look, args=(process.pid,))
    thread.start()
    said, errors = process.communicate()
    seconds = time.perf_counter() - begun
    over.set()
    thread.join()
    assert process.returncode == 0, said + errors
    return Run(seconds, peak[0]), said


def environment(place: Path, peer: str, append: str) -> dict:
    """Where a peer finds its kernel: this Python, the peer's own packages come last."""
    kernel = place / "kernels" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    start = [sys.executable, "-c", LAUNCH, append, "-f", "{connection_file}"]
    spec = {"argv": start, "display_name": "Python 3", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec))
    return os.environ | {
        "PATH": f"{Path(peer).parent}{os.pathsep}{os.environ['PATH']}",
        "JUPYTER_PATH": str(place / "kernels"),
        "PYTHONPATH": str(ROOT),
        "HOME": str(place),
    }


def copies(place: Path, notebook: dict, n: int, where: str) -> list[Path]:
    """Write a notebook n times, as the files of n students."""
    paths = [place / where.format(i) for i in range(n)]
    for i, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            json.dumps({**notebook, "metadata": notebook["metadata"]}) + "\n" * i
        )
    return paths


def nbgrader(peer: str, place: Path, notebook: dict, n: int, points: float) -> Run:
    """`nbgrader autograde` on n submissions."""
    env = environment(place, peer, "")
    (place / "nbgrader_config.py").write_text(CONFIG)
    copies(place, notebook, 1, "source/ps1/small.ipynb")
    command = [str(Path(peer).parent / "nbgrader")]
    watched([*command, "generate_assignment", "ps1"], place, env)
    copies(place, notebook, n, "submitted/s{}/ps1/small.ipynb")
    found, _ = watched([*command, "autograde", "ps1"], place, env)
    _, said = watched([peer, "-c", SCORES], place, env)
    assert json.loads(said) == [[points, points]] * n, said
    return found


def otter(peer: str, place: Path, notebook: dict, n: int, points: dict) -> Run:
    """`otter.api.grade_submission` on n submissions, in one process."""
    code = "import otter; print(otter.__path__[0])"
    said = subprocess.run([peer, "-c", code], capture_output=True, text=True, check=True)
    env = environment(place, peer, str(Path(said.stdout.strip()).parent))
    (place / "tests").mkdir()
    for name, worth in points.items():
        case = f">>> bool(check.{name}.grade({name}).right)\nTrue"
        suite = {"cases": [{"code": case}], "scored": True, "type": "doctest"}
        test = {"name": name, "points": worth, "suites": [suite]}
        (place / "tests" / f"{name}.py").write_text(f"OK_FORMAT = True\ntest = {test!r}\n")
    start = [str(Path(peer).parent / "otter"), "generate", "-t", "tests", "-o", "a.zip"]
    watched([*start, "--no-requirements", "--no-environment"], place, env)
    paths = copies(place, without_checks(notebook), n, "in/s{}.ipynb")
    command = [peer, "-c", OTTER, "a.zip", *map(str, paths)]
    found, said = watched(command, place, env)
    total = sum(points.values())
    assert json.loads(said.splitlines()[-1]) == [[total, total]] * n, said
    return found


def without_checks(notebook: dict) -> dict:
    """A notebook without its check cells: there, otter's tests do their work."""
    is_check = re.compile(r"check\.\w+\(\w+\)")
    cells = [c for c in notebook["cells"] if not is_check.fullmatch(c["source"].strip())]
    return {**notebook, "cells": cells}


PEERS: dict[str, tuple[str, str, str, Callable]] = {
    "nbgrader": ("GDM_NBGRADER", "nbgrader.api", "/tmp/nbg", nbgrader),
    "otter-grader": ("GDM_OTTER", "otter.api", "/tmp/otter", otter),
}
