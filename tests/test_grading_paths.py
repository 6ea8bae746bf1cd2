"""The judge imports nothing of a stranger's, and reads nothing that could run."""

import ast
import json
import os
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from gdm_course.grading.box.container import container
from gdm_course.grading.box.ladder import LADDER
from gdm_course.grading.box.rungs import Site, guest_command
from gdm_course.source import PACKAGE, ROOT

BEST = next((r for r in LADDER if r.name in ("L3", "L3u") and r.missing() is None), None)
boxed = pytest.mark.skipif(BEST is None, reason="no bubblewrap on this machine")
SOLVED = (ROOT / "solutions" / "foundations" / "densities.ipynb").read_bytes()
MARK = "import os\nopen({!r} + __name__, 'w').close()\nraise ImportError('a stranger')\n"


def names() -> set[str]:
    """Whatever a grader might import: the library's modules, and all that is installed."""
    found = {*sys.stdlib_module_names, *packages_distributions()} - {"gdm_course"}
    found |= {"sitecustomize", "usercustomize", "conftest", "torch", "numpy", "json"}
    return {name for name in found if name.isidentifier()}


@pytest.fixture
def hostile(tmp_path) -> Path:
    """Submissions: one honest notebook among files that leave a mark when imported."""
    (tmp_path / "in").mkdir()
    (tmp_path / "marks").mkdir()
    for name in names():
        text = MARK.format(f"{tmp_path}/marks/")
        (tmp_path / "in" / f"{name}.py").write_text(text)
    for name in ("torch", "multiprocessing", "gdm_course_startup", "encodings"):
        (tmp_path / "in" / name).mkdir()
        (tmp_path / "in" / name / "__init__.py").write_text(text)
    (tmp_path / "in" / "a.ipynb").write_bytes(SOLVED)
    return tmp_path


SCRIPT = f"import sys\nsys.path[0] = {sys.prefix!r} + '/bin'\n"  # as pip writes bin/gdm
SCRIPT += "from gdm_course.__main__ import main\nmain()\n"
STARTS = {
    "module": ["-m", "gdm_course"],
    "safe": ["-P", "-m", "gdm_course"],
    "cli": ["-m", "gdm_course.cli"],
    "script": ["-c", SCRIPT],
}
ARGUMENTS = ("grade", ".", "--out", "../out", "--jobs", "1")


def start(
    place: Path, *arguments: str, path: str = str(ROOT)
) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=place / "in",
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )


@boxed
@pytest.mark.parametrize("how", STARTS)
def test_a_folder_of_modules_is_graded_and_none_is_imported(hostile, how):
    done = start(hostile, *STARTS[how], *ARGUMENTS)
    assert [*(hostile / "marks").iterdir()] == []
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 different: 1 graded" in done.stdout
    (verdict,) = (p for p in (hostile / "out").glob("*.json") if len(p.stem) == 64)
    assert json.loads(verdict.read_text())["earned"] == 15, verdict.read_text()


@pytest.mark.parametrize("path", [f":{ROOT}", f"{ROOT}:", f"{ROOT}:.", f"../in:{ROOT}"])
def test_a_search_path_with_the_current_folder_in_it_is_refused(tmp_path, path):
    """Python itself looks there before any line of ours: nothing is graded so."""
    (tmp_path / "in").mkdir()
    done = start(tmp_path, "-m", "gdm_course", *ARGUMENTS, path=path)
    assert done.returncode == 1
    assert "take empty and relative entries out of it" in done.stderr
    assert "Traceback" not in done.stderr
    absolute = start(tmp_path, *STARTS["script"], *ARGUMENTS, path=f"{tmp_path}/in:{ROOT}")
    assert "take empty and relative entries out of it" in absolute.stderr
    fine = start(tmp_path, "-m", "gdm_course", *ARGUMENTS)
    assert "has no .ipynb files" in fine.stderr


def test_an_import_of_the_course_leaves_the_search_path_alone(tmp_path):
    """A notebook that imports the package still finds modules beside it."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "mine.py").write_text("x = 1\n")
    done = start(tmp_path, "-c", "import gdm_course, gdm_course.cli, mine; print(mine.x)")
    assert done.stdout == "1\n", done.stderr


# What could run ---------------------------------------------------------------------------

RUNS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal"}
RUNS |= {"shelve", "yaml", "pandas"}
FILES = sorted((PACKAGE / "grading").rglob("*.py"))
# Between a judge and its own workers; no box has an end of these pipes.
OWN_PIPES = dict.fromkeys(("pool.py", "worker.py"), "multiprocessing.connection")


def imported(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or "", *(f"{node.module}.{a.name}" for a in node.names)}
    return found


def called(tree: ast.AST) -> set[str]:
    return {ast.unparse(n.func) for n in ast.walk(tree) if isinstance(n, ast.Call)}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_nothing_of_the_grader_reads_what_could_run(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = imported(tree)
    assert {n.partition(".")[0] for n in names} & RUNS == set()
    assert {n for n in names if n == "multiprocessing.connection"} <= {
        OWN_PIPES.get(path.name)
    }
    reads = {f"{m}.{f}" for m in ("torch", "np", "numpy") for f in ("load", "fromfile")}
    reads |= {"eval", "exec", "__import__", "torch.jit.load", "runpy.run_path"}
    assert called(tree) & reads == set()


def test_the_search_for_what_could_run_finds_it():
    bad = "import pickle as p\nfrom numpy import x\ntorch.load(f)\nexec(text)"
    assert "pickle" in imported(ast.parse(bad))
    assert {"torch.load", "exec"} <= called(ast.parse(bad))


def test_every_interpreter_of_the_judge_starts_without_the_current_folder(tmp_path):
    """One place in the grader starts Python; the workers inherit PYTHONSAFEPATH."""
    texts = {p.name: p.read_text(encoding="utf-8") for p in FILES}
    assert {n for n, text in texts.items() if "sys.executable" in text} == {
        "rungs.py",  # guest_command
        "gradebook.py",  # only the folder it lies in
    }
    command = guest_command("/course", {})
    assert command[0] == sys.executable
    assert {"-P", "-E", "-s"} <= {*command[1 : command.index("-c")]}
    inside = container(Site(tmp_path, tmp_path, 1_900_000_000))
    assert {"-P", "-E", "-s"} <= {*inside[inside.index("python") : inside.index("-c")]}


SPAWNED = """
import multiprocessing, sys
from gdm_course.startup import leave_current_folder
def safe():
    return bool(sys.flags.safe_path)
if __name__ == "__main__":
    sys.argv[1:] = ["grade"]
    leave_current_folder()
    for method in ("spawn", "forkserver"):
        with multiprocessing.get_context(method).Pool(1) as pool:
            assert pool.apply(bool, (1,))
    import subprocess
    code = "import sys; print(sys.flags.safe_path)"
    assert subprocess.check_output([sys.executable, "-c", code]) == b"True\\n"
"""


def test_interpreters_that_a_judge_spawns_import_nothing_from_here(hostile):
    """Not the way workers start today; the default of Python 3.14 and of macOS."""
    (hostile / "start.py").write_text(SPAWNED)
    done = start(hostile, str(hostile / "start.py"))
    assert done.returncode == 0, done.stderr
    assert [*(hostile / "marks").iterdir()] == []
