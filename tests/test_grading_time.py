"""Time that counts: a starved box is not late, a busy one is; n processes weigh as one."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from waiting import until

from gdm_course.authoring.course import load
from gdm_course.grading.box import clock, watch, weights
from gdm_course.grading.box.box import Box
from gdm_course.grading.box.clock import PATIENCE, Deadline, counted
from gdm_course.grading.box.ladder import LADDER
from gdm_course.grading.box.line import Line, TooLate, receive
from gdm_course.grading.box.weights import LOOKS, Weights, niceness
from gdm_course.grading.judge.assignment import Assignment, assignments
from gdm_course.grading.judge.boxes import Boxes
from gdm_course.grading.judge.notebook import Notebook
from gdm_course.grading.judge.session import Budget, Failed, Session, opened, seconds
from gdm_course.source import ROOT

BEST = next((r for r in LADDER if r.name in ("L3", "L3u") and r.missing() is None), None)
boxed = pytest.mark.skipif(BEST is None, reason="no bubblewrap on this machine")
linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


class Time:
    """A clock on the wall that a test moves, and the processor seconds of a box."""

    def __init__(self):
        self.wall = self.cpu = 0.0

    def now(self) -> float:
        return self.wall

    def used(self) -> float:
        return self.cpu


@pytest.fixture
def made(monkeypatch) -> Time:
    made = Time()
    monkeypatch.setattr(clock, "now", made.now)
    return made


# Deadlines --------------------------------------------------------------------------------


def test_what_counts_of_wall_and_processor():
    assert counted(10, 10) == 10
    assert counted(10, 160) == 10, "sixteen processes do not make it late sooner"
    assert counted(10, 4) == 4, "starved: its neighbours' time is not its own"
    assert counted(10, 0) == 10 / PATIENCE, "asleep: a share, so that it ends"


def test_a_busy_box_is_late_and_a_starved_one_is_not(made):
    made.wall, made.cpu = 50.0, 7.0  # what was before does not count
    busy, starved = Deadline(8, made.used), Deadline(8, lambda: 7.0)
    made.wall, made.cpu = 57.9, 15.9
    assert not busy.passed()
    made.wall, made.cpu = 58.1, 15.1
    assert busy.passed()
    assert not starved.passed()
    made.wall = 50 + 8 * PATIENCE - 0.1
    assert not starved.passed()
    made.wall = 50 + 8 * PATIENCE + 0.1
    assert starved.passed()


class Reads:
    """One end of three pipes of which nothing comes; time passes at every look."""

    def __init__(self, made: Time, wall: float, cpu: float):
        pipes = [os.pipe() for _ in range(3)]
        self.theirs = [pipes[0][0], pipes[1][1], pipes[2][1]]
        self.line = Line((pipes[0][1], pipes[1][0], pipes[2][0]), self.look)
        self.made, self.steps, self.looks = made, (wall, cpu), 0

    def look(self) -> None:
        self.made.wall += self.steps[0]
        self.made.cpu += self.steps[1]
        self.looks += 1


@pytest.mark.parametrize(("cpu", "looks"), [(1.0, 9), (0.0, 8 * PATIENCE + 1)])
def test_an_answer_is_waited_for_as_long_as_counts(made, monkeypatch, cpu, looks):
    monkeypatch.setattr("gdm_course.grading.box.line.TICK", 0.0)
    reads = Reads(made, 1.0, cpu)
    with pytest.raises(TooLate):
        receive(reads.line, Deadline(8, made.used))
    assert reads.looks == looks
    reads.line.close()
    for stream in reads.theirs:
        os.close(stream)


class Slow:
    """A box that takes seconds of both kinds for its cells, then sees if it is late."""

    rung, peak = "L3", 0

    def __init__(self, made: Time, wall: float, share: float):
        self.made, self.wall, self.share, self.cpu = made, wall, share, 0.0

    def ready(self, seconds: float) -> None:
        """At once."""

    def request(self, message: dict, arrays: list, seconds: float) -> tuple[dict, list]:
        deadline = Deadline(seconds, lambda: self.cpu)
        self.made.wall += self.wall
        self.cpu += self.wall * self.share
        if deadline.passed():
            raise TooLate("no answer in time")
        return {"ok": True, "found": [], "failed": 0}, []

    def close(self) -> None:
        """Nothing to close."""


EMPTY = Assignment("x/y", {}, frozenset())
EMPTY.__dict__["questions"] = {}


@pytest.mark.parametrize(("share", "late"), [(1.0, True), (0.3, False)])
def test_cells_of_a_starved_box_are_waited_for(made, share, late):
    """60 s on the wall, of which the box had 18: within the 40 that cells may take."""
    with Session(Notebook(()), EMPTY, lambda: Slow(made, 60, share), Budget()) as session:
        if late:
            with pytest.raises(Failed, match="no answer within the time allowed"):
                opened(session, "a")
        else:
            opened(session, "a")


def test_the_whole_submission_counts_the_same_way(made):
    budget = Budget(total=300, scale=2)
    with Session(Notebook(()), EMPTY, lambda: Slow(made, 0, 0), budget) as session:
        opened(session, "a")
        made.wall, session.box.cpu = 700.0, 100.0
        assert seconds(session, 1000) == 600 - 700 / PATIENCE
        made.wall, session.box.cpu = 700.0, 580.0
        assert seconds(session, 1000) == 20
        session.close()
        assert seconds(session, 1000) == 20, "what its last box used still counts"
        made.wall = 600 * PATIENCE
        with pytest.raises(Failed, match="the whole submission was over"):
            seconds(session, 1)


# What a box used --------------------------------------------------------------------------


@contextmanager
def box() -> Iterator[Box]:
    stock = Boxes(BEST, assignments(load(ROOT))["foundations/densities"])
    try:
        with stock.make() as made:
            made.ready(60)
            yield made
    finally:
        stock.close()


def run(made: Box, source: str, seconds: float = 60) -> dict:
    text = json.dumps([{"source": source, "known": False}]).encode()
    cells = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    return made.request({"do": "load", "names": ["x"]}, [cells], seconds)[0]


BURNS = """
import os, time
def burn(seconds):
    while time.process_time() < seconds:
        pass
for _ in range(2):
    if os.fork() == 0:
        burn(0.5)
        if os.fork() == 0:  # an orphan
            burn(0.5)
        os._exit(0)
    os.wait()
burn(time.process_time() + 0.5)
time.sleep(0.5)
"""


@boxed
def test_the_processor_seconds_of_a_box_are_those_of_all_its_processes():
    """Two children of half a second, two orphans, and the guest itself."""
    with box() as made:
        before = made.cpu
        run(made, BURNS)
        until(lambda: made.limits.look() or made.cpu - before >= 2.4)
        assert 2.4 <= made.cpu - before < 4


# Shares of the processor ------------------------------------------------------------------

BUSY = """
import os, sys
for _ in range({n}):
    if os.fork() == 0:
        if {apart}:
            os.setsid()
        print("x", end="", flush=True)
        while True:
            pass
os.close(1)
os.wait()
"""


@contextmanager
def busy(n: int, apart: bool = False) -> Iterator[int]:
    """A process with n busy children, each in a session of its own or all in one."""
    code = BUSY.format(n=n, apart=apart)
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        assert process.stdout.read(n) == b"x" * n
        while watch.look(process.pid).state != "S":  # it waits for its children
            time.sleep(0.01)
        yield process.pid
    finally:
        for pid in reversed(watch.family(process.pid)):
            os.kill(pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


def test_how_nice_n_processes_must_be():
    assert [niceness(n) for n in (0, 0.4, 1, 2, 16, 64, 10**6)] == [0, 0, 0, 4, 13, 19, 19]
    for n in (2, 5, 16, 64):
        assert n * 1.25 ** -niceness(n) <= 1


def lowered(nice: int) -> int:
    """Below this process, which may be nice itself."""
    return min(19, os.getpriority(os.PRIO_PROCESS, 0) + nice)


def looked(made: Weights, pid: int, times: int = LOOKS) -> Weights:
    for _ in range(times):
        made.look(watch.relatives(pid))
    return made


@linux
def test_many_busy_processes_weigh_as_one(monkeypatch):
    monkeypatch.setattr(weights, "by_session", lambda: False)
    with busy(16) as pid:
        assert looked(Weights(), pid).nice == niceness(16)
        found = [os.getpriority(os.PRIO_PROCESS, one) for one in watch.family(pid)]
        assert found == [lowered(niceness(16))] * 17
    with busy(1) as pid:
        assert looked(Weights(), pid).nice == 0
        assert os.getpriority(os.PRIO_PROCESS, pid) == lowered(0)
    with busy(4) as pid:
        assert looked(Weights(), pid, times=2).nice == 0, "for a moment only"


@linux
@pytest.mark.skipif(not weights.by_session(), reason="this kernel has no autogroups")
def test_where_sessions_share_the_processor_sessions_are_weighed():
    def of(pid: int) -> int:
        return int(Path(f"/proc/{pid}/autogroup").read_text().split()[-1])

    with busy(8) as together, busy(8, apart=True) as apart:
        one, many = looked(Weights(), together), looked(Weights(), apart)
        assert (one.nice, many.nice) == (0, niceness(8))
        children = watch.family(apart)[1:]
        # an ordinary user may write ten times a second
        until(
            lambda: looked(many, apart, 1) and all(of(c) == niceness(8) for c in children)
        )
        assert [of(child) for child in children] == [niceness(8)] * 8
        assert of(together) == 0


FORKS = """
import os
for _ in range(16):
    if os.fork() == 0:
        while True:
            pass
"""


@boxed
def test_a_box_of_busy_children_is_lowered(monkeypatch):
    monkeypatch.setattr(weights, "by_session", lambda: False)
    with box() as made:
        run(made, FORKS)
        for _ in range(LOOKS):
            made.limits.look()
        if (weighed := made.limits.means.weights) is not None:
            assert weighed.nice >= niceness(16)
            members = made.limits.started.members()
            nice = [os.getpriority(os.PRIO_PROCESS, pid) for pid in members]
            assert nice == [lowered(weighed.nice)] * 17
