"""What one submission does to the machine, the judge or its neighbours, and must not."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from typer.main import get_command

from gdm_course.grading.box import cgroup, memory
from gdm_course.grading.box.ladder import LADDER, free_uid
from gdm_course.grading.box.removal import remove
from gdm_course.grading.box.rungs import Site, as_nobody, bubblewrap, landlocked, uncounted
from gdm_course.grading.marks import batch
from gdm_course.grading.marks.cli import app
from gdm_course.source import ROOT

# Folders ----------------------------------------------------------------------------------


def deep(place: Path, levels: int, name: str = "d") -> None:
    """Folders in one another, below `place`; the path may be longer than a path may be."""
    here = os.getcwd()
    try:
        os.chdir(place)
        for _ in range(levels):
            os.mkdir(name)
            os.chdir(name)
    finally:
        os.chdir(here)


def test_any_folder_is_removed_and_no_link_followed(tmp_path):
    kept, gone = tmp_path / "kept", tmp_path / "gone"
    for folder in (kept, gone, gone / "a", gone / "a" / "b"):
        folder.mkdir()
    deep(gone / "a", 1500, "x" * 200)
    (kept / "file").write_text("mine")
    (gone / "a" / "b" / "file").touch()
    (gone / "a" / "link").symlink_to(kept)
    (gone / "link").symlink_to(kept)
    os.mkfifo(gone / "a" / "pipe")
    (gone / "a" / "b").chmod(0)
    (gone / "a").chmod(0)
    remove(gone)
    assert not gone.exists()
    assert (kept / "file").read_text() == "mine"
    link = tmp_path / "link"
    link.symlink_to(kept)
    remove(link)
    remove(tmp_path / "nothing")
    assert (kept / "file").read_text() == "mine"
    assert kept.stat().st_mode & 0o777 != 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user runs the other tests so")
def test_an_ordinary_user_removes_what_is_closed_to_its_owner(tmp_path):
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o055)
    site = Site(tmp_path, tmp_path, free_uid(30))
    os.chown(tmp_path, site.uid, site.uid)
    code = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from gdm_course.grading.box.removal import remove
os.makedirs("top/a/b/c")
for name in ("top/a/b/c", "top/a/b", "top/a", "top"):
    os.chmod(name, 0)
remove(Path("top"))
assert not os.path.exists("top")
"""
    command = as_nobody(site, [sys.executable, "-P", "-c", code])
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


SOLVED = (ROOT / "solutions" / "foundations" / "densities.ipynb").read_bytes()


def folders(found: batch.Found) -> dict[str, str]:
    """Refused names, by student: a name may be long."""
    return {name.partition("/")[0]: why for name, why in found.refused.items()}


def test_a_folder_too_deep_is_reported_and_the_rest_is_found(tmp_path):
    for student in ("ada", "ben", "zoe"):
        (tmp_path / student).mkdir()
        (tmp_path / student / "densities.ipynb").write_bytes(SOLVED + student.encode())
    deep(tmp_path / "ben", 1100)
    deep(tmp_path / "zoe", 1100, "long" * 50)  # no path reaches its end
    try:
        found = batch.find(tmp_path)
    finally:
        remove(tmp_path / "ben")
        remove(tmp_path / "zoe")
    named = sorted(name for names in found.names.values() for name in names)
    assert named == [f"{student}/densities.ipynb" for student in ("ada", "ben", "zoe")]
    assert {*folders(found)} == {"ben", "zoe"}
    assert folders(found)["ben"].startswith("more than 32 folders in one another")


def test_a_student_with_very_many_files_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr("gdm_course.grading.marks.walk.MAX_ENTRIES", 50)
    for i in range(60):  # a class may be larger than what one student may hand in
        (tmp_path / f"{i}.ipynb").write_bytes(SOLVED + b" " * i)
    for i in range(10):
        (tmp_path / "ben" / f"{i}").mkdir(parents=True)
        for j in range(10):
            (tmp_path / "ben" / f"{i}" / f"{j}.ipynb").write_bytes(SOLVED + b"\n" * j)
    found = batch.find(tmp_path)
    names = [name for names in found.names.values() for name in names]
    assert sum("/" not in name for name in names) == 60
    assert 10 < sum(name.startswith("ben/") for name in names) <= 50
    assert folders(found)["ben"] == (
        "one student's files are more than 50: hand in the notebook alone"
    )


def test_a_folder_that_cannot_be_read_is_reported(tmp_path, monkeypatch):
    """As root every folder can be: so the system call is a fake."""
    for student in ("ada", "ben"):
        (tmp_path / student / "in").mkdir(parents=True)
        (tmp_path / student / "in" / "densities.ipynb").write_bytes(SOLVED)
    scandir = os.scandir

    def refuses(place: object):
        if str(place) == str(tmp_path / "ben" / "in"):
            raise PermissionError(13, "Permission denied", place)
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refuses)
    found = batch.find(tmp_path)
    assert [*found.names.values()] == [["ada/in/densities.ipynb"]]
    assert found.refused == {"ben/in/": "this folder cannot be read: Permission denied"}


def test_a_class_that_cannot_be_read_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr("gdm_course.grading.marks.cli._rung", lambda *_: LADDER[-1])

    def refuses(place: object):
        raise PermissionError(13, "Permission denied", place)

    monkeypatch.setattr(os, "scandir", refuses)
    place, out = tmp_path / "in", str(tmp_path / "out")
    place.mkdir()
    done = CliRunner().invoke(get_command(app), [str(place), "--out", out])
    assert done.exit_code == 2
    assert f"{place} cannot be read: Permission denied" in done.output


# Memory -----------------------------------------------------------------------------------

REFUSED = """
import mmap
from gdm_course.grading.guest import seal
seal.filter_calls(shared_memory={})
mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)[0] = 1
with open("file", "wb+") as file:
    file.truncate(4096)
    mmap.mmap(file.fileno(), 4096)[0] = 1  # a file is as large as its folder lets it be
for shared in (mmap.MAP_SHARED, 3):  # MAP_SHARED_VALIDATE
    mmap.mmap(-1, 4096, shared | mmap.MAP_ANONYMOUS)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="seccomp is Linux's")
def test_shared_memory_that_nobody_could_count_is_refused(tmp_path, monkeypatch):
    for allowed in (True, False):
        code = [sys.executable, "-c", REFUSED.format(allowed)]
        done = subprocess.run(code, cwd=tmp_path, capture_output=True, text=True)
        assert ("PermissionError" in done.stderr) != allowed, done.stderr
    monkeypatch.setattr(cgroup, "home", lambda: (tmp_path, ""))
    assert uncounted() == {"shared_memory": True, "record_locks": True}
    monkeypatch.setattr(cgroup, "home", lambda: (None, "not here"))
    site = Site(tmp_path, tmp_path, 1_900_000_000)
    for seen in (b"00:01", b""):
        monkeypatch.setattr(memory, "device", lambda seen=seen: seen)
        command = bubblewrap(site)
        how = json.loads(command[-1])
        assert how["seccomp"] == {"shared_memory": bool(seen), "record_locks": False}
        assert ("/dev/zero" in command) != bool(seen)
        how = json.loads(landlocked(site)[-1])
        assert how["seccomp"]["shared_memory"] == bool(seen)
        assert ("/dev/zero" in how["landlock"]["read"]) == bool(seen)


HUGE = """
import ctypes, sys
from gdm_course.grading.guest import seal
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
if {sealed}:
    seal.limit(2500, 128, 1000, 600)
    seal.filter_calls()
    assert libc.prctl(41, 0, 0, 0, 0) == -1, "it cannot be undone"
size, page = 2 << 20, 4096
start = libc.mmap(None, ctypes.c_size_t(2 * size), 3, 0x22, -1, ctypes.c_long(0))
begin = (start + size - 1) & -size
libc.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(size), 14)  # MADV_HUGEPAGE
ctypes.memset(ctypes.c_void_p(begin), 1, size)
libc.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(size), 25)  # MADV_COLLAPSE
lines = open("/proc/self/smaps_rollup").read().splitlines()
print(sum(int(line.split()[1]) for line in lines if line.startswith("AnonHuge")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="huge pages are Linux's")
def test_no_huge_page_hides_what_is_left_of_it():
    """Of 2 MiB that are kept whole, a process can show 4 KiB."""
    found = []
    for sealed in (False, True):
        code = [sys.executable, "-c", HUGE.format(sealed=sealed)]
        done = subprocess.run(code, capture_output=True, text=True, check=True)
        found.append(int(done.stdout))
    assert found[1] == 0
    if found[0] == 0:
        pytest.skip("this machine makes no huge pages anyway")


LOCKS = """
import fcntl
from gdm_course.grading.guest import seal
seal.filter_calls(record_locks={})
with open("file", "w") as file:
    fcntl.flock(file, fcntl.LOCK_EX)  # one per open file: harmless
    fcntl.lockf(file, fcntl.LOCK_EX, 1, 0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="seccomp is Linux's")
def test_locks_that_nobody_counts_are_refused(tmp_path):
    for allowed in (True, False):
        code = [sys.executable, "-c", LOCKS.format(allowed)]
        done = subprocess.run(code, cwd=tmp_path, capture_output=True, text=True)
        assert ("PermissionError" in done.stderr) != allowed, done.stderr


@contextlib.contextmanager
def holding(source: str) -> Iterator[int]:
    """A process that has done what the source says, and waits."""
    code = f"{source}\nimport sys\nprint('done', flush=True)\nsys.stdin.read()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:
        try:
            assert process.stdout.readline() == b"done\n"
            yield process.pid
        finally:
            process.kill()


TAKES = {
    "private": "x = bytearray(b'x' * (200 << 20))",
    "shared, given back": """
import mmap
x = mmap.mmap(-1, 200 << 20)
for page in range(0, len(x), 4096):
    x[page] = 1
x.madvise(mmap.MADV_DONTNEED)
""",
    "shared, all but one page unmapped": """
import ctypes
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
x = libc.mmap(None, ctypes.c_size_t(200 << 20), 3, 0x21, -1, ctypes.c_long(0))
ctypes.memset(ctypes.c_void_p(x), 1, 200 << 20)
libc.munmap(ctypes.c_void_p(x + 4096), ctypes.c_size_t((200 << 20) - 4096))
""",
    "shared, through /dev/zero, named": """
import ctypes, mmap
with open("/dev/zero", "rb+") as file:
    x = mmap.mmap(file.fileno(), 200 << 20)
for page in range(0, len(x), 4096):
    x[page] = 1
x.madvise(mmap.MADV_DONTNEED)
at = ctypes.addressof(ctypes.c_char.from_buffer(x))
name = [ctypes.c_ulong(n) for n in (0, at, 200 << 20)]
ctypes.CDLL(None).prctl(0x53564d41, *name, b"libtorch.so")  # what /proc/PID/maps shows
""",
    "page tables": """
import ctypes, mmap
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
x = libc.mmap(None, ctypes.c_size_t(100 << 30), 1, 0x4022, -1, ctypes.c_long(0))
for at in range(x, x + (100 << 30), 1 << 21):
    ctypes.c_char.from_address(at).value
""",
    "first thread has ended": """
import ctypes, os, sys, threading
def take():
    x = bytearray(b'x' * (200 << 20))
    print('done', flush=True)
    sys.stdin.read()
threading.Thread(target=take).start()
ctypes.CDLL(None).syscall(60 if os.uname().machine == 'x86_64' else 93, 0)
""",
}


@pytest.mark.skipif(memory.device() == b"", reason="takes root's right to look")
@pytest.mark.parametrize("how", TAKES)
def test_memory_is_counted_however_it_is_hidden(how):
    gauge = memory.Gauge(1 << 30)
    with holding(TAKES[how]) as taker, holding("") as other:
        least = 190 if how == "page tables" else 200  # 100 GiB need 200 MiB of tables
        for limit in (1 << 30, 0):  # a quick look, an exact one
            gauge.limit = limit
            assert least << 20 <= gauge.read([taker]) < 300 << 20
        gauge.limit = 1 << 30
        assert gauge.read([other]) < 100 << 20, "not of another process"
