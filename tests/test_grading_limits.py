"""Memory beyond the limit ends a box, whatever hides it, by either means."""

import json
import os
from pathlib import Path

import pytest
import torch

from gdm_course.authoring.course import load
from gdm_course.grading.box import cgroup, limits
from gdm_course.grading.box.box import Box, Died
from gdm_course.grading.box.ladder import LADDER
from gdm_course.grading.box.rungs import uncounted
from gdm_course.grading.judge.assignment import assignments
from gdm_course.grading.judge.boxes import Boxes
from gdm_course.source import ROOT

BEST = next((r for r in LADDER if r.name in ("L3", "L3u") and r.missing() is None), None)
boxed = pytest.mark.skipif(BEST is None, reason="no bubblewrap on this machine")
HOME, WHY = cgroup.home()
grouped = pytest.mark.skipif(HOME is None, reason=f"no group can be made: {WHY}")
MEANS = {  # the limit, and what is taken, in MiB; a box shares 100 with its nursery
    "counted": (600, 800),
    "grouped": (150, 200),
}


@pytest.fixture(scope="module")
def stock():
    made = Boxes(BEST, assignments(load(ROOT))["foundations/densities"])
    yield made
    made.close()


def run(made: Box, source: str, seconds: float = 60) -> dict:
    text = json.dumps([{"source": source, "known": False}]).encode()
    cells = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    return made.request({"do": "load", "names": ["x"]}, [cells], seconds)[0]


WAYS = {
    "plain": "x = bytearray(b'x' * ({n} << 20))",
    "children": """
import os
for _ in range(4):
    if os.fork() == 0:
        x = bytearray(b'x' * ({n} // 4 << 20))
        time.sleep(600)
""",
    "shared, given back": """
import mmap
held = []
for _ in range({n} // 10):
    held.append(mmap.mmap(-1, 10 << 20))
    for page in range(0, 10 << 20, 4096):
        held[-1][page] = 1
    held[-1].madvise(mmap.MADV_DONTNEED)
""",
    "page tables": """
import ctypes, mmap
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
size = {n} << 29
x = libc.mmap(None, ctypes.c_size_t(size), 1, 0x4022, -1, ctypes.c_long(0))
for at in range(x, x + size, 1 << 21):
    ctypes.c_char.from_address(at).value
""",
    "first threads end": """
import ctypes, os, threading
def take():
    x = bytearray(b'x' * ({n} // 4 << 20))
    time.sleep(600)
for _ in range(4):
    if os.fork() == 0:
        threading.Thread(target=take).start()
        ctypes.CDLL(None).syscall(60 if os.uname().machine == "x86_64" else 93, 0)
""",
}


@boxed
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("means", ["counted", pytest.param("grouped", marks=grouped)])
def test_memory_beyond_the_limit_ends_the_box(stock, monkeypatch, means, way):
    if means == "counted":
        monkeypatch.setattr(cgroup, "home", lambda: (None, "not in this test"))
        if way.startswith("shared") and not uncounted()["shared_memory"]:
            pytest.skip("refused here: test_grading_harm.py")
    limit, taken = MEANS[means]
    monkeypatch.setattr(limits, "MAX_MEMORY", limit << 20)
    source = "import time\n" + WAYS[way].replace("{n}", str(taken)) + "\ntime.sleep(600)"
    with stock.make() as made:
        made.ready(120)
        assert type(made.limits.means).__name__.lower() == means
        assert made.limits.peak < limit << 20
        with pytest.raises(Died, match="more than 2048 MiB of memory"):
            run(made, source, 300)


@boxed
@pytest.mark.parametrize("means", ["counted", pytest.param("grouped", marks=grouped)])
def test_what_is_below_the_limit_is_left_alone(stock, monkeypatch, means):
    if means == "counted":
        monkeypatch.setattr(cgroup, "home", lambda: (None, "not in this test"))
    limit, taken = MEANS[means]
    monkeypatch.setattr(limits, "MAX_MEMORY", limit << 20)
    with stock.make() as made:
        made.ready(120)
        again = f"import subprocess, sys\nx = bytearray(b'x' * ({taken // 6} << 20))\n"
        again += "for _ in range(5):\n    subprocess.run(['true'])"  # vfork: twice as much
        told = run(made, again)
        assert (told["ok"], told["found"], told["failed"]) == (True, ["x"], 0)
        made.limits.look()
        assert taken // 6 << 20 <= made.limits.peak <= limit << 20


# Groups of the kernel ---------------------------------------------------------------------


BURN = """
import time
end = time.process_time() + 1
while time.process_time() < end:
    pass
"""


@boxed
@grouped
def test_a_group_goes_with_its_box_and_all_that_is_in_it(stock):
    with stock.make() as made:
        made.ready(120)
        group = made.limits.means.group
        run(made, "import os, time\nfor _ in range(9):\n    os.fork() or time.sleep(600)")
        inside = {int(pid) for pid in (group.path / "cgroup.procs").read_text().split()}
        assert inside == {*made.limits.started.members()}
        assert len(inside) == 10
        assert int((group.path / "memory.max").read_text()) == limits.MAX_MEMORY
        assert int((group.path / "pids.max").read_text()) == limits.MAX_PROCESSES
        before = cgroup.cpu(group)
        run(made, BURN)
        assert cgroup.cpu(group) - before > 0.5
        assert made.cpu >= cgroup.cpu(group) or made.limits.look() is None
    assert not group.path.exists()
    assert not any(os.path.exists(f"/proc/{pid}") for pid in inside)


@grouped
def test_groups_of_a_dead_judge_are_removed(monkeypatch):
    dead = HOME / "gdm-999999999-0"
    dead.mkdir()
    cgroup._sweep(HOME)
    assert not dead.exists()


def fake(monkeypatch, place: Path, able: dict[str, str], works: set[str]) -> None:
    """A tree of groups: what each is able to control, and in which one a trial works."""
    (place / "top" / "mine").mkdir(parents=True)
    for name, controllers in able.items():
        for file in ("cgroup.controllers", "cgroup.subtree_control"):
            (place / name / file).write_text(controllers)

    def tries(where: Path) -> None:
        if str(where.relative_to(place)) not in works:
            raise PermissionError

    monkeypatch.setattr(cgroup, "_own", lambda: (place / "top" / "mine", place / "top"))
    monkeypatch.setattr(cgroup, "_try", tries)


ALL = "cpu io memory pids\n"


@pytest.mark.parametrize(
    ("able", "works", "found"),
    [
        ({"top/mine": ALL, "top": ALL}, {"top/mine", "top"}, "top/mine"),
        ({"top/mine": ALL, "top": ALL}, {"top"}, "top"),
        ({"top/mine": "cpu pids\n", "top": ALL}, {"top/mine", "top"}, "top"),
        ({"top/mine": ALL, "top": ALL}, set(), None),
        ({"top/mine": "\n", "top": "\n"}, {"top/mine", "top"}, None),
    ],
)
def test_the_nearest_group_that_may_be_used_is_found(
    tmp_path, monkeypatch, able, works, found
):
    fake(monkeypatch, tmp_path, able, works)
    place, why = cgroup.home.__wrapped__()
    assert place == (tmp_path / found if found else None)
    assert bool(why) == (found is None)
    if not able["top"].strip():
        assert "belong to cgroup v1" in why


def test_a_machine_without_groups_says_so(monkeypatch):
    monkeypatch.setattr(cgroup, "_own", lambda: next(iter(())))
    assert cgroup.home.__wrapped__() == (None, "cgroup v2 is not mounted")
    monkeypatch.setattr(cgroup, "home", lambda: (None, "cgroup v2 is not mounted"))
    assert "counted ten times a second" in cgroup.means()
    assert cgroup.group([os.getpid()], 1 << 30, 10) is None


def test_a_group_that_cannot_have_limits_leaves_nothing(tmp_path, monkeypatch):
    """As where the controllers are not enabled: the files with the limits do not exist."""

    def refuses(*_: object) -> None:
        raise PermissionError("no such file, and none can be made")

    monkeypatch.setattr(Path, "write_text", refuses)
    with pytest.raises(PermissionError):
        cgroup.Group(tmp_path, 1 << 30, 10)
    assert [*tmp_path.iterdir()] == []
