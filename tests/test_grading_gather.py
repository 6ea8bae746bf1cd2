"""What lies in a folder of submissions: everybody is listed, everything is what it is."""

import io
import os
import socket
import stat
import tarfile
import unicodedata
import zipfile
from pathlib import Path

import pytest

from gdm_course.grading.marks import batch
from gdm_course.grading.marks.ledger import Named
from gdm_course.source import ROOT

SOLVED = (ROOT / "solutions" / "foundations" / "densities.ipynb").read_bytes()
APPLE = b"\0\5\x16\7\0\2\0\0Mac OS X        "


def put(place: Path, name: str, data: bytes = SOLVED) -> None:
    (place / name).parent.mkdir(parents=True, exist_ok=True)
    (place / name).write_bytes(data)


def listed(found: batch.Found) -> dict[str, str]:
    """Every line that a class gets: a file's name, and why it is not graded."""
    return {n: "" for names in found.names.values() for n in names} | found.refused


def students(found: batch.Found) -> list[str]:
    return sorted(Named(name).student for name in listed(found))


# Notebooks under other names --------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "densities.ipynb.txt",
        "densities.ipynb.json",
        "densities.json",
        "densities.txt",
        "DENSITIES.IPYNB",
        "densities.Ipynb",
        "densities.ipynb.TXT",
        "densities.ipynb (1)",
        "densities.ipynb.download",
        "densities",
        "densities (1).ipynb",
        "Untitled.ipynb",
        ".ipynb",
        ".densities.ipynb",
        "densities-checkpoint.ipynb",
    ],
)
def test_a_notebook_is_known_by_what_it_holds(tmp_path, name):
    put(tmp_path, f"ada/{name}")
    found = batch.find(tmp_path)
    assert listed(found) == {f"ada/{name}": ""}
    plain = name.lower().endswith(".ipynb")
    assert found.renamed == ([] if plain else [f"ada/{name}"])


def test_a_byte_order_mark_hides_no_notebook(tmp_path):
    put(tmp_path, "ada/densities.txt", b"\xef\xbb\xbf\n" + SOLVED)
    assert listed(batch.find(tmp_path)) == {"ada/densities.txt": ""}


@pytest.mark.parametrize(
    ("name", "student"),
    [
        ("ada.ipynb", "ada"),
        ("ada.IPYNB", "ada"),
        ("ada.ipynb.txt", "ada"),
        ("ada.lovelace.ipynb", "ada.lovelace"),
        ("ada.ipynb (2)", "ada"),
        ("ada.pdf", "ada"),
        ("ada.lovelace/", "ada.lovelace"),
        ("ada.lovelace/x.ipynb", "ada.lovelace"),
        (".ipynb", ".ipynb"),
        ("x.ipynbackup.ipynb", "x.ipynbackup"),
    ],
)
def test_the_student_of_a_name(name, student):
    assert Named(name).student == student


def test_other_json_is_no_notebook(tmp_path):
    put(tmp_path, "ada/densities.ipynb")
    put(tmp_path, "ada/data.json", b'{"nbformat": 4}')
    put(tmp_path, "ada/list.json", b"[1, 2]")
    put(tmp_path, "ada/large.json", b'{"x": "' + b"x" * (17 << 20) + b'"}')
    put(tmp_path, "ada/copy.ipynb.html", b"<!DOCTYPE html><html></html>")
    found = batch.find(tmp_path)
    assert listed(found) == {"ada/densities.ipynb": ""}
    assert {*found.aside} == {f"ada/{n}.json" for n in ("data", "list", "large")} | {
        "ada/copy.ipynb.html"
    }


# Nobody vanishes --------------------------------------------------------------------------


def archive(kind: str) -> bytes:
    file = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(file, "w") as made:
            made.writestr("densities.ipynb", SOLVED)
    else:
        with tarfile.open(fileobj=file, mode=f"w:{kind}") as made:
            made.addfile(tarfile.TarInfo("densities.ipynb"))
    return file.getvalue()


KINDS = {
    "homework.zip": (archive("zip"), "a zip archive"),
    "homework.tar": (archive(""), "a tar archive"),
    "homework.tar.gz": (archive("gz"), "a gzip archive"),
    "homework.7z": (b"7z\xbc\xaf\x27\x1c\0\4", "a 7z archive"),
    "homework.rar": (b"Rar!\x1a\7\1\0", "a rar archive"),
    "homework.pdf": (b"%PDF-1.7\n", "a PDF document"),
    "homework.py": (b"print(1)\n", "a Python script"),
    "homework.html": (b"\n<html>", "a web page"),
    "homework.png": (b"\x89PNG\r\n", "a picture"),
    "homework.docx": (archive("zip"), "a zip archive"),
    "homework.txt": (b"I was ill", "a file of another kind"),
    "homework.odd": (b"", "an empty file"),
    "densities.ipynb.txt": (b"not a notebook", "no valid JSON: hand in the .ipynb as"),
    "densities.ipynb.docx": (SOLVED.decode().encode("utf-16"), "not UTF-8 text"),
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("folder", ["ben/", ""])
def test_what_is_no_notebook_is_listed_as_what_it_is(tmp_path, name, folder):
    data, what = KINDS[name]
    put(tmp_path, "ada/densities.ipynb")
    put(tmp_path, f"{folder}{name}", data)
    found = batch.find(tmp_path)
    why = found.refused[f"{folder}{name}"]
    assert why.startswith(f"no notebook here ({what}")
    assert "hand in the notebook itself" in why
    student = "ben" if folder else Named(name).student
    assert students(found) == sorted(["ada", student])
    put(tmp_path, f"{folder}{Named(name).student}.ipynb")  # now there is a notebook, too
    found = batch.find(tmp_path)
    assert found.refused == {}
    assert found.aside[f"{folder}{name}"].startswith(what)


def test_a_student_without_a_readable_file_is_listed_once(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "nest" / "a" / "b").mkdir(parents=True)
    for i in range(9):
        put(tmp_path, f"many/{i}.py", b"1")
    put(tmp_path, "copy/.ipynb_checkpoints/densities-checkpoint.ipynb")
    put(tmp_path, "hidden/.work/densities.ipynb")
    put(tmp_path, "system/.DS_Store", b"x")
    put(tmp_path, "system/Thumbs.db", b"x")
    found = batch.find(tmp_path)
    assert students(found) == ["copy", "empty", "hidden", "many", "nest", "system"]
    why = {Named(name).student: why for name, why in found.refused.items()}
    assert "an empty folder" in why["empty"]
    assert "an empty folder" in why["nest"]
    assert "0.py: a Python script; 1.py: a Python script" in why["many"]
    assert "and 6 more" in why["many"]
    assert "copies that JupyterLab makes" in why["copy"]
    assert "a hidden folder" in why["hidden"]
    assert "left by the system" in why["system"]


def test_what_systems_leave_is_nobodys(tmp_path):
    put(tmp_path, "ada/densities.ipynb")
    for name in ("__MACOSX/ada/._densities.ipynb", "ada/._densities.ipynb", "._ada"):
        put(tmp_path, name, APPLE)
    put(tmp_path, "ada/__MACOSX/x.ipynb")
    for name in ("Thumbs.db", ".DS_Store", "desktop.ini", "ada/Thumbs.db", ".git/config"):
        put(tmp_path, name, b"\0\0\0\1Bud1")
    found = batch.find(tmp_path)
    assert listed(found) == {"ada/densities.ipynb": ""}
    assert {*found.aside} == {
        *("__MACOSX/", "ada/._densities.ipynb", "._ada", "ada/__MACOSX/", "Thumbs.db"),
        *(".DS_Store", "desktop.ini", "ada/Thumbs.db", ".git/"),
    }
    assert found.aside["ada/._densities.ipynb"] == found.aside["__MACOSX/"]


def test_a_name_of_macos_with_a_notebook_in_it_is_a_notebook(tmp_path):
    put(tmp_path, "ada/._densities.ipynb")
    assert listed(batch.find(tmp_path)) == {"ada/._densities.ipynb": ""}


def test_links_pipes_and_sockets_are_listed_and_never_opened(tmp_path, monkeypatch):
    place = tmp_path / "in"
    put(tmp_path, "elsewhere/densities.ipynb")
    for student in ("ada", "ben", "cleo", "dora"):
        (place / student).mkdir(parents=True)
    os.symlink(
        tmp_path / "elsewhere" / "densities.ipynb", place / "ada" / "densities.ipynb"
    )
    os.symlink(tmp_path / "elsewhere", place / "ed.gar")  # a student's whole folder
    os.symlink(tmp_path / "nowhere", place / "fay")
    os.mkfifo(place / "ben" / "densities.ipynb")
    os.mkfifo(place / "cleo" / "notes")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(place / "dora")  # a path of a socket is short
        server.bind("densities.ipynb")
    opened, real = [], os.open

    def watched(path, *args, **kwargs):
        opened.append(str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", watched)
    found = batch.find(place)
    assert opened == []
    assert students(found) == ["ada", "ben", "cleo", "dora", "ed.gar", "fay"]
    assert "a link, which is not followed" in found.refused["ada/densities.ipynb"]
    assert "a link, which is not followed" in found.refused["ed.gar/"]
    assert "a pipe, which is not opened" in found.refused["ben/densities.ipynb"]
    assert "a pipe, which is not opened" in found.refused["cleo/notes"]
    assert "a socket, which is not opened" in found.refused["dora/densities.ipynb"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a device")
def test_a_device_is_not_opened(tmp_path):
    (tmp_path / "ada").mkdir()
    os.mknod(tmp_path / "ada" / "densities.ipynb", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    assert "a device" in batch.find(tmp_path).refused["ada/densities.ipynb"]


def test_odd_names_stay_apart(tmp_path):
    names = ["two\nlines", "a\u202efdp", "x" * 200, "Ada", "ada", " ", "-rf", "a'b\"c"]
    names += [unicodedata.normalize(form, "Zoë") for form in ("NFC", "NFD")]
    for name in names:
        put(tmp_path, f"{name}/densities.ipynb")
    found = batch.find(tmp_path)
    assert students(found) == sorted(names)
    keys = {Named(name).key for name in listed(found)}
    assert len(keys) == len(names)


def test_a_name_that_is_no_text_is_one_all_the_same(tmp_path):
    place = os.fsencode(tmp_path) + b"/\xff\xfe"
    os.mkdir(place)
    with open(place + b"/densities.ipynb", "wb") as file:
        file.write(SOLVED)
    assert students(batch.find(tmp_path)) == [os.fsdecode(b"\xff\xfe")]


def test_one_file_may_have_any_name(tmp_path):
    put(tmp_path, "mine.txt")
    assert listed(batch.find(tmp_path / "mine.txt")) == {"mine.txt": ""}
