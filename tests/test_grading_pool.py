"""Workers that are killed, and what becomes of the notebooks: nobody else's is lost."""

import os
import signal
import threading
from pathlib import Path

import pytest

from gdm_course.grading.judge.verdict import Result, Status, restore, store
from gdm_course.grading.marks import batch
from gdm_course.grading.marks.pool import Killed, Local, ToldToStop


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does when memory runs out


def double(x: int) -> int:
    return 2 * x


def dies_unless(place: str) -> str:
    """Killed at the first try; the second one finds the file."""
    if not os.path.exists(place):
        Path(place).touch()
        die()
    return place


def test_a_killed_worker_loses_no_other_task(tmp_path):
    place = str(tmp_path / "tried")
    with Local(2) as workers:
        doubled = [workers.submit(double, i) for i in range(10)]
        lost = workers.submit(die)
        more = [workers.submit(double, i) for i in range(10, 20)]
        retried = workers.submit(dies_unless, place)
        last = workers.submit(double, 20)
        results = [future.result(60) for future in [*doubled, *more, last]]
        assert results == [2 * i for i in range(21)]
        assert retried.result(60) == place
        with pytest.raises(Killed, match=r"killed twice.*give fewer --jobs"):
            lost.result(60)


def test_an_error_in_a_worker_is_the_task_s_error_and_nothing_else():
    with Local(1) as workers:
        wrong = workers.submit(int, "x")
        strange = workers.submit(threading.Lock)  # cannot travel back
        assert workers.submit(double, 4).result(60) == 8
        with pytest.raises(ValueError, match="invalid literal"):
            wrong.result(60)
        with pytest.raises(RuntimeError, match="TypeError"):
            strange.result(60)


def waits(begun: str) -> None:
    Path(begun).touch()
    signal.pause()


def test_told_to_stop_nothing_more_is_begun(tmp_path):
    begun = tmp_path / "begun"
    workers = Local(1)
    busy, later = workers.submit(waits, str(begun)), workers.submit(double, 1)
    while not begun.exists():
        assert not busy.done()
    workers.stop()
    assert isinstance(busy.exception(), ToldToStop)
    assert later.cancelled()
    assert not any(desk.is_alive() for desk in workers.desks)


def job(out: Path, i: int) -> batch.Job:
    return batch.Job(out / f"{i}.ipynb", f"{i:064x}", out, "L3", "foundations/densities")


def kills_on_three(one: batch.Job) -> Result:
    if int(one.key, 16) == 3:
        die()
    result = Result(one.key, one.unit, "", Status.GRADED, "")
    store(result, one.out)
    return result


def test_a_notebook_that_kills_its_judge_gets_a_verdict(tmp_path, monkeypatch):
    monkeypatch.setattr(batch, "grade_one", kills_on_three)
    with Local(2) as workers:
        found = dict(batch.run([job(tmp_path, i) for i in range(8)], workers))
    assert {int(j.key, 16): r.status for j, r in found.items()} == {
        i: "unjudged" if i == 3 else "graded" for i in range(8)
    }
    stored = restore(tmp_path / f"{3:064x}.json")
    assert stored.marks == ()
    assert "killed twice" in stored.message
    assert stored.assignment == "foundations/densities"
