"""Every command speaks on every console, and no import needs more than Windows has."""

import io
import os
import subprocess
import sys

import pytest

from gdm_course import console
from gdm_course.checks.question import Verdict, _announce
from gdm_course.source import ROOT

COMMANDS = {
    "check": "",
    "doctor": "",
    "start nonsense --no-open": "did you mean",
    "adopt lectures/index.ipynb": "no lecture or solution",
    "train --list": "test figure",
    "train nope": "nope",
    "data list": "always here",
    "data get usps": "USPS",
    "data nope": "No such command",
    "grade nowhere": "does not exist",
    "grade report nowhere": "nowhere",
    "grade merge nowhere": "nowhere",
    "release nope --out OUT": "no unit",
    "gallery --steps 1 --out OUT/a.png": "wrote",
    "--help": "gallery",
    "grade --help": "notebooks",
    "train --help": "recipes",
}


EVERY = """
import sys
from gdm_course.cli import app

for command in sys.stdin.read().split("\\n"):
    try:
        app(command.split(), prog_name="gdm")
    except SystemExit:
        pass
    print("\\n=====", flush=True)
"""


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_every_command_speaks_on_every_console(encoding, tmp_path):
    env = {"GDM_OFFLINE": "1", "GDM_DATA_DIR": str(tmp_path), "PYTHONIOENCODING": encoding}
    done = subprocess.run(
        [sys.executable, "-c", EVERY],
        cwd=ROOT,
        env={**os.environ, **env},
        input="\n".join(COMMANDS).replace("OUT", str(tmp_path)).encode(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    said = done.stdout.decode(encoding)  # raises if anything else was written
    assert done.returncode == 0, said
    assert "Traceback" not in said
    for (command, words), told in zip(
        COMMANDS.items(), said.split("\n====="), strict=False
    ):
        assert words in " ".join(told.split()), f"gdm {command}: {told}"


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("utf-8", "✔ π ± ≤ é 漢"),
        ("ascii", "+ ? +- <= e ?"),
        ("cp1252", "+ ? ± <= é ?"),
        ("latin-1", "+ ? ± <= é ?"),
    ],
)
def test_what_a_console_lacks_is_plain(encoding, shown, monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding))
    console.say("✔ π ± ≤ é 漢")
    console.forgiving()
    print("✔ π ± ≤ é 漢", flush=True)
    assert raw.getvalue().decode(encoding).split("\n")[:2] == [shown, shown]


def test_a_file_name_that_is_no_text_can_be_printed(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, "utf-8"))
    console.forgiving()
    print(f"wrote {os.fsdecode(bytes([0x61, 0xFF]))}", flush=True)
    assert raw.getvalue().rstrip() == b"wrote a?"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_check_speaks_on_every_console(encoding, monkeypatch):
    monkeypatch.delenv("GDM_CHECK", raising=False)
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding))
    _announce("x", Verdict(True, "right"))
    _announce("x", Verdict(False, "wrong: 漢"))
    assert b"+ x: right" in raw.getvalue()
    assert b"x x: wrong: ?" in raw.getvalue()


def test_no_console_at_all(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)  # pythonw on Windows
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    console.forgiving()
    console.say("✔")
