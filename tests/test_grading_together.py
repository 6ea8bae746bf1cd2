"""Several runs into one folder of results: they add up, and what is left out is named."""

import json
import multiprocessing
import os
import signal
import threading
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import pytest

from gdm_course.grading.judge.verdict import restore
from gdm_course.grading.marks import batch, turns
from gdm_course.grading.marks.ledger import Ledger, NoResults, keep, read
from tests.fake_judge import UNITS, gdm, grade, judge, marks, put, rows  # noqa: F401

pytestmark = pytest.mark.usefixtures("judge")

# Runs add up ------------------------------------------------------------------------------


def test_two_classes_are_one_table(tmp_path):
    out = tmp_path / "out"
    put(tmp_path / "monday" / "ada" / "densities.ipynb", 1)
    put(tmp_path / "tuesday" / "zoe" / "densities.ipynb", 2)
    grade(tmp_path / "monday", out=out)
    said = grade(tmp_path / "tuesday", out=out)
    assert marks(out) == {"ada/densities.ipynb": "1", "zoe/densities.ipynb": "2"}
    assert "1 more files are from earlier runs, 2 in all" in said
    page = (out / "class.html").read_text()
    assert "ada/densities.ipynb" in page
    assert len([*(out / "pages").iterdir()]) == 2
    assert grade(tmp_path / "monday", out=out)
    assert len(marks(out)) == 2


def test_a_newer_file_in_the_same_place_counts_and_the_older_is_named(tmp_path):
    out, file = tmp_path / "out", tmp_path / "in" / "ada" / "densities.ipynb"
    put(file, 1)
    put(tmp_path / "in" / "ben" / "densities.ipynb", 3)
    grade(tmp_path / "in", out=out)
    old = read(out).names["ada/densities.ipynb"]
    put(file, 2)
    said = grade(tmp_path / "in", out=out)
    assert "a newer file replaces one of before: ada/densities.ipynb" in said
    assert marks(out) == {"ada/densities.ipynb": "2", "ben/densities.ipynb": "3"}
    page = (out / "class.html").read_text()
    assert "Replaced by a newer file" in page
    assert "1 / 3" in page
    assert restore(out / f"{old}.json").earned == 1, "the verdict on it is kept"
    put(file, 1)  # handed in again as it was
    grade(tmp_path / "in", out=out)
    assert marks(out)["ada/densities.ipynb"] == "1"
    assert [one.key != old for one in read(out).replaced] == [True]


def test_one_name_in_two_folders_is_two_files(tmp_path):
    """Two classes may both have a student-01: nobody can know whether it is the same."""
    out = tmp_path / "out"
    for i, day in enumerate(("monday", "tuesday", "friday"), 1):
        put(tmp_path / day / "student-01" / "densities.ipynb", i)
        said = grade(tmp_path / day, out=out)
    name = "student-01/densities.ipynb"
    assert marks(out) == {name: "1", f"{name} (2)": "2", f"{name} (3)": "3"}
    assert {row["student"] for row in rows(out)} == {"student-01"}
    assert f"so both are listed: {name} (3)" in said
    told = {row["file"]: row["message"] for row in rows(out)}
    assert told[name] == f"a later file has the same name: {name} (3)"
    assert told[f"{name} (3)"] == ""


def test_a_folder_that_was_moved_holds_the_same_files(tmp_path):
    out = tmp_path / "out"
    put(tmp_path / "in" / "ada" / "densities.ipynb", 1)
    put(tmp_path / "in" / "ben" / "notes.txt", 1)
    (tmp_path / "in" / "ben" / "notes.txt").write_text("ill")
    grade(tmp_path / "in", out=out)
    (tmp_path / "in").rename(tmp_path / "moved")
    said = grade(tmp_path / "moved", out=out)
    assert marks(out) == {"ada/densities.ipynb": "1", "ben/notes.txt": ""}
    assert "(2)" not in said
    put(tmp_path / "moved" / "ada" / "densities.ipynb", 3)
    assert "a newer file replaces" in grade(tmp_path / "moved", out=out)
    assert marks(out)["ada/densities.ipynb"] == "3"


def test_two_units_of_one_name_both_count(tmp_path):
    """A folder in which each week's ada.ipynb lies over the last one's."""
    out, file = tmp_path / "out", tmp_path / "in" / "ada.ipynb"
    for i, unit in enumerate(UNITS):
        put(file, i, unit)
        grade(tmp_path / "in", out=out)
    found = {(row["student"], row["assignment"], row["earned"]) for row in rows(out)}
    assert found == {("ada", UNITS[0], "0"), ("ada", UNITS[1], "1")}
    assert not [row for row in rows(out) if row["message"]]
    put(file, 3, UNITS[1])
    assert "a newer file replaces one of before: ada.ipynb (2)" in grade(file, out=out)


def test_one_file_graded_again_keeps_its_student(tmp_path):
    """An appeal: the file or the student's folder alone, by its path in the class."""
    out = tmp_path / "out"
    for i, student in enumerate(("ada", "ben")):
        put(tmp_path / "in" / student / "densities.ipynb", i)
    grade(tmp_path / "in", out=out)
    before = rows(out)
    grade(tmp_path / "in" / "ada" / "densities.ipynb", "--again", out=out)
    grade(tmp_path / "in" / "ben", "--again", out=out)
    assert rows(out) == before
    put(tmp_path / "in" / "ben" / "more" / "other.ipynb", 3)
    grade(tmp_path / "in" / "ben", out=out)
    assert {row["file"]: row["student"] for row in rows(out)} == {
        "ada/densities.ipynb": "ada",
        "ben/densities.ipynb": "ben",
        "ben/more/other.ipynb": "ben",
    }


def test_a_student_tried_first_is_part_of_the_class_later(tmp_path):
    out = tmp_path / "out"
    put(tmp_path / "in" / "ada" / "densities.ipynb", 1)
    put(tmp_path / "in" / "ben" / "densities.ipynb", 2)
    grade(tmp_path / "in" / "ada", out=out)
    assert [row["student"] for row in rows(out)] == ["densities"]
    grade(tmp_path / "in", out=out)
    assert marks(out) == {"ada/densities.ipynb": "1", "ben/densities.ipynb": "2"}


def test_who_is_no_longer_there_stays_and_is_named(tmp_path):
    out = tmp_path / "out"
    for student in ("ada", "ben"):
        put(tmp_path / "in" / student / "densities.ipynb", 1, text=student)
    grade(tmp_path / "in", out=out)
    (tmp_path / "in" / "ada" / "densities.ipynb").unlink()
    (tmp_path / "in" / "ada").rmdir()
    said = grade(tmp_path / "in", out=out)
    assert f"no longer in {tmp_path / 'in'}, kept from before: ada/densities.ipynb" in said
    assert [*marks(out)] == ["ada/densities.ipynb", "ben/densities.ipynb"]


def test_a_line_without_a_file_goes_when_the_file_comes(tmp_path):
    out, place = tmp_path / "out", tmp_path / "in"
    put(place / "ada" / "densities.ipynb", 1)
    (place / "ben").mkdir()
    grade(place, out=out)
    assert marks(out) == {"ada/densities.ipynb": "1", "ben/": ""}
    put(place / "ben" / "densities.ipynb", 2)
    grade(place, out=out)
    assert marks(out) == {"ada/densities.ipynb": "1", "ben/densities.ipynb": "2"}


@pytest.mark.parametrize("how", ["broken", "link", "large"])
def test_a_newer_file_that_cannot_be_read_is_no_older_mark(tmp_path, how):
    out, file = tmp_path / "out", tmp_path / "in" / "ada" / "densities.ipynb"
    put(file, 3)
    grade(tmp_path / "in", out=out)
    file.unlink()
    if how == "broken":
        put(file, None)
    elif how == "link":
        file.symlink_to("/etc/hostname")
    else:
        with file.open("wb") as large:
            large.truncate(20 << 20)
    said = grade(tmp_path / "in", out=out)
    (row,) = rows(out)
    assert (row["file"], row["status"]) == ("ada/densities.ipynb", "malformed")
    assert (row["earned"], row["points"]) == ("", "")
    assert "a newer file replaces one of before: ada/densities.ipynb" in said


def test_marks_of_two_versions_of_an_assignment_are_named(tmp_path, monkeypatch):
    out = tmp_path / "out"
    put(tmp_path / "in" / "ada" / "densities.ipynb", 1)
    put(tmp_path / "in" / "ben" / "densities.ipynb", 2)
    assert "versions of" not in grade(tmp_path / "in", out=out)
    monkeypatch.setenv("GDM_VERSION", "repaired")
    said = grade(tmp_path / "in" / "ben", "--again", out=out)
    assert f"2 versions of {UNITS[0]} among the marks" in said
    assert [row["version"] for row in rows(out)] == ["now", "repaired"]
    assert f"Marks of 2 versions of {UNITS[0]}" in (out / "class.html").read_text()


def test_what_was_not_read_is_listed_over_all_runs(tmp_path):
    out = tmp_path / "out"
    for day in ("monday", "tuesday"):
        put(tmp_path / day / "ada" / f"{day}.ipynb", 1)
        (tmp_path / day / "ada" / f"{day}.pdf").write_bytes(b"%PDF")
        said = grade(tmp_path / day, out=out)
    assert "no notebooks, not read (see aside.csv): ada/tuesday.pdf" in said
    listed = {row["file"]: row["what"] for row in rows(out, "aside")}
    assert listed == dict.fromkeys(["ada/monday.pdf", "ada/tuesday.pdf"], "a PDF document")
    (tmp_path / "monday" / "ada" / "monday.pdf").unlink()
    grade(tmp_path / "monday", out=out)
    assert [row["file"] for row in rows(out, "aside")] == ["ada/tuesday.pdf"]


def test_a_notebook_under_another_name_is_graded_and_named(tmp_path):
    put(tmp_path / "in" / "ada" / "densities.ipynb.txt", 2)
    said = grade(tmp_path / "in", out=tmp_path / "out")
    assert "under other names, read all the same: ada/densities.ipynb.txt" in said
    assert marks(tmp_path / "out") == {"ada/densities.ipynb.txt": "2"}


def test_the_gradebook_gets_the_mark_of_the_later_run(tmp_path, monkeypatch):
    from gdm_course.grading.marks import gradebook
    from gdm_course.grading.marks.collect import collect

    out, entered = tmp_path / "out", {}
    for day, earned in (("z-monday", 1), ("a-tuesday", 2)):
        put(tmp_path / day / "ada" / f"{day}.ipynb", earned)
        grade(tmp_path / day, out=out)

    class Book:
        def __enter__(self):
            return self

        def __exit__(self, *exception):
            pass

    monkeypatch.setattr(gradebook, "_open", lambda path: Book())
    monkeypatch.setattr(gradebook, "_prepare", lambda *_: None)
    monkeypatch.setattr(
        gradebook, "_enter", lambda book, unit, e: entered.update({e.student: e.earned})
    )
    said = [*gradebook.enter(collect(out), tmp_path / "gradebook.db")]
    assert entered == {"ada": 2}
    assert "not entered, a later one counts: ada/z-monday.ipynb" in said


# An index of before, or of nobody ---------------------------------------------------------


def test_an_index_of_an_older_version_is_added_to(tmp_path):
    out = tmp_path / "out"
    put(tmp_path / "in" / "ada" / "densities.ipynb", 1)
    put(tmp_path / "in" / "zoe" / "densities.ipynb", 2)
    key = sha256((tmp_path / "in" / "ada" / "densities.ipynb").read_bytes()).hexdigest()
    names = {"ada/densities.ipynb": key, "eve/densities.ipynb": "e" * 64}
    out.mkdir()
    old = {"submissions": names, "refused": {"fay.ipynb": "a link"}}
    (out / "index.json").write_text(json.dumps(old))
    grade(tmp_path / "in", out=out)
    assert marks(out) == {
        "ada/densities.ipynb": "1",
        "eve/densities.ipynb": "",
        "fay.ipynb": "",
        "zoe/densities.ipynb": "2",
    }


BROKEN = [b"", b"null", b"[]", b"\xff\0", b'"x"', b"{" * 100_000, b'{"submissions": {}}']
BROKEN += [b'{"submissions": {"a": 1}, "refused": {}}', b'{"submissions": {}, "ref']
BROKEN += [b'{"submissions": {}, "refused": {"x": "y"}, "files": []}']
BROKEN += [b'{"submissions": {}, "refused": {"x": "y"}, "files": {"x": {"own": 3}}}']
BROKEN += [b'{"submissions": {}, "refused": {}, "replaced": [{"own": "x", "run": null}]}']
BROKEN += [b'{"submissions": {}, "refused": {}, "aside": {"x": 3}}']


@pytest.mark.parametrize("data", BROKEN, ids=range(len(BROKEN)))
def test_an_index_that_cannot_be_read_is_not_written_over(tmp_path, data):
    """It is the only place that knows whose verdicts these are."""
    out = tmp_path / "out"
    put(tmp_path / "in" / "ada" / "densities.ipynb", 1)
    out.mkdir()
    (out / "index.json").write_bytes(data)
    for said in (grade(tmp_path / "in", out=out, code=2), gdm("report", out, code=2)):
        assert "index.json is no index of results" in said
        assert said.count("✘") == 1
    assert (out / "index.json").read_bytes() == data
    with pytest.raises(NoResults):
        read(out)


def test_a_ledger_comes_back_as_it_was(tmp_path):
    out = tmp_path / "out"
    put(tmp_path / "in" / "ada" / "densities.ipynb", 1)
    (tmp_path / "in" / "ada" / os.fsdecode(b"x\xff\n.pdf")).write_bytes(b"%PDF")
    (tmp_path / "in" / "ben").mkdir()
    grade(tmp_path / "in", out=out)
    put(tmp_path / "in" / "ada" / "densities.ipynb", 2)
    grade(tmp_path / "in", out=out)
    found = read(out)
    assert found.replaced
    assert found.aside
    assert found.refused
    keep(found, tmp_path)
    assert read(tmp_path) == found
    assert read(tmp_path / "in", empty=True) == Ledger()


# Shares and merges ------------------------------------------------------------------------


def test_shares_of_one_folder_of_results_add_up(tmp_path):
    out = tmp_path / "out"
    for i in range(6):
        put(tmp_path / "in" / f"s{i}" / "densities.ipynb", 1, text=str(i))
    for i in (1, 2):
        grade(tmp_path / "in", "--shard", f"{i}/2", out=out)
    gdm("report", out)
    assert [*marks(out).values()] == ["1"] * 6


def test_a_merge_keeps_all_that_its_folders_know(tmp_path):
    one, two, both = (tmp_path / name for name in ("one", "two", "both"))
    for day, out in (("monday", one), ("tuesday", two)):
        put(tmp_path / day / "ada" / "densities.ipynb", 1, text=day)
        grade(tmp_path / day, out=out)
        put(tmp_path / day / "ada" / "densities.ipynb", 2, text=day)
        (tmp_path / day / "ada" / f"{day}.pdf").write_bytes(b"%PDF")
        grade(tmp_path / day, out=out)
    gdm("merge", one, two, "--out", both)
    assert marks(both) == {"ada/densities.ipynb": "2", "ada/densities.ipynb (2)": "2"}
    assert len(rows(both, "aside")) == 2
    assert len(read(both).replaced) == 2
    put(tmp_path / "tuesday" / "ada" / "densities.ipynb", 3)
    grade(tmp_path / "tuesday", out=both)
    assert [*marks(both).values()] == ["2", "3"]


def test_a_merge_into_one_of_its_folders_survives_a_broken_verdict(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for out in (one, two):
        put(tmp_path / f"in-{out.name}" / f"{out.name}.ipynb", 1, text=out.name)
        grade(tmp_path / f"in-{out.name}", out=out)
    (key,) = read(one).names.values()
    (one / f"{key}.json").write_text("null")
    said = gdm("merge", one, two, "--out", one)
    assert "1 conflicts" in said
    found = {row["file"]: row["status"] for row in rows(one)}
    assert found == {"one.ipynb": "not graded", "two.ipynb": "graded"}


# One at a time ----------------------------------------------------------------------------


def hold(out: Path, held, go) -> None:
    with turns.alone(out):
        held.send("held")
        with suppress(EOFError):
            go.recv()


@pytest.fixture
def holder(tmp_path):
    """Another process that has the lock of `tmp_path`, until the pipe is closed."""
    context = multiprocessing.get_context("fork")
    (told, held), (theirs, go) = context.Pipe(False), context.Pipe(False)
    process = context.Process(target=hold, args=(tmp_path, held, theirs))
    process.start()
    theirs.close()
    assert told.poll(60)
    yield process, go
    with suppress(OSError):  # it may be dead
        go.send("go")
    process.join()


def test_who_waits_says_for_whom(tmp_path, holder, capfd):
    """The second goes on when the first is done, not before: no clock decides it."""
    process, go = holder
    got = threading.Event()

    def second() -> None:
        with turns.alone(tmp_path):
            got.set()

    thread = threading.Thread(target=second)
    thread.start()
    said = ""
    while "waiting" not in said:
        said += capfd.readouterr().err
    assert f"waiting: process {process.pid} on " in said
    assert str(tmp_path) in said
    assert said.count("\n") == 1
    assert not got.is_set()
    go.send("go")
    assert got.wait(60)
    thread.join()


def test_a_lock_dies_with_its_holder(tmp_path, holder):
    process, _ = holder
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with turns.alone(tmp_path):
        pass


def test_two_runs_at_once_lose_nobody(tmp_path):
    """Both have read the index before either writes it, unless a lock keeps them apart."""
    out, context = tmp_path / "out", multiprocessing.get_context("fork")
    out.mkdir()
    started = context.Barrier(4)

    def one(i: int) -> None:
        from gdm_course.grading.marks import adding

        found = batch.find(tmp_path / f"in-{i}")
        started.wait(60)
        for _ in range(5):
            adding.enter(found, tmp_path / f"in-{i}", out)

    for i in range(4):
        put(tmp_path / f"in-{i}" / f"s{i}" / "densities.ipynb", i)
    processes = [context.Process(target=one, args=(i,)) for i in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert sorted(read(out).names) == [f"s{i}/densities.ipynb" for i in range(4)]
