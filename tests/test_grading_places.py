"""A course that lies where boxes read: covered on every rung, or refused."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import alone

from gdm_course.authoring.course import load
from gdm_course.grading.box import container, ladder, places, rungs
from gdm_course.grading.box.ladder import LADDER
from gdm_course.grading.judge.assignment import assignments
from gdm_course.grading.judge.boxes import Boxes
from gdm_course.grading.judge.judge import grade
from gdm_course.grading.judge.notebook import Cell, Notebook
from gdm_course.grading.marks import apart
from gdm_course.grading.probes import attempts, live
from gdm_course.source import PACKAGE, ROOT

UNIT = "foundations/densities"
RUNGS = [rung for rung in LADDER if rung.name in ("L3", "L3u", "L2")]


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A host of folders: `bound` is read by every box, `home` by none."""
    for name in ("bound/lib", "home", "python/bin", "python/lib"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setattr(places, "SYSTEM", (str(tmp_path / "bound"),))
    monkeypatch.setattr(places, "ETC", ())
    monkeypatch.setattr(sys, "path", [])
    set_python(monkeypatch, tmp_path / "python")
    return tmp_path


def set_python(monkeypatch, prefix: Path, base: Path | None = None) -> None:
    monkeypatch.setattr(sys, "prefix", str(prefix))
    monkeypatch.setattr(sys, "base_prefix", str(base or prefix))


def course_at(root: Path, monkeypatch, checkout: bool = True) -> Path:
    """A course at this place: a checkout, or the package alone."""
    for part in ("gdm_course/checks", *(["solutions", "work"] if checkout else [])):
        (root / part).mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(places, "ROOT", root)
    monkeypatch.setattr(places, "PACKAGE", root / "gdm_course")
    return root


def covered() -> dict[Path, tuple]:
    return {c.place: (c.copy, c.keep) for c in places.covers()}


def test_a_checkout_that_no_box_reads_is_left_alone(host, monkeypatch):
    course_at(host / "home/course", monkeypatch)
    assert covered() == {}


@pytest.mark.parametrize("where", ["bound/src/app", "python/src/course", "bound/lib/x/y/z"])
def test_a_checkout_that_boxes_would_read_is_covered(host, monkeypatch, where):
    course_at(host / where, monkeypatch)
    assert covered() == {host / where: (False, ())}


def test_links_do_not_lead_around_the_cover(host, monkeypatch):
    """Reached by a link, seen by a link, and with a part that lies elsewhere."""
    real = course_at(host / "bound/real", monkeypatch)
    (host / "home/link").symlink_to(real)
    monkeypatch.setattr(places, "ROOT", host / "home/link")
    monkeypatch.setattr(places, "PACKAGE", host / "home/link/gdm_course")
    assert covered() == {real: (False, ())}
    (host / "called").symlink_to(host / "bound")
    monkeypatch.setattr(places, "SYSTEM", (str(host / "bound"), str(host / "called")))
    set_python(monkeypatch, host / "called")
    assert covered() == {p / "real": (False, ()) for p in (host / "bound", host / "called")}
    home = course_at(host / "home/course", monkeypatch)
    (home / "solutions").rmdir()
    (host / "bound/answers").mkdir()
    (home / "solutions").symlink_to(host / "bound/answers")
    (home / "pyproject.toml").touch()
    assert {host / "bound/answers", host / "called/answers"} == {*covered()}


def test_a_package_that_is_a_link_shows_the_checkout_behind_it(host, monkeypatch):
    real = course_at(host / "bound/course", monkeypatch)
    (host / "python/lib/gdm_course").symlink_to(real / "gdm_course")
    monkeypatch.setattr(places, "ROOT", host / "python/lib")
    monkeypatch.setattr(places, "PACKAGE", host / "python/lib/gdm_course")
    assert real in covered()


def test_an_environment_inside_of_the_checkout_stays_readable(host, monkeypatch):
    root = course_at(host / "bound/src/app", monkeypatch)
    (root / ".venv/lib/python3.12/site-packages/gdm_course").mkdir(parents=True)
    set_python(monkeypatch, root / ".venv", host / "python")
    inner = root / ".venv/lib/python3.12/site-packages/gdm_course"
    assert covered() == {root: (False, (root / ".venv",)), inner: (True, ())}
    command = " ".join(rungs.bubblewrap(rungs.Site(host, host, 1)))
    order = [
        f"--ro-bind {host}/bound {host}/bound",
        f"--tmpfs {root} --ro-bind {root}/.venv {root}/.venv --remount-ro {root}",
        f"--ro-bind {host}/gdm_course {inner}",
    ]
    at = [command.find(part) for part in order]
    assert -1 not in at
    assert at == sorted(at)


def test_an_environment_that_is_the_checkout_shows_its_own_parts_only(host, monkeypatch):
    """`python -m venv .` in the checkout."""
    root = course_at(host / "home/course", monkeypatch)
    set_python(monkeypatch, root, host / "python")
    for name in ("bin", "lib"):
        (root / name).mkdir()
    (root / "pyvenv.cfg").touch()
    keep = (root / "bin", root / "lib", root / "pyvenv.cfg")
    assert covered() == {root: (False, keep)}
    seen = places.readable()
    assert {str(p) for p in keep} <= {*seen}
    assert str(root) not in seen
    assert str(root / "solutions") not in seen


@pytest.mark.parametrize(
    "where",
    [
        "bound/lib/python3/dist-packages",
        "bound/local/lib/python3.11/site-packages",
        "python/lib64/python3.12/site-packages",
        "python/envs/old/lib/python3.9/site-packages",
    ],
)
def test_installed_copies_are_covered_beside_a_checkout_elsewhere(host, monkeypatch, where):
    course_at(host / "home/course", monkeypatch)
    (host / where / "gdm_course").mkdir(parents=True)
    assert covered() == {host / where / "gdm_course": (True, ())}


def test_a_copy_on_the_path_and_stored_bytecode_are_covered_too(host, monkeypatch):
    course_at(host / "bound/target", monkeypatch, checkout=False)
    assert covered() == {host / "bound/target/gdm_course": (True, ())}
    course_at(host / "home/course", monkeypatch)
    (host / "bound/other/gdm_course").mkdir(parents=True)
    (host / "bound/pyc").mkdir()
    monkeypatch.setattr(sys, "path", [str(host / "bound/other")])
    monkeypatch.setattr(sys, "pycache_prefix", str(host / "bound/pyc"))
    assert {*covered()} == {
        *(host / "bound" / n / "gdm_course" for n in ("other", "target") if n == "other"),
        host / "bound/pyc",
    }


def test_a_mount_of_the_course_elsewhere_is_covered(host, monkeypatch):
    """The same folder, mounted once more below one that boxes read."""
    root = course_at(host / "home/course", monkeypatch)
    table = [
        "22 1 8:1 / / rw - ext4 /dev/sda1 rw",
        f"40 22 8:1 {host}/home {host}/bound/my\\040mount rw - ext4 /dev/sda1 rw",
        f"41 22 8:1 {root}/solutions {host}/bound/answers rw - ext4 /dev/sda1 rw",
        f"42 22 8:2 {host}/home {host}/bound/other rw - ext4 /dev/sdb1 rw",
    ]
    file = host / "mountinfo"
    file.write_text("\n".join(table))
    monkeypatch.setattr(places, "MOUNTS", str(file))
    assert {host / "bound/my mount/course", host / "bound/answers"} == {*covered()}


def test_a_course_that_cannot_be_covered_is_refused(host, monkeypatch):
    course_at(host / "bound", monkeypatch)
    assert "move it into a folder of its own" in places.trouble()
    for missing in (ladder._no_l3, ladder._no_l3u, ladder._no_l2):
        told = missing.__wrapped__()
        assert told
    course_at(host / "home/course", monkeypatch)
    assert places.trouble() is None
    monkeypatch.setattr("tempfile.tempdir", str(host / "bound/tmp"))
    assert "TMPDIR" in places.trouble()


def test_places_of_the_grader_are_refused_where_a_box_would_read_them(host, monkeypatch):
    root = course_at(host / "bound/app", monkeypatch)
    (root / ".venv").mkdir()
    set_python(monkeypatch, root / ".venv", host / "python")
    assert places.exposed(host / "bound/submissions") == str(host / "bound")
    assert places.exposed(host / "home/submissions") == ""
    assert places.exposed(root / "submissions") == "", "covered with the checkout"
    assert places.exposed(root / ".venv/out") == str(root / ".venv")
    (host / "home/link").symlink_to(host / "bound")
    assert places.exposed(host / "home/link/out") == str(host / "bound")


def test_landlock_leaves_out_what_bubblewrap_covers(host, monkeypatch):
    root = course_at(host / "bound/src/app", monkeypatch)
    (root / ".venv").mkdir()
    (host / "bound/src/loop").symlink_to(host / "bound")
    set_python(monkeypatch, root / ".venv", host / "python")
    seen = places.readable()
    assert {f"{host}/bound/lib", f"{root}/.venv", f"{host}/python"} <= {*seen}
    for path in (host / "bound", host / "bound/src", root, root / "solutions"):
        assert str(path) not in seen
    how = json.loads(rungs.landlocked(rungs.Site(host, host, 1))[-1])
    assert str(root) not in how["landlock"]["read"]
    assert how["landlock"]["folders"] == [], "names of submissions would show"


def test_landlock_lets_python_list_what_holds_a_copy(host, monkeypatch):
    course_at(host / "home/course", monkeypatch)
    packages = host / "python/lib/python3.12/site-packages"
    (packages / "gdm_course").mkdir(parents=True)
    (packages / "torch").mkdir()
    monkeypatch.setattr(sys, "path", [str(packages.parent), str(packages), "/elsewhere"])
    assert places.around() == [str(packages.parent), str(packages)]
    assert str(packages / "torch") in places.readable()
    assert str(packages / "gdm_course") not in places.readable()


def test_a_container_sees_no_course_of_its_image(host, monkeypatch):
    """The image may be the one that the grader runs in: the same folders, not mounted."""
    root = course_at(host / "home/course", monkeypatch)
    text = " ".join(container.container(rungs.Site(host, host, 1)))
    for part in ("solutions", "gdm_course", "work"):
        assert f"--tmpfs {root}/{part}:" in text


@pytest.mark.parametrize(
    ("code", "says"), [(0, None), (3, "holds the course"), (1, "Python")]
)
def test_an_image_that_holds_the_course_is_refused(tmp_path, monkeypatch, code, says):
    program = tmp_path / "podman"
    program.write_text(f'#!/bin/sh\ncase "$1" in run) exit {code};; esac\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("GDM_BOX_IMAGE", "course:1")
    told = container.container_missing.__wrapped__()
    assert told is None if says is None else says in told


# In real boxes ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def below_usr():
    """A folder below one that every box reads."""
    place = Path("/usr/local/src") / f"gdm-test-{os.getpid()}"
    with alone("usr"):
        try:
            place.mkdir(parents=True)
        except OSError as error:
            pytest.skip(f"needs a folder below /usr: {error}")
        yield place
        shutil.rmtree(place)


COPIES = """
import torch
from torch import Tensor
text = open({!r}).read()
exec(text[text.index("def kl_gaussian") :].partition("# %%")[0])
"""


@pytest.mark.parametrize("rung", RUNGS, ids=lambda r: r.name)
def test_nothing_of_a_checkout_below_usr_is_in_a_box(rung, below_usr, monkeypatch):
    """The case of a container with the course in /usr/src/app: solutions were readable."""
    if reason := rung.missing():
        pytest.skip(f"{rung.name} is not on this machine: {reason}")
    root = below_usr / "app"
    for name in ("solutions", "gdm_course"):
        shutil.copytree(ROOT / name, root / name, dirs_exist_ok=True)
    code = COPIES.format(str(root / "solutions/foundations/src/densities.py"))
    assert earned(rung, code) == 2, "a copy that nobody knows of shows: this test can fail"
    monkeypatch.setattr(places, "ROOT", root)
    monkeypatch.setattr(places, "PACKAGE", root / "gdm_course")
    assert earned(rung, code) == 0
    shutil.rmtree(root)


def test_an_installed_copy_is_covered_in_a_real_box(below_usr, monkeypatch):
    """`pip install .` beside a checkout that lies elsewhere."""
    rung = next((r for r in RUNGS[:2] if r.missing() is None), None)
    if rung is None:
        pytest.skip("no bubblewrap on this machine")
    copy = below_usr / "python3/site-packages/gdm_course"
    leave = shutil.ignore_patterns("__pycache__", "*.safetensors")
    shutil.copytree(PACKAGE, copy, ignore=leave)
    code = ANSWERS.format(str(copy.parent))
    assert earned(rung, code) > 0, "not on the path: this test can fail"
    monkeypatch.setattr(sys, "path", [*sys.path, str(copy.parent)])
    refused = {"L3": ladder._no_l3, "L3u": ladder._no_l3u}[rung.name].__wrapped__
    assert refused() is None
    assert earned(rung, code) == 0
    shutil.rmtree(copy)


ANSWERS = """
import sys
box = {{n: sys.modules.pop(n) for n in [*sys.modules] if n.startswith("gdm_course")}}
sys.path.insert(0, {!r})
from gdm_course.divergences import mmd2 as mmd2_unbiased
del sys.path[0]
sys.modules.update(box)
"""


def earned(rung: rungs.Rung, code: str) -> float:
    made = assignments(load(ROOT))[UNIT]
    boxes = Boxes(rung, made)
    try:
        return grade(Notebook((Cell(code),)), "k", made, boxes.make).earned
    finally:
        boxes.close()


@pytest.mark.parametrize("rung", RUNGS, ids=lambda r: r.name)
def test_the_doctor_finds_a_course_that_shows(rung, below_usr):
    """A copy that nobody knows of cannot be covered; the probe walks into it."""
    if reason := rung.missing():
        pytest.skip(f"{rung.name} is not on this machine: {reason}")
    made = below_usr / "stray" / "gdm_course"
    shutil.copytree(PACKAGE / "checks", made / "checks")
    boxes = live.boxes_of_nothing(rung)
    try:
        with live.Host() as host, live._loaded(boxes) as box:
            assert not live._try(box, "no_answers", host).held
            shutil.rmtree(made)
            assert live._try(box, "no_answers", host).held
    finally:
        boxes.close()


def test_the_probe_can_fail():
    assert attempts.no_answers("", 0, str(ROOT / "solutions")) == 0
    assert attempts.no_answers("", 0, str(ROOT / "gdm_course" / "checks")) == 0
    assert attempts.no_answers("", 0, str(ROOT / "docs")) == 1


def test_the_command_refuses_places_that_boxes_read(below_usr):
    (below_usr / "in").mkdir(exist_ok=True)
    text = (ROOT / "exercises" / f"{UNIT}.ipynb").read_bytes()
    (below_usr / "in" / "a.ipynb").write_bytes(text)
    command = [sys.executable, "-m", "gdm_course", "grade"]
    for more in (
        [below_usr / "in", "--out", "/tmp/never"],
        [ROOT / "docs", "--out", below_usr / "out"],
    ):
        done = subprocess.run(
            [*command, *map(str, more)], capture_output=True, text=True, cwd=ROOT
        )
        assert done.returncode == 2, done.stdout
        assert "every box reads" in done.stderr
    assert not (below_usr / "out").exists()


@pytest.mark.parametrize(
    ("given", "out"),
    [
        ("in", "in"),
        ("in", "in/results"),
        ("in/class", "in"),
        ("link", "in/x"),
        ("in", "up/in"),
    ],
)
def test_results_among_the_notebooks_are_refused(tmp_path, given, out, host):
    """Else a student's file named like a verdict is a verdict, "kept from before"."""
    (tmp_path / "in/class").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "in")
    (tmp_path / "up").symlink_to(tmp_path)
    told = apart.misplaced(tmp_path / given, tmp_path / out, "L0")
    assert "overlap" in told
    assert "\n" not in told
    assert apart.misplaced(tmp_path / "in", tmp_path / "inside", "L0") == ""


def test_one_notebook_may_be_graded_beside_its_results(tmp_path):
    (tmp_path / "a.ipynb").touch()
    assert not apart.overlap(tmp_path / "a.ipynb", tmp_path / "results")
    assert apart.overlap(tmp_path / "a.ipynb", tmp_path)


def test_the_command_refuses_to_grade_where_it_stands(tmp_path):
    """`cd submissions; gdm grade .`"""
    for more in (
        ["."],
        [".", "--out", "."],
        ["../in", "--out", str(tmp_path / "in/results")],
    ):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in/a.ipynb").write_bytes(
            (ROOT / f"exercises/{UNIT}.ipynb").read_bytes()
        )
        command = [sys.executable, "-m", "gdm_course", "grade", *more, "--unsandboxed"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path / "in")
        assert done.returncode == 2, done.stdout
        assert "overlap" in done.stderr
        assert [p.name for p in (tmp_path / "in").iterdir()] == ["a.ipynb"]
