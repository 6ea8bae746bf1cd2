"""What the environment says is read in one way: switches, the data folder, the cores."""

import ast
import os
import subprocess
import sys

import pytest

from gdm_course import doctor, environment, jupyter_display, machine, training
from gdm_course.checks.question import Verdict, _announce
from gdm_course.data import download, stream
from gdm_course.data.registry import File
from gdm_course.source import PACKAGE, ROOT

OFF = ["", "0", "false", "False", "no", "NO", "off", " 0 "]
ON = ["1", "true", "yes", "on", "2"]
NAMES = ("GDM_SMOKE", "GDM_CHECK", "GDM_OFFLINE", "GDM_LIVE", "GDM_FULL", "CI")


def strict() -> bool:
    try:
        _announce("x", Verdict(False, "wrong"))
    except AssertionError:
        return True
    return False


def silent() -> bool:
    with stream._bar(File("a/b", 10), 0) as bar:
        return bar.disable


SWITCHES = {
    "GDM_SMOKE": lambda: training.budget(2, 1) == 1,
    "GDM_SMOKE, widgets": jupyter_display.quiet,
    "CI": jupyter_display.quiet,
    "CI, downloads": silent,
    "GDM_SMOKE, downloads": silent,
    "GDM_CHECK": strict,
    "GDM_OFFLINE": download.offline,
    "GDM_OFFLINE, doctor": lambda: "GDM_OFFLINE" in machine.check_network(()).found,
    "GDM_LIVE": jupyter_display.live,
}


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in (*NAMES, "NBGRADER_EXECUTION", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize("value", [*OFF, *ON, None], ids=repr)
def test_a_switch_is_on_or_off_in_every_place(switch, value, monkeypatch):
    name, look = switch.split(",")[0], SWITCHES[switch]
    if name == "GDM_LIVE":  # in a kernel of a smoke run
        monkeypatch.setattr(jupyter_display, "in_kernel", lambda: True)
        monkeypatch.setenv("GDM_SMOKE", "1")
    if value is not None:
        monkeypatch.setenv(name, value)
    assert look() is (value in ON)


@pytest.mark.parametrize("value", ["", "0", "1"])
def test_a_full_run_of_the_tests_obeys_the_same_words(value):
    code = "import conftest; item = type('IPyNbCell', (), {})(); import os\n"
    code += "conftest.pytest_runtest_setup(item); print('GDM_SMOKE' in os.environ)"
    env = {**os.environ, "GDM_FULL": value, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.stdout.strip() == str(value != "1"), done.stderr


def looked_up(text: str) -> set[str]:
    """The switches, and the data folder, that a file looks up by itself."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call | ast.Subscript | ast.Compare):
            own = ast.unparse(node)
            if "os.environ" in own or "getenv" in own:
                found |= {name for name in (*NAMES, "GDM_DATA_DIR") if f"'{name}'" in own}
    return found


def test_nobody_else_reads_a_switch_or_the_data_folder():
    files = [
        p for p in PACKAGE.rglob("*.py") if p.name not in ("environment.py", "execute.py")
    ]
    assert looked_up("import os\nx = os.environ.get('CI')") == {"CI"}
    found = {p.name: looked_up(p.read_text("utf-8")) for p in files}
    assert {name: names for name, names in found.items() if names} == {}


def test_a_tilde_is_the_home_folder_everywhere(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("GDM_DATA_DIR", "~/sets")
    (tmp_path / "sets" / "mnist").mkdir(parents=True)
    assert download.folder() == tmp_path / "sets"
    assert str(tmp_path / "sets") in doctor.check_data().found
    monkeypatch.delenv("GDM_DATA_DIR")
    assert download.folder() == tmp_path / ".cache" / "gdm_course"


def test_a_relative_folder_is_the_same_one_from_every_notebook(monkeypatch, tmp_path):
    monkeypatch.setenv("GDM_DATA_DIR", "../some/data")
    found = []
    for place in (ROOT, ROOT / "lectures" / "flows", tmp_path):
        monkeypatch.chdir(place)
        found += [download.folder(), environment.data_folder()]
    assert {path.resolve() for path in found} == {ROOT.parent / "some" / "data"}
    assert all(path.is_absolute() for path in found)


def test_without_a_checkout_it_is_below_the_current_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(environment, "ROOT", tmp_path / "site-packages")
    monkeypatch.setenv("GDM_DATA_DIR", "sets")
    monkeypatch.chdir(tmp_path)
    assert download.folder() == tmp_path / "sets"


@pytest.mark.parametrize("value", ["", "~nobodyatall/data", "~"])
def test_no_home_folder_is_one_sentence(value, monkeypatch):
    monkeypatch.setenv("GDM_DATA_DIR", value)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as where it is unknown
    with pytest.raises(FileNotFoundError, match=r"set GDM_DATA_DIR to a whole path"):
        download.folder()
    assert doctor.check_data().state == "fail"
    assert "set GDM_DATA_DIR" in doctor.check_data().remedy
    assert doctor.check_disk().state in ("ok", "note")


def quota(tmp_path, files: dict[str, str], own: str):
    for name, text in files.items():
        (tmp_path / "fs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "fs" / name).write_text(text)
    (tmp_path / "own").write_text(own)
    return tmp_path / "fs", tmp_path / "own"


V1 = {"cpu/cpu.cfs_quota_us": "-1", "cpu/a/cpu.cfs_period_us": "100000"}


@pytest.mark.parametrize(
    ("files", "own", "cores"),
    [
        ({"cpu.max": "200000 100000\n"}, "0::/\n", 2.0),
        ({"cpu.max": "max 100000"}, "0::/", None),
        ({"a/cpu.max": "150000 100000", "a/b/cpu.max": "max 100000"}, "0::/a/b\n", 1.5),
        ({"a/cpu.max": "400000 100000", "a/b/cpu.max": "50000 100000"}, "0::/a/b", 0.5),
        ({**V1, "cpu/a/cpu.cfs_quota_us": "300000"}, "2:cpu,cpuacct:/a\n0::/x\n", 3.0),
        ({**V1, "cpu/a/cpu.cfs_quota_us": "-1"}, "2:cpu,cpuacct:/a\n", None),
        ({"cpu.max": "much"}, "0::/../..\n", None),
        ({}, "", None),
    ],
)
def test_the_quota_of_a_container(files, own, cores, tmp_path):
    assert environment.quota(*quota(tmp_path, files, own)) == cores


def test_workers_are_counted_by_the_cores_allowed(monkeypatch):
    monkeypatch.setattr(environment, "quota", lambda: None)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {5}, raising=False)
    monkeypatch.setattr(os, "process_cpu_count", lambda: 1, raising=False)
    assert environment.cores() == 1
    assert machine.check_cpu().found.startswith("1 core")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(os, "process_cpu_count", lambda: 8, raising=False)
    assert environment.cores() == 8
    for limit, number in [(2.5, 2), (0.5, 1), (100.0, 8)]:
        monkeypatch.setattr(environment, "quota", lambda limit=limit: limit)
        assert environment.cores() == number


def test_a_grader_starts_as_many_workers_as_there_are_cores_allowed(monkeypatch, tmp_path):
    from gdm_course.grading.marks import cli, workers

    monkeypatch.setattr(workers, "Local", lambda jobs: jobs)
    monkeypatch.setattr(cli, "cores", lambda: 3)
    made = [cli._workers("local", "", jobs, "L0", tmp_path, tmp_path) for jobs in (0, 7)]
    assert made == [3, 7]


def test_nobody_else_counts_cores():
    files = [p for p in PACKAGE.rglob("*.py") if p.name != "environment.py"]
    assert not [p for p in files if "cpu_count" in p.read_text(encoding="utf-8")]
