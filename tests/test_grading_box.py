"""The box: what is in it, how it is started, that its promises hold and could fail."""

import inspect
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from waiting import alone, until

from gdm_course.authoring.course import load
from gdm_course.grading.box import ladder, rungs, watch
from gdm_course.grading.box.box import Box, Died, TooLate
from gdm_course.grading.box.container import container
from gdm_course.grading.box.ladder import LADDER, NoRung, choose
from gdm_course.grading.guest.wire import Malformed
from gdm_course.grading.judge import stage
from gdm_course.grading.judge.assignment import Assignment, assignments
from gdm_course.grading.judge.boxes import Boxes
from gdm_course.grading.probes import attempts, live
from gdm_course.source import PACKAGE, ROOT

MAPS = assignments(load(ROOT))
BEST = next((r for r in LADDER if r.name in ("L3", "L3u") and r.missing() is None), None)
boxed = pytest.mark.skipif(BEST is None, reason="no bubblewrap on this machine")


@cache
def stock() -> Boxes:
    return Boxes(BEST, MAPS["foundations/densities"])


@pytest.fixture(scope="module", autouse=True)
def no_box_left():
    yield
    if stock.cache_info().currsize:
        stock().close()


def box() -> Box:
    made = stock().make()
    made.ready(60)
    return made


def run(made: Box, source: str, seconds: float = 30) -> dict:
    text = json.dumps([{"source": source, "known": False}]).encode()
    cells = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    return made.request({"do": "load", "names": ["x"]}, [cells], seconds)[0]


# What is in the box -----------------------------------------------------------------------


@pytest.mark.parametrize("key", MAPS)
def test_no_answer_is_staged(key):
    """The box has no file with a reference, a judgement, a point or a solution's line."""
    assignment = MAPS[key]
    place = stage.build(assignment)
    try:
        texts = {p.relative_to(place): p.read_text() for p in place.rglob("*.py")}
        other = {p.name for p in place.rglob("*") if p.is_file()} - {p.name for p in texts}
        assert {n for n in other if not n.endswith(".pyc")} == {"registry.toml"}
        names = {str(name) for name in texts}
        assert not {n for n in names if re.search("solutions|authoring|course.toml", n)}
        for question in assignment.questions.values():
            body = _body(question.reference)
            leaks = [name for name, text in texts.items() if body and body in text]
            assert leaks == [], f"{question.name} is in the box"
        for module in assignment.withheld:
            base = place.joinpath(*module.split("."))
            files = [*base.rglob("*.py")] if base.is_dir() else [base.with_suffix(".py")]
            assert all(f.read_text().endswith(stage.ABSENT) for f in files)
    finally:
        stage.shutil.rmtree(place)


def _body(reference: object) -> str:
    """The longest run of a reference's own lines, without its first."""
    try:
        lines = inspect.getsource(reference).splitlines()[1:]
    except (OSError, TypeError):
        return ""
    return "\n".join(lines) if len("".join(lines).strip()) > 30 else ""


def test_what_the_questions_are_about_is_withheld():
    assert "gdm_course.divergences" in MAPS["foundations/densities"].withheld
    assert {"gdm_course.autoregressive.nade", "gdm_course.autoregressive.made"} <= (
        MAPS["autoregressive/nade"].withheld
    )
    for key, made in MAPS.items():
        named = f"gdm_course.{key.replace('/', '.')}"
        exists = (ROOT / f"{named.replace('.', '/')}.py").is_file()
        assert (named in made.withheld) == exists, "the unit's own module"
    everything = set().union(*(a.withheld for a in MAPS.values()))
    assert not {m for m in everything if m.split(".")[1] in ("data", "nets", "training")}


def test_an_argument_that_needs_an_answer_is_refused():
    text = "def helper(x):\n    return secret(x)\n\n\ndef secret(x):\n    return x\n"
    assert "def secret" in stage.slice_of(text, {"helper"})
    assert "secret" not in stage.slice_of("def a():\n    return 1\n\n\nsecret = 2\n", {"a"})
    made = Assignment("x/y", {}, frozenset())
    path = PACKAGE / "checks" / "foundations" / "densities.py"
    wanted = frozenset({"gdm_course.checks.foundations.densities._kl_gaussian"})
    made.__dict__.update(questions={"_kl_gaussian": None}, made=wanted)
    with pytest.raises(ValueError, match="build it without"):
        stage._check(path, made)


# How it is started ------------------------------------------------------------------------


def site(tmp_path) -> rungs.Site:
    return rungs.Site(tmp_path, tmp_path, 1_900_000_000)


def test_bubblewrap_is_told_everything(tmp_path):
    """One assertion per trap: each flag was found missing by an experiment."""
    command = rungs.bubblewrap(site(tmp_path))
    for flag in ("--unshare-all", "--unshare-user", "--disable-userns", "--clearenv"):
        assert flag in command
    assert {"--die-with-parent", "--new-session"} <= {*command}
    text = " ".join(command)
    for place in ("/dev/shm", "/tmp"):
        assert re.search(rf"--size \d+ --tmpfs {place} ", text)
    assert text.index("--tmpfs /tmp") < text.index("--remount-ro /dev --remount-ro / ")
    assert not re.search(r"--(dev-)?bind ", text), "nothing of the host is writable"


def test_root_is_given_up_before_bubblewrap_starts(tmp_path):
    command = rungs.as_nobody(site(tmp_path), ["bwrap"])
    drop = command[command.index("setpriv") :]
    assert drop[1:4] == ["--reuid=1900000000", "--regid=1900000000", "--clear-groups"]
    assert drop[-1] == "bwrap"


def test_a_container_gets_nothing_either(tmp_path, monkeypatch):
    monkeypatch.setenv("GDM_BOX_IMAGE", "course:1")
    text = " ".join(container(site(tmp_path)))
    for part in ("--network none", "--read-only", "--cap-drop ALL", "--user 65534:65534"):
        assert part in text
    assert re.search(r"--memory \S+ .*--pids-limit \d+", text)
    assert f"--volume {tmp_path}:/course:ro" in text
    assert "course:1 python" in text


def test_below_the_floor_nothing_is_graded(monkeypatch):
    def without(*names: str) -> list:
        gone = lambda: "not here"  # noqa: E731
        here = lambda: None  # noqa: E731
        return [replace(r, missing=gone if r.name in names else here) for r in LADDER]

    only_l2 = without("L4", "L3", "L3u", "Lc")
    monkeypatch.setattr(ladder, "LADDER", only_l2)
    with pytest.raises(NoRung, match=r"--floor L2.*--unsandboxed"):
        choose("L3u")
    assert choose("L2").name == "L2"
    monkeypatch.setattr(ladder, "LADDER", without("L4", "L3", "L3u", "Lc", "L2"))
    with pytest.raises(NoRung):
        choose("L0")
    assert choose("L3u", unsandboxed=True).name == "L0"


def test_a_python_that_a_box_would_hide_is_refused(monkeypatch):
    """A checkout in /tmp: its interpreter would be gone behind the box's own /tmp."""
    assert ladder._hidden() is None or sys.prefix.startswith("/tmp/")
    monkeypatch.setattr(sys, "prefix", "/tmp/course/.venv")
    told = (
        ladder._no_l3.__wrapped__() if os.geteuid() == 0 else ladder._no_l3u.__wrapped__()
    )
    if not told.startswith("'"):  # a program is missing: that comes first
        assert "this Python lies in /tmp/course/.venv: set it up elsewhere" in told


# What it does -----------------------------------------------------------------------------


@boxed
def test_the_guest_is_nobody_on_the_host():
    """Trap 1: root inside must not be root outside."""
    with box() as made:
        (guest, *_) = made.limits.started.members()
        uid = int(re.search(r"Uid:\s+(\d+)", Path(f"/proc/{guest}/status").read_text())[1])
        assert uid != 0
        assert uid >= 1_800_000_000 or os.geteuid() != 0
        assert run(made, "x = 1")["found"] == ["x"]


@boxed
def test_boxes_do_not_share_files_or_processes():
    with box() as first:
        run(first, LEAVES_TRACES)
        assert len(first.limits.started.members()) == 2
    with box() as second:
        assert run(second, "import os\nassert not os.path.exists('/tmp/a')")["failed"] == 0
        assert len(second.limits.started.members()) == 1


LEAVES_TRACES = """
import subprocess
open('/tmp/a', 'w').write('x')
subprocess.Popen(['sleep', '99'])
assert open('/tmp/a').read() == 'x'
"""
NOISE = """
import os
for i in range(3, 20):
    try:
        os.write(i, b'x' * 100)
    except OSError:
        pass
"""


@boxed
def test_a_dead_box_says_so_and_a_late_one_too():
    with box() as made, pytest.raises(Died):
        run(made, "import os; os._exit(3)")
    with box() as made, pytest.raises(TooLate):
        run(made, "while True: pass", seconds=1)
    with box() as made, pytest.raises(Malformed):
        run(made, NOISE)


@boxed
def test_closing_a_box_ends_what_it_started():
    with box() as made:
        run(made, "import os\nfor _ in range(5):\n    os.fork() or os.setsid()")
        assert len(made.limits.started.members()) > 5
        root = made.limits.started.nursery.root
    assert until(lambda: watch.family(root)[1:] == [])


@boxed
def test_a_nursery_that_dies_is_replaced():
    """Its death is an accident of the grader: the next submission must not notice."""
    stock().make().close()
    first = stock().nursery
    first.process.kill()
    first.process.wait()
    with box() as made:
        assert run(made, "x = 1")["found"] == ["x"]
    assert stock().nursery is not first
    stock().nursery.control.close()
    with box() as made:
        assert run(made, "x = 1")["found"] == ["x"]


@boxed
def test_every_promise_is_tried_and_held():
    with alone("usr"):  # another test puts solutions there, to see that they are found
        found = [*live.probe(BEST)]
    assert len(found) >= 16
    assert [f for f in found if not f.held] == []


def test_the_probes_can_fail(tmp_path):
    """Without a sandbox the attempts succeed: one that always passes would be no probe."""
    secret = tmp_path / "secret"
    secret.write_text("x")
    with live.Host() as host:
        assert attempts.host_file(str(secret), host.port) == 0 or os.geteuid() != 0
        assert attempts.host_loopback(str(secret), host.port) == 0
        assert not host.intact(), "somebody knocked"


def test_a_process_cannot_hide_behind_its_name(tmp_path):
    """/proc/PID/status shows a carriage return of a name as it is: it ends no line."""
    code = "import ctypes, sys; ctypes.CDLL(None).prctl(15, b'x\\rUid:\\t7\\t7', 0, 0, 0)\n"
    code += "print('named', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdout.readline() == b"named\n"
        found = watch.of_uid(os.getuid())
        process.stdin.close()
    assert process.pid in found
