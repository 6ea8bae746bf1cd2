"""Many submissions: interrupted runs, shares of a job, a Dask cluster, small judges."""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from waiting import LONG, until

from gdm_course.grading.box import watch
from gdm_course.grading.box.ladder import LADDER
from gdm_course.grading.judge.verdict import restore
from gdm_course.grading.marks.stops import minding_interrupts
from gdm_course.source import ROOT
from tests.grading_class import UNIT, UNITS, Made, points, write_class

RUNGS = [rung.name for rung in LADDER if rung.name in ("L3", "L3u")]
BEST = next((r.name for r in LADDER if r.name in RUNGS and not r.missing()), None)
GRADE = [sys.executable, "-m", "gdm_course", "grade"]
PR_SET_CHILD_SUBREAPER = 36
boxed = pytest.mark.skipif(BEST is None, reason="no bubblewrap on this machine")


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that boxes can enter, whoever they run as; it is also what is temporary."""
    folder = Path(tempfile.mkdtemp(prefix="gdm-scale-"))
    folder.chmod(0o755)
    (folder / "tmp").mkdir()
    yield folder
    shutil.rmtree(folder)


def start(place: Path, *arguments: object) -> subprocess.Popen:
    """Start `gdm grade` as a shell does: in a process group of its own."""
    return subprocess.Popen(
        [*GRADE, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(place / "tmp")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(place: Path, *arguments: object, code: int = 0) -> str:
    """What it prints, and then what it says."""
    process = start(place, *arguments)
    said = "".join(process.communicate(timeout=LONG))
    assert process.returncode == code, said
    return said


def verdicts(out: Path) -> dict[Path, tuple[int, int]]:
    """Each stored verdict, by when it was written and the secret seed in it."""
    found = [path for path in out.glob("*.json") if len(path.stem) == 64]
    return {path: (path.stat().st_mtime_ns, restore(path).seed) for path in found}


def expect_marks(out: Path, known: dict[str, Made]) -> None:
    """Every file of the class has a verdict, and the marks that it must have."""
    index = json.loads((out / "index.json").read_text())["submissions"]
    assert {*index} == {*known}
    for name, made in known.items():
        result = restore(out / f"{index[name]}.json")
        assert result is not None, name
        assert {m.name: m.earned for m in result.marks} == made.expected, made
    assert len(verdicts(out)) == len({made.data for made in known.values()})


# Interrupted ------------------------------------------------------------------------------


@contextmanager
def nothing_left() -> Iterator[None]:
    """Whoever loses its parent becomes ours, and must end: nobody can slip away."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    before = {*watch.family(os.getpid())}
    try:
        yield

        def gone() -> bool:
            for pid in {*watch.family(os.getpid())} - before:
                with suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
            return not {*watch.family(os.getpid())} - before

        until(gone)
        left = {*watch.family(os.getpid())} - before
        names = [Path(f"/proc/{p}/cmdline").read_bytes()[:200] for p in left]
        assert not left, names
    finally:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def interrupted(place: Path, n: int, how: int) -> dict[Path, tuple[int, int]]:
    """Grade until n verdicts are there, then send a signal; what is stored afterwards."""
    out = place / "out"
    with nothing_left():
        process = start(place, place / "in", "--out", out, "--jobs", 2)
        begun = lambda: len([*out.glob("*.json")]) > n  # noqa: E731  with the index
        until(lambda: begun() or process.poll() is not None)
        assert process.poll() is None, "it was over too soon"
        if how == signal.SIGINT:
            os.killpg(process.pid, how)  # Ctrl-C reaches everybody in the terminal
        else:
            process.send_signal(how)
        said = "".join(process.communicate(timeout=LONG))
    kept = verdicts(out)
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert f"interrupted: {len(kept)} verdicts are safe" in said
        assert "Traceback" not in said
        assert [*(place / "tmp").iterdir()] == []
        assert [*out.glob(".*")] == []
    return kept


@boxed
def test_interrupted_and_killed_nothing_is_lost_or_graded_twice(place):
    n, out = 60, place / "out"
    known = write_class(place / "in", n, loops_each=10**6)
    first = interrupted(place, 2, signal.SIGINT)
    second = interrupted(place, len(first) + 2, signal.SIGKILL)
    assert first.items() <= second.items()
    assert 2 <= len(first) < len(second) < n
    said = run(place, place / "in", "--out", out, "--jobs", 2)
    new = n - len(second)
    assert f"{n} different: {new} graded, {len(second)} kept from before" in said
    third = verdicts(out)
    assert second.items() <= third.items()
    expect_marks(out, known)
    said = run(place, place / "in", "--out", out)
    assert f"{n} different: 0 graded, {n} kept" in said
    assert verdicts(out) == third


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_python_swallows_is_not_lost():
    """A worker told to stop must not look like one that failed."""
    before = signal.getsignal(signal.SIGINT)

    class Swallows:
        def __del__(self):  # of what is raised in here, Python prints a remark only
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)

    with pytest.raises(KeyboardInterrupt), minding_interrupts():
        Swallows()
    assert signal.getsignal(signal.SIGINT) is before
    with minding_interrupts():
        pass


# An array job -----------------------------------------------------------------------------


@boxed
def test_shares_and_a_merge_are_the_whole(place):
    known = write_class(place / "in", 8)
    folders = [place / "a", place / "b"]
    for i, out in enumerate(folders, 1):
        said = run(place, place / "in", "--out", out, "--shard", f"{i}/2", "--jobs", 2)
        assert "when every task has ended: gdm grade report" in said
        assert not (out / "marks.csv").exists()
    one, two = ({path.name for path in verdicts(out)} for out in folders)
    assert one
    assert two
    assert not one & two
    said = run(place, "merge", *folders, "--out", place / "all")
    assert "8 verdicts on 8 files" in said
    assert "conflicts" not in said
    expect_marks(place / "all", known)
    assert (place / "all" / "marks.csv").is_file()


# A cluster --------------------------------------------------------------------------------


@contextmanager
def dask(place: Path, *command: str, **more: str) -> Iterator[Path]:
    """A part of a cluster: its scheduler, or a worker; the file with the address."""
    pytest.importorskip("distributed")
    file = place / "scheduler.json"
    process = subprocess.Popen(
        [sys.executable, "-m", "dask", *command, "--scheduler-file", str(file)],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(place / "tmp"), **more},
        stdout=subprocess.DEVNULL,
        stderr=(place / f"{command[0]}.log").open("w"),
    )
    try:
        yield file
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(LONG)


def address(file: Path) -> str:
    def told() -> str:
        with suppress(OSError, ValueError):
            return json.loads(file.read_text())["address"]
        return ""

    return until(told) or pytest.fail("the scheduler does not start")


SCHEDULER = ("scheduler", "--port", "0", "--no-dashboard", "--host", "127.0.0.1")
WORKER = ("worker", "--nworkers", "1", "--nthreads", "2", "--no-dashboard")


@boxed
def test_a_dask_cluster_gives_the_same_marks(place):
    known = write_class(place / "in", 4)
    here = (place / "in", "--out", place / "out", "--executor", "dask", "--address")
    with nothing_left(), dask(place, *SCHEDULER) as file:
        where = address(file)
        said = run(place, *here, where, code=2)
        assert "✘ the cluster has no workers: start some with 'dask worker'" in said
        worker = (*WORKER, "--local-directory", str(place))
        with dask(place, *worker):
            wait_for_worker(where)
            said = run(place, *here, where, code=2)
            assert "its Python looks for modules in its current folder" in said
        with dask(place, *worker, PYTHONSAFEPATH="1"):
            wait_for_worker(where)
            assert "4 different: 4 graded" in run(place, *here, where)
            wait_for_worker(where)  # the cluster goes on
    expect_marks(place / "out", known)


def wait_for_worker(where: str) -> None:
    from distributed import Client

    with Client(where, timeout=LONG) as client:
        client.wait_for_workers(1, timeout=LONG)


# What cannot be done ----------------------------------------------------------------------

WRONG = {
    "shard above": (["--shard", "3/2"], "--shard 3/2: expected I/N with I from 1 to N"),
    "shard zero": (["--shard", "0/2"], "--shard 0/2: expected I/N"),
    "shard text": (["--shard", "x"], "--shard x: expected I/N"),
    "executor": (["--executor", "slurm"], "--executor slurm: expected local or dask"),
    "no address": (["--executor", "dask"], "give its --address tcp://HOST:PORT"),
    "address": (
        ["--executor", "dask", "--address", "tcp://127.0.0.1:1"],
        "no Dask scheduler at 'tcp://127.0.0.1:1': give its --address tcp://HOST:PORT",
    ),
    "unit": (["--unit", "flows/mfa"], "--unit flows/mfa: expected one of foundations/"),
    "floor": (["--floor", "L9"], "--floor L9: expected one of L4, L3, L3u"),
    "jobs": (["--jobs", "-1"], "Invalid value for '--jobs'"),
    "out": (["--out", "{}/in/a.ipynb"], "a.ipynb' is a file"),
    "nothing": (["{}/nothing"], "nothing does not exist: give the folder"),
    "empty": (["{}/tmp"], "tmp has no .ipynb files: give the folder"),
}


@boxed
@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_argument_gets_one_sentence(place, kind, monkeypatch):
    from click.testing import CliRunner
    from typer.main import get_command

    from gdm_course.grading.marks.cli import app

    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr("gdm_course.grading.marks.workers.PATIENCE", 2)
    (place / "in").mkdir()
    (place / "in" / "a.ipynb").write_bytes((ROOT / f"exercises/{UNIT}.ipynb").read_bytes())
    arguments, sentence = WRONG[kind]
    given = [argument.format(place) for argument in arguments]
    if given[0].startswith("--"):
        given = [str(place / "in"), "--out", str(place / "out"), *given]
    done = CliRunner().invoke(get_command(app), given)
    assert done.exit_code == 2, done.output
    assert sentence in done.output
    assert isinstance(done.exception, SystemExit)
    assert not verdicts(place / "out")


def test_without_dask_a_sentence_says_what_to_install(tmp_path, monkeypatch):
    from gdm_course.grading.marks.workers import Cluster, NoWorkers

    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(NoWorkers, match=r"pip install 'gdm_course\[cluster\]'"):
        Cluster("tcp://127.0.0.1:1", "L3", [], tmp_path)


@boxed
def test_a_unit_named_later_counts(place):
    """A notebook that fits no assignment has a verdict; with --unit it gets another one."""
    cells = [{"cell_type": "code", "metadata": {}, "source": "x = 1"}]
    (place / "a.ipynb").write_text(json.dumps({"cells": cells, "nbformat": 4}))
    run(place, place / "a.ipynb", "--out", place / "out")
    (path,) = verdicts(place / "out")
    assert restore(path).message.endswith("name it with --unit")
    run(place, place / "a.ipynb", "--out", place / "out", "--unit", UNIT)
    assert restore(path).assignment == UNIT
    assert {m.status for m in restore(path).marks} == {"missing"}


# Memory -----------------------------------------------------------------------------------

PEAK = """
import json, sys
from pathlib import Path
from gdm_course.grading.marks import batch
from gdm_course.grading.judge.budget import slowness
from gdm_course.grading.marks.workers import Local

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

rung, out, *paths = sys.argv[1:]
jobs, _ = batch.plan(batch.find(Path(paths[0])), Path(out), rung, "", resume=False)
with Local(1) as pool:
    for job in jobs:
        result = pool.submit(batch.grade_one, job).result()
        said = [result.status, result.earned, result.message, pool.submit(peak).result()]
        print(json.dumps([job.path.name, *said]), flush=True)
"""


def peaks(place: Path) -> dict[str, list]:
    """Grade what is in a folder with one judge; its peak so far, after each, in bytes."""
    (place / "out").mkdir()
    command = [sys.executable, "-c", PEAK, BEST, str(place / "out"), str(place / "in")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return {name: rest for name, *rest in map(json.loads, done.stdout.splitlines())}


def answering(source: str) -> str:
    """A notebook of UNIT in which every answer is one and the same function."""
    whole = json.loads((ROOT / f"solutions/{UNIT}.ipynb").read_text(encoding="utf-8"))
    text = "import torch\n"
    text += "".join(f"def {n}(*a, **k):\n    {source}\n" for n in points(UNIT))
    cell = {"cell_type": "code", "metadata": {}, "outputs": [], "source": text}
    said = [c for c in whole["cells"] if c["cell_type"] == "markdown"]
    return json.dumps({**whole, "cells": [*said, cell]})


LARGE = {
    "float64": "return torch.full((1_040_000,), 1.5, dtype=torch.float64)",
    "bytes": "return torch.ones(8_300_000, dtype=torch.uint8)",
    "many": "return tuple(torch.ones(32_000) for _ in range(64))",
}


@boxed
def test_a_judge_stays_under_300_megabytes(place):
    """Honest answers, the largest frames that it reads, the largest files that it reads."""
    (place / "in").mkdir()
    solved = (ROOT / f"solutions/{UNIT}.ipynb").read_bytes()
    (place / "in" / "a.ipynb").write_bytes(solved)
    for name, source in LARGE.items():
        (place / "in" / f"{name}.ipynb").write_text(answering(source))
    numbers = "1.5," * 990_000
    wide = f'{{"nbformat": 4, "cells": [], "x": [{numbers}1], "y": "{"x" * 11_500_000}"}}'
    (place / "in" / "wide.ipynb").write_text(wide)
    deep = f'{{"nbformat": 4, "cells": [], "x": [{"[[[[]]]]," * 49_000}1]}}'
    (place / "in" / "deep.ipynb").write_text(deep)
    found = peaks(place)
    assert found["a.ipynb"][:2] == ["graded", 15]
    for name in ("wide.ipynb", "deep.ipynb"):  # they are read, then no unit fits them
        assert "no assignment" in found[name][2]
    assert all(found[f"{name}.ipynb"][:2] == ["graded", 0] for name in LARGE), found
    assert max(peak for *_, peak in found.values()) < 300e6, found


@boxed
@pytest.mark.full
def test_one_judge_of_all_units_stays_under_300_megabytes(place):
    write_class(place / "in", len(UNITS) * 8, units=UNITS, loops_each=10**6)
    assert max(peak for *_, peak in peaks(place).values()) < 300e6


LIGHT = """
import sys
from gdm_course.grading.guest import light
light.install()
import torch
x = torch.zeros(1, requires_grad=True)
optimizer = torch.optim.Adam([x], lr=0.5)
optimizer.zero_grad()
(x - 1).square().sum().backward()
optimizer.step()
kept = vars(torch.optim.Optimizer.zero_grad.__wrapped__)
assert "__dynamo_disable" in kept
assert abs(x.item() - 0.5) < 1e-5
assert type(sys.modules["torch._dynamo"]) is light.Light, "nothing asked for the compiler"
double = torch.compile(lambda x: 2 * x, backend="eager")
assert double(torch.ones(1)) == 2
assert "torch._dynamo.eval_frame" in sys.modules, "now somebody did"
assert "__dynamo_disable" not in kept
import torch._dynamo.config
"""


def test_the_compiler_is_loaded_for_those_who_want_it():
    subprocess.run([sys.executable, "-c", LIGHT], check=True)
