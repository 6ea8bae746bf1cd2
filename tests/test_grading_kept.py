"""What was judged is kept: full disks, folders in the way, broken files, kills."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from gdm_course.grading.box import held
from gdm_course.grading.box.box import Died, TooLate
from gdm_course.grading.box.held import Unwritable
from gdm_course.grading.guest.wire import Malformed
from gdm_course.grading.judge import stage, verdict
from gdm_course.grading.judge.verdict import Status, restore
from gdm_course.grading.marks import batch, worker
from gdm_course.grading.marks.collect import collect
from gdm_course.grading.marks.ledger import Named, read
from gdm_course.source import ROOT
from tests.fake_judge import gdm, grade, judge, marks, put, rows  # noqa: F401
from tests.grading_class import write_class
from tests.test_grading_scale import boxed, nothing_left

fake = pytest.mark.usefixtures("judge")
STUDENTS = {"ada": 1, "ben": 2, "cleo": 3}


@pytest.fixture
def place(tmp_path) -> Path:
    """Three students; their results go to `out`."""
    for student, earned in STUDENTS.items():
        put(tmp_path / "in" / student / "densities.ipynb", earned)
    return tmp_path


def whole(place: Path) -> None:
    """All marks are there, and every report says the same."""
    out = place / "out"
    assert marks(out) == {f"{s}/densities.ipynb": f"{n}" for s, n in STUDENTS.items()}
    assert all(
        name.split("/")[0] in (out / "class.html").read_text() for name in marks(out)
    )
    assert [entry.earned for entry in collect(out)] == [1, 2, 3]
    assert [*out.glob(".*")] == []


def stored(out: Path) -> list[float]:
    found = [restore(path) for path in out.glob("*.json") if len(path.stem) == 64]
    assert None not in found, "half a verdict"
    return sorted(result.earned for result in found)


def one_sentence(said: str, *parts: str) -> None:
    assert said.count("✘") == 1, said
    assert "Traceback" not in said
    for part in parts:
        assert part in said


# A disk that is full, or cannot be written to ---------------------------------------------

FILES = ("index.json", "verdict", "results.json", "page", "marks.csv", "questions.csv")
FILES += ("aside.csv", "class.html")
WHY = {
    errno.ENOSPC: "No space left on device: make room",
    errno.EROFS: "Read-only file system: make it writable",
    errno.EACCES: "Permission denied: make it writable",
}


def kind(path: Path) -> str:
    """Which of FILES a path is."""
    if path.parent.name == "pages":
        return "page"
    return "verdict" if len(path.stem) == 64 else path.name


@fake
@pytest.mark.parametrize("number", WHY, ids=errno.errorcode.get)
@pytest.mark.parametrize("which", FILES)
def test_whatever_cannot_be_written_is_one_sentence(place, monkeypatch, which, number):
    out, real, met = place / "out", os.replace, []

    def refused(source, target):
        if kind(Path(target)) == which:
            met.append(target)
            raise OSError(number, os.strerror(number), source)
        return real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(verdict.os, "replace", refused)
        said = grade(place / "in", out=out, code=2)
    one_sentence(said, WHY[number], "what was judged is kept", str(out))
    assert met or which == "verdict"  # which a worker writes
    expected = [] if which in ("index.json", "verdict") else [1, 2, 3]
    assert stored(out) == expected
    assert [*out.glob(".*")] == [], "no half file stays behind"
    said = grade(place / "in", out=out)
    assert f"{3 - len(expected)} graded, {len(expected)} kept from before" in said
    whole(place)


@fake
def test_a_disk_that_fills_up_stops_the_run_and_keeps_what_is_judged(place, monkeypatch):
    """The second verdict has no room: the third is not even tried."""
    out, real = place / "out", batch.store

    def store(result, folder):
        if [*folder.glob("?" * 64 + ".json")]:
            raise Unwritable(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
        return real(result, folder)

    with monkeypatch.context() as patch:
        patch.setattr(batch, "store", store)
        said = grade(place / "in", out=out, code=2)
    one_sentence(said, f"{out}: No space left on device: make room, then run this again")
    assert len(stored(out)) == 1
    assert "2 graded, 1 kept from before" in grade(place / "in", out=out)
    whole(place)


@fake
def test_a_full_folder_of_temporary_files_is_one_sentence(place, monkeypatch):
    """A stage cannot be built: that is no fault of any student's."""
    out = place / "out"

    def full(self, *rest):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    monkeypatch.setattr(held.tempfile, "tempdir", str(place))
    monkeypatch.setattr(batch, "_judged", lambda job: stage.build(batch._maps()["vae/vae"]))
    with monkeypatch.context() as patch:
        patch.setattr(stage, "_write", full)
        said = grade(place / "in", out=out, code=2)
    one_sentence(said, f"{place / held.STAGE}", "No space left on device: make room")
    assert stored(out) == []
    assert [*place.glob(f"{held.STAGE}*")] == []
    assert [row["status"] for row in rows_after(out)] == ["not graded"] * 3


def rows_after(out: Path) -> list[dict]:
    gdm("report", out)
    return rows(out)


@pytest.fixture
def small(tmp_path) -> Iterator[Path]:
    """A disk of 64 KiB at `out`."""
    (tmp_path / "out").mkdir()
    options = ["-o", "size=64k,nr_inodes=1000"]
    command = ["mount", "-t", "tmpfs", *options, "none", str(tmp_path / "out")]
    if os.geteuid() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("only root mounts")
    yield tmp_path / "out"
    subprocess.run(["umount", str(tmp_path / "out")], check=True)


@fake
def test_a_disk_of_64_kib(place, small):
    """A real one: full before the run, full in the midst of it, with room again."""
    (small / "ballast").write_bytes(bytes(64 << 10))
    one_sentence(grade(place / "in", out=small, code=2), "No space left on device")
    (small / "ballast").write_bytes(bytes(48 << 10))
    one_sentence(grade(place / "in", out=small, code=2), "No space left on device")
    before = stored(small)
    assert before
    (small / "ballast").unlink()
    assert f"{len(before)} kept from before" in grade(place / "in", out=small)
    whole(place)


@fake
def test_results_that_can_only_be_read(place, small):
    grade(place / "in", out=small)
    remount = ["mount", "-o", "remount,{}", str(small)]
    subprocess.run([word.format("ro") for word in remount], check=True)
    try:
        for said in (
            grade(place / "in", out=small, code=2),
            gdm("report", small, code=2),
            gdm("merge", small, "--out", small, code=2),
        ):
            one_sentence(said, "Read-only file system: make it writable")
        said = gdm("merge", small, "--out", place / "copy")
        assert "3 verdicts on 3 files" in said
    finally:
        subprocess.run([word.format("rw") for word in remount], check=True)
    whole(place)


# Something in the way ---------------------------------------------------------------------

TAKEN = ("index.json", "index.lock", "marks.csv", "questions.csv", "aside.csv")
TAKEN += ("class.html", "pages/{}.html", "gradescope/{}/results.json")


@fake
@pytest.mark.parametrize("name", TAKEN)
def test_a_folder_that_has_the_name_of_a_report(place, name):
    out = place / "out"
    way = out / name.format(Named("ben/densities.ipynb").key)
    (way / "mine").mkdir(parents=True)
    said = grade(place / "in", out=out, code=2)
    one_sentence(said, str(way.relative_to(out)))
    if name != "index.json":  # which is none of ours, then
        one_sentence(said, "move the folder of that name away")
    assert stored(out) == ([] if name.startswith("index") else [1, 2, 3])
    assert (way / "mine").is_dir(), "nothing is removed that we did not make"
    (way / "mine").rmdir()
    way.rmdir()
    grade(place / "in", out=out)
    whole(place)


@fake
@pytest.mark.parametrize("name", ["pages", "gradescope", "gradescope/{}"])
def test_a_file_that_has_the_name_of_a_folder(place, name):
    out = place / "out"
    way = out / name.format(Named("ben/densities.ipynb").key)
    way.parent.mkdir(parents=True)
    way.write_text("mine")
    one_sentence(
        grade(place / "in", out=out, code=2), str(way), "move the file of that name"
    )
    assert stored(out) == [1, 2, 3]
    way.unlink()
    grade(place / "in", out=out)
    whole(place)


@fake
def test_a_folder_that_has_the_name_of_a_verdict(place):
    out = place / "out"
    grade(place / "in", out=out)
    key = read(out).names["ben/densities.ipynb"]
    (out / f"{key}.json").unlink()
    (out / f"{key}.json").mkdir()
    assert [row["status"] for row in rows_after(out)] == ["graded", "not graded", "graded"]
    one_sentence(grade(place / "in", out=out, code=2), "move the folder of that name away")
    assert (out / f"{key}.json").is_dir()
    (out / f"{key}.json").rmdir()
    grade(place / "in", out=out)
    whole(place)


@fake
@pytest.mark.parametrize("below", ["file", "file/deeper/still"])
def test_results_below_a_file(place, below):
    (place / "file").write_text("mine")
    arguments = ("--out", place / below)
    for command in ((place / "in",), ("merge", place / "one")):
        if command[0] == "merge":
            grade(place / "in", out=place / "one")
        said = gdm(*command, *arguments, code=2)
        assert "is a file" in said or "move the file of that name away" in said
        assert "Traceback" not in said
    assert (place / "file").read_text() == "mine"


# Files that are broken --------------------------------------------------------------------


def changed(data: bytes, **values: object) -> bytes:
    return json.dumps({**json.loads(data), **values}).encode()


def mark(data: bytes, **values: object) -> bytes:
    (one,) = json.loads(data)["marks"]
    return changed(data, marks=[{**one, **values}])


BROKEN = {
    "empty": lambda data: b"",
    "null": lambda data: b"null",
    "list": lambda data: b"[]",
    "text": lambda data: b'"graded"',
    "number": lambda data: b"3",
    "half": lambda data: data[: len(data) // 2],
    "binary": lambda data: bytes(range(256)),
    "zeros": lambda data: bytes(len(data)),
    "deep": lambda data: b"[" * 100_000,
    "another's": lambda data: changed(data, sha256="0" * 64),
    "marks are text": lambda data: changed(data, marks="first"),
    "marks are null": lambda data: changed(data, marks=None),
    "a mark is null": lambda data: changed(data, marks=[None]),
    "a mark is a list": lambda data: changed(data, marks=[[]]),
    "points are text": lambda data: mark(data, earned="3"),
    "points are true": lambda data: mark(data, earned=True),
    "points are null": lambda data: mark(data, earned=None),
    "no number": lambda data: mark(data, earned=float("nan")),
    "a message is a list": lambda data: mark(data, message=["x"]),
    "an unknown status": lambda data: mark(data, status="fine"),
    "one value more": lambda data: mark(data, bonus=1),
    "another version": lambda data: changed(data, schema=0),
    "a seed is text": lambda data: changed(data, seed="1"),
    "no assignment": lambda data: changed(data, assignment=None),
}


@fake
@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_verdict_is_no_mark_and_is_made_again(place, how):
    out = place / "out"
    grade(place / "in", out=out)
    path = out / f"{read(out).names['ben/densities.ipynb']}.json"
    path.write_bytes(BROKEN[how](path.read_bytes()))
    assert restore(path) is None
    ada, ben, cleo = rows_after(out)
    assert (ben["status"], ben["earned"]) == ("not graded", "")
    assert "run 'gdm grade' again" in ben["message"]
    assert (ada["earned"], cleo["earned"]) == ("1", "3")
    assert "1 graded, 2 kept from before" in grade(place / "in", out=out)
    whole(place)


@pytest.mark.parametrize("how", ["changed", "gone"])
def test_a_file_that_changes_while_it_waits_is_tried_again(place, how):
    """No verdict of the old bytes may come from the new ones, nor be kept."""
    file, out = place / "in" / "ben" / "densities.ipynb", place / "out"
    file.write_text("{}")
    found = batch.find(place / "in" / "ben")
    out.mkdir()
    (job,), _ = batch.plan(found, out, "L0", "", resume=True)
    file.write_text("[]") if how == "changed" else file.unlink()
    assert batch.grade_one(job).status == Status.UNJUDGED
    jobs, kept = batch.plan(found, out, "L0", "", resume=True)
    assert ([one.key for one in jobs], kept) == ([job.key], [])


@pytest.mark.parametrize("end", [TooLate, Died, Malformed])
def test_a_box_that_never_gets_ready_costs_no_student_a_point(place, monkeypatch, end):
    """A machine that is too slow, or whose boxes do not start: that is no 0."""

    class Never:
        rung, peak, cpu, closed = "L3", 0, 0.0, 0

        def ready(self, seconds: float) -> None:
            raise end("x")

        def close(self) -> None:
            Never.closed += 1

    out, solved = place / "out", place / "in" / "ben" / "densities.ipynb"
    solved.write_bytes(
        (ROOT / "solutions" / "foundations" / "densities.ipynb").read_bytes()
    )
    monkeypatch.setattr(batch, "_boxes", lambda *_: SimpleNamespace(make=Never))
    out.mkdir()
    found = batch.find(solved)
    (job,), _ = batch.plan(found, out, "L3", "", resume=True)
    result = batch.grade_one(job)
    assert (result.status, result.marks) == (Status.UNJUDGED, ())
    assert "no box gets ready" in result.message
    assert Never.closed == 2
    jobs, kept = batch.plan(found, out, "L3", "", resume=True)
    assert (len(jobs), kept) == (1, [])


@fake
def test_half_files_of_the_dead_go_and_those_of_the_living_stay(place):
    out = place / "out"
    out.mkdir()
    for name in (".old.part", ".new.part"):
        (out / name).write_text("half")
    os.utime(out / ".old.part", (0, 0))
    grade(place / "in", out=out)
    assert [path.name for path in out.glob(".*")] == [".new.part"]


# Folders of the dead ----------------------------------------------------------------------

MAKE = """
import sys, time
from pathlib import Path
from gdm_course.grading.box import held
print(held.make("gdm-test-", Path(sys.argv[1])), flush=True)
sys.stdin.read()
"""


def test_a_folder_goes_with_its_process_however_it_ends(tmp_path):
    for kill in (False, True):
        process = subprocess.Popen(
            [sys.executable, "-c", MAKE, tmp_path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        folder = Path(process.stdout.readline().strip())
        (folder / "deep" / "er").mkdir(parents=True)
        held.sweep("gdm-test-", where=tmp_path)
        assert folder.is_dir(), "its process lives"
        if kill:
            process.kill()
        process.communicate()
        assert folder.is_dir() == kill
        held.sweep("gdm-test-", where=tmp_path)
        assert not folder.exists()


def test_a_sweep_touches_nothing_else(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("mine")
    (tmp_path / "gdm-test-link").symlink_to(tmp_path / "kept")
    (tmp_path / "gdm-test-file").write_text("mine")
    (tmp_path / "gdm-other-x").mkdir()
    own = held.make("gdm-test-", tmp_path)
    held.sweep("gdm-test-", where=tmp_path)
    left = {"kept", "gdm-test-link", "gdm-test-file", "gdm-other-x", own.name}
    assert {path.name for path in tmp_path.iterdir()} == left
    assert (tmp_path / "kept" / "file").read_text() == "mine"
    held.drop(own)
    assert not own.exists()


def test_a_folder_swept_at_birth_is_made_again(tmp_path, monkeypatch):
    """Between making a folder and locking it, another process may sweep it."""
    real, swept = held.tempfile.mkdtemp, []

    def made(*args, **kwargs):
        path = real(*args, **kwargs)
        if not swept:
            swept.append(path)
            os.rmdir(path)
        return path

    monkeypatch.setattr(held.tempfile, "mkdtemp", made)
    folder = held.make("gdm-test-", tmp_path)
    assert folder.is_dir()
    assert [str(folder)] != swept
    held.drop(folder)


def test_an_interrupted_stage_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(held.tempfile, "tempdir", str(tmp_path))

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stage.build(batch._maps()["vae/vae"])
    assert [*tmp_path.iterdir()] == []


# Signals ----------------------------------------------------------------------------------

GENTLE = [("index", "SIGTERM", "main"), ("hiring", "SIGTERM", "group")]
GENTLE += [("stage", "SIGTERM", "main"), ("ask", "SIGTERM", "group")]
GENTLE += [("verdict", "SIGHUP", "group"), ("report", "SIGTERM", "main")]
HARSH = [("index", "SIGKILL", "group"), ("stage", "SIGKILL", "group")]
HARSH += [("ask", "SIGKILL", "group"), ("ask", "SIGKILL", "main")]
HARSH += [("verdict", "SIGKILL", "group"), ("report", "SIGKILL", "group")]
SOME = {("hiring", "SIGTERM", "group"), ("ask", "SIGTERM", "group")}
SOME |= {("stage", "SIGKILL", "group"), ("report", "SIGKILL", "group")}


def often(cases: list) -> list:
    """Each in the full tests, some in all."""
    return [
        pytest.param(
            *case, id="-".join(case), marks=[] if case in SOME else pytest.mark.full
        )
        for case in cases
    ]


@pytest.fixture
def real_class() -> Iterator[Path]:
    """Two notebooks, in a place where boxes can be; `tmp` is for temporary files."""
    folder = Path(tempfile.mkdtemp(prefix="gdm-kept-"))
    folder.chmod(0o755)
    (folder / "tmp").mkdir()
    write_class(folder / "in", 2)
    yield folder
    shutil.rmtree(folder)


def started(place: Path, *command: str) -> tuple[int, str]:
    """Run to its end, in a group of its own; the way it ended, and what it said."""
    todo = [sys.executable, "-m", *command, place / "in", "--out", place / "out"]
    process = subprocess.Popen(
        [*todo, "--jobs", "2"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(place / "tmp")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    said, _ = process.communicate()
    return process.returncode, said


def goes_on(place: Path) -> None:
    """The next run waits for nobody, ends what was begun, and leaves nothing."""
    code, said = started(place, "gdm_course", "grade")
    assert code == 0, said
    assert "waiting" not in said
    assert "2 notebooks, 2 different" in said
    assert [*(place / "tmp").iterdir()] == []
    assert {row["status"] for row in rows(place / "out")} == {"graded"}
    assert not [*(place / "out").glob("index.lock.by")]


@boxed
@pytest.mark.parametrize(("moment", "name", "whom"), often(GENTLE))
def test_a_signal_is_an_interrupt_at_any_moment(real_class, moment, name, whom):
    with nothing_left():
        code, said = started(real_class, "tests.kill_runs", moment, name, whom)
    assert code == 130, said
    assert "verdicts are safe in" in said
    assert "Traceback" not in said
    assert [*(real_class / "tmp").iterdir()] == []
    assert [*(real_class / "out").glob(".*")] == []
    goes_on(real_class)


def test_a_second_signal_does_not_disturb_how_the_first_is_obeyed(monkeypatch):
    """Ctrl-C reaches a worker twice: from the terminal, and from its parent."""
    monkeypatch.setattr(worker, "_stopped", False)
    monkeypatch.setattr(worker, "_ending", False)
    done = []

    def call() -> None:
        try:
            worker._told_to_stop(signal.SIGINT, sys._getframe())
        finally:
            worker._told_to_stop(signal.SIGINT, sys._getframe())
            done.append("the box is closed")

    result, error = worker._unless_stopped(call)
    assert done == ["the box is closed"]
    assert result is None
    assert isinstance(error, worker.ToldToStop)
    assert isinstance(worker._unless_stopped(done.clear)[1], worker.ToldToStop)
    assert done, "nothing is begun any more"


@pytest.mark.parametrize("refused", [False, True])
@pytest.mark.parametrize("moment", ["mkstemp", "fsync", "replace", "unlink"])
def test_a_signal_leaves_no_half_verdict(tmp_path, monkeypatch, moment, refused):
    """At the worst moments: the file is there but not its `try`, or it is being removed."""
    monkeypatch.setattr(worker, "_stopped", False)
    module = verdict.tempfile if moment == "mkstemp" else verdict.os
    real = getattr(module, moment)

    def told(*args: object, **kwargs: object) -> object:
        made = real(*args, **kwargs) if moment == "mkstemp" else None
        worker._told_to_stop(signal.SIGINT, sys._getframe())
        return made or real(*args, **kwargs)

    if refused:
        target = tmp_path / "verdict.json"
        target.mkdir()  # nothing can replace a folder
    monkeypatch.setattr(module, moment, told)
    result, error = worker._unless_stopped(verdict.write, tmp_path / "verdict.json", "{}")
    assert (result, isinstance(error, Unwritable)) == (None, refused)
    assert [path.name for path in tmp_path.iterdir()] == ["verdict.json"]
    if moment != "unlink" or refused:
        done = worker._unless_stopped(tmp_path.rmdir)
        assert isinstance(done[1], worker.ToldToStop), "nothing is begun any more"


@boxed
@pytest.mark.parametrize(("moment", "name", "whom"), often(HARSH))
def test_after_a_kill_the_next_run_cleans_up(real_class, moment, name, whom):
    with nothing_left():
        code, said = started(real_class, "tests.kill_runs", moment, name, whom)
    assert code == -signal.SIGKILL, said
    if whom == "main":  # the workers see that they are alone
        assert [*(real_class / "tmp").iterdir()] == []
    goes_on(real_class)


@boxed
@pytest.mark.full
@pytest.mark.parametrize("moment", ["stage", "ask"])
def test_a_worker_that_is_killed_leaves_nothing(real_class, moment):
    with nothing_left():
        code, said = started(real_class, "tests.kill_runs", moment, "SIGKILL", "self")
    assert code == 0, said
    assert [*(real_class / "tmp").iterdir()] == []
    goes_on(real_class)
