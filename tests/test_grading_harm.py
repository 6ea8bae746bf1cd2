"""What one submission does to the machine, the judge or its neighbours, and must not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from typer.main import get_command

from gdm_course.grading import batch
from gdm_course.grading.cli import app
from gdm_course.grading.ladder import LADDER, free_uid
from gdm_course.grading.removal import remove
from gdm_course.grading.rungs import Site, as_nobody
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
from gdm_course.grading.removal import remove
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
    monkeypatch.setattr("gdm_course.grading.walk.MAX_ENTRIES", 50)
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
    monkeypatch.setattr("gdm_course.grading.cli._rung", lambda *_: LADDER[-1])

    def refuses(place: object):
        raise PermissionError(13, "Permission denied", place)

    monkeypatch.setattr(os, "scandir", refuses)
    out = str(tmp_path / "out")
    done = CliRunner().invoke(get_command(app), [str(tmp_path), "--out", out])
    assert done.exit_code == 2
    assert f"{tmp_path} cannot be read: Permission denied" in done.output
