"""Where nothing may be written, every command says so in one sentence, before any work."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from gdm_course import console, environment, gallery
from gdm_course.authoring import derive
from gdm_course.data import download, transfer
from gdm_course.data.registry import File
from gdm_course.publishing import full
from gdm_course.source import ROOT

BWRAP = shutil.which("bwrap")
NOTEBOOK = "lectures/foundations/densities.ipynb"
pytestmark = pytest.mark.skipif(
    not BWRAP, reason="needs bubblewrap: apt-get install bubblewrap"
)


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A copy of the checkout in which a notebook is out of date and another one edited."""
    place = tmp_path_factory.mktemp("read") / "course"
    names = (".venv", ".git", "build", "work", "__pycache__", "*.egg-info", "data")
    shutil.copytree(ROOT, place, ignore=shutil.ignore_patterns(*names[:-1]))
    with (place / "lectures/flows/src/maf.py").open("a", encoding="utf-8") as script:
        script.write("\n# %% [markdown]\n# One more word.\n")
    notebook = json.loads((place / NOTEBOOK).read_text(encoding="utf-8"))
    notebook["cells"].append(
        {"cell_type": "code", "id": "a", "metadata": {}, "source": "1", "outputs": []}
    )
    (place / NOTEBOOK).write_text(json.dumps(notebook), encoding="utf-8")
    (place / "docs" / "data").mkdir()
    return place


def run(course, command: list[str], *readable: str, **env) -> tuple[int, str]:
    """Run a command where the course cannot be written; its exit status and its words."""
    box = [BWRAP, "--dev-bind", "/", "/", "--ro-bind", str(course), str(course)]
    settings = {"PYTHONPATH": str(course), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [*box, sys.executable, *command],
        cwd=course,
        env={**os.environ, **settings, **env},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    return done.returncode, done.stdout + done.stderr


READ_ONLY = "Read-only file system"
COMMANDS = {
    "sync": READ_ONLY,
    "start maf --no-open": "copy the course to a folder of your own",
    f"adopt {NOTEBOOK}": READ_ONLY,
    "data get names": "set GDM_DATA_DIR to another folder",
    "train flows/radial-ring --steps 2": "give --out and --runs",
    "train flows/radial-ring --steps 2 --out /tmp": "give --out and --runs",
    "gallery --steps 1": "give --out",
    "gallery --steps 1 --out docs/new/a.png": "give --out",
    "release foundations/densities --out tree": READ_ONLY,
    "grade solutions/flows --unsandboxed": READ_ONLY,
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_read_only_course_is_one_sentence(course, command):
    rc, said = run(
        course,
        ["-m", "gdm_course", *command.split()],
        GDM_DATA_DIR=str(course / "docs" / "data"),
    )
    assert rc in (1, 2), said
    assert "Traceback" not in said
    assert COMMANDS[command] in " ".join(said.split()), said
    assert len(said.strip().split("\n")) <= 3 or "Usage" in said


@pytest.mark.parametrize(
    "module", ["full densities", "slides foundations/densities --smoke", "site --smoke"]
)
def test_a_read_only_course_runs_no_notebook_in_vain(course, module):
    rc, said = run(course, f"-m gdm_course.publishing.{module}".split())
    assert rc != 0
    assert "Traceback" not in said
    assert "cannot write to" in said
    assert READ_ONLY in said


def test_a_read_only_course_can_still_be_read(course):
    """A shared checkout: what needs no writing works, and JupyterLab would open."""
    assert run(course, ["-m", "gdm_course", "doctor"], GDM_OFFLINE="1")[0] == 0
    code = "import os; os.execv = lambda *a: (print('opened'), os._exit(0)); "
    code += "import gdm_course.cli as c; c.app(['lab', '--no-browser'])"
    rc, said = run(course, ["-c", code])
    assert rc == 0, said
    assert said.endswith("opened\n")
    assert said.count(READ_ONLY) == 1


def refusing(*args, **kwargs):
    raise OSError(30, READ_ONLY, "/course/x")


def test_a_folder_that_cannot_be_written_is_found_out_at_once(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot write to .*file.* \(.+\): give another one"):
        environment.must_write(tmp_path / "file" / "below", "give another one")
    environment.must_write(tmp_path / "a" / "b", "")
    assert (tmp_path / "a" / "b").is_dir()
    assert not [*(tmp_path / "a" / "b").iterdir()]
    monkeypatch.setattr(gallery, "figure", lambda steps: pytest.fail("trained in vain"))
    with pytest.raises(OSError, match="give --out"):
        gallery.draw(tmp_path / "file" / "gallery.png", steps=1)


def test_a_data_folder_that_cannot_be_written_is_found_out_at_once(tmp_path, monkeypatch):
    """Also when its folders are there already."""
    monkeypatch.setattr(environment.tempfile, "TemporaryFile", refusing)
    with pytest.raises(download.DownloadError, match=r"set GDM_DATA_DIR to another folder"):
        transfer.fetch(
            File("set/body.bin", 3, "0" * 64, ("http://127.0.0.1:9/x",)), tmp_path
        )


def test_sync_stops_at_the_first_file_that_it_cannot_write(monkeypatch):
    plan = derive.plan(ROOT)
    monkeypatch.setattr(derive, "plan", lambda root: plan)
    plan.files |= {name: "new" for name in plan.files if name.endswith(".py")}
    monkeypatch.setattr(derive.tempfile, "mkstemp", refusing)
    written, problems = derive.sync(ROOT, force=True)
    assert not written
    assert [READ_ONLY in str(problem) for problem in problems] == [True]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            OSError(13, "Permission denied", "/a/b"),
            "/a/b: Permission denied: choose a folder",
        ),
        (OSError(28, "No space left on device", "/a"), "/a: No space left on device: make"),
        (
            NotADirectoryError(20, "Not a directory", "/a/b"),
            "/a/b: Not a directory: choose",
        ),
        (FileNotFoundError("no such home: set X"), "no such home: set X"),
    ],
)
def test_trouble_with_files_ends_a_command_with_a_sentence(error, said, capsys):
    with pytest.raises(SystemExit) as ended, console.telling():
        raise error
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"✘ {said}")


def test_other_errors_keep_their_traceback():
    for error in (FileNotFoundError(2, "No such file", "/a"), ValueError("x")):
        with pytest.raises(type(error)), console.telling():
            raise error


def test_full_needs_no_writing_to_say_that_nothing_is_chosen(capsys):
    assert full.main(["nosuchunit"]) == 1
