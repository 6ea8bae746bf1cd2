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


def run_all(commands, place, before="", **env) -> dict[str, str]:
    """Run command lines, all in one process; what each said, on one line."""
    words = "\n".join(commands).replace("OUT", str(place))
    done = subprocess.run(
        [sys.executable, "-c", before + EVERY],
        cwd=ROOT,
        env={**os.environ, "GDM_OFFLINE": "1", "GDM_SMOKE": "1", "GDM_DATA_DIR": str(place)}
        | env,
        input=words.replace("SOLUTIONS", str(ROOT / "solutions")).encode(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    said = done.stdout.decode(env["PYTHONIOENCODING"])  # raises on anything else
    assert done.returncode == 0, said
    assert "Traceback" not in said
    return dict(zip(commands, (" ".join(t.split()) for t in said.split("\n====="))))


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_every_command_speaks_on_every_console(encoding, tmp_path):
    told = run_all(COMMANDS, tmp_path, PYTHONIOENCODING=encoding)
    for command, words in COMMANDS.items():
        assert words in told[command], f"gdm {command}: {told[command]}"


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


WINDOWS = """
import ctypes, os, signal, sys
import torch, typer.rich_utils, rich.console, tqdm.auto, requests, filelock, nbformat
import asyncio, multiprocessing, shutil, socket, subprocess, tempfile  # these know Windows

for name in ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog"):
    sys.modules[name] = None
for module, names in [
    (os, "geteuid getuid getegid getgid getpgid sysconf killpg fork setsid uname chown"),
    (os, "O_CLOEXEC O_NOFOLLOW O_NONBLOCK O_DIRECTORY sched_getaffinity set_blocking"),
    (signal, "SIGKILL SIGCHLD SIGALRM SIGHUP SIGUSR1 SIGPIPE alarm setitimer"),
]:
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
load = ctypes.CDLL.__init__


def no_default(self, name, *args, **kwargs):
    if name is None:
        raise TypeError("LoadLibrary() argument 1 must be str, not None")
    load(self, name, *args, **kwargs)


ctypes.CDLL.__init__ = no_default
sys.platform = "win32"
"""
ON_WINDOWS = {
    "--help": "gallery",
    "check": "",  # no traceback
    "doctor": "grade on Linux or in WSL 2",
    "doctor --sandbox": "needs Linux, this is win32",
    "data list": "always here",
    "train --list": "test figure",
    "grade --help": "notebooks",
    "grade SOLUTIONS --out OUT/r": "no sandbox at or above L3u on this machine",
    "grade SOLUTIONS --out OUT/r --unsandboxed": "needs Linux or macOS, this is Windows",
    "grade report OUT": "give a folder of results",
    "grade merge OUT --out OUT/m": "give a folder of results",
    "release foundations/densities --out OUT/t": "wrote",
}


def test_no_command_ends_at_the_import_of_what_windows_lacks(tmp_path):
    """The sentence that says where to go instead is worth more than an ImportError."""
    told = run_all(ON_WINDOWS, tmp_path, WINDOWS, PYTHONIOENCODING="cp1252")
    for command, words in ON_WINDOWS.items():
        assert words in told[command], f"gdm {command}: {told[command]}"


def test_every_module_of_the_package_imports_on_windows():
    """But what runs inside of a box, which there is not."""
    inside = ("guest", "nest", "attempts", "desk", "later", "standin", "__main__")
    names = [
        ".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for p in sorted((ROOT / "gdm_course").rglob("*.py"))
        if p.stem not in inside and "checkpoints" not in p.stem
    ]
    others = "import matplotlib.pyplot, lightning.fabric, nbclient, nbconvert, IPython\n"
    code = f"import importlib\nfor name in {names}: importlib.import_module(name)"
    code = others + WINDOWS + code
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
