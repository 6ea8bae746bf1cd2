"""`make quick`: the tests of what you changed, stopped after two minutes.

Chosen are changed test files, test files that import a changed module, notebooks of units
whose script or quoted module changed, and of the sweeps over all units and models the part
that has a changed unit's name. `make test` runs everything.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest

from gdm_course.authoring.course import load
from gdm_course.grading.judge.decides import imports
from gdm_course.source import ROOT

NOTEBOOKS = ("lectures", "solutions")
SECONDS = 110  # the last test to begin may end later
# Files that sweep over all units, models or modules: only the part that changed.
SWEEPS = ("models", "validate", "checks", "house", "sliders", "shapes", "tails", "frames")
SWEEPS += ("grading_judge", "grading_secrets", "schematics", "slides")


def changed(since: str = "") -> set[str]:
    """Files that differ from a commit; without one: not committed, or the last commit's."""
    if found := _git("diff", "--name-only", since or "HEAD") | _git(
        "ls-files", "--others", "--exclude-standard"
    ):
        return found
    return set() if since else _git("diff", "--name-only", "HEAD~1")


def _git(*arguments: str) -> set[str]:
    done = subprocess.run(
        ["git", *arguments], cwd=ROOT, check=True, text=True, capture_output=True
    )
    return {*done.stdout.split("\n")} - {""}


def modules(paths: Iterable[str]) -> set[str]:
    """The dotted names of the package's files among some paths."""
    inside = [p for p in paths if p.startswith("gdm_course/") and p.endswith(".py")]
    return {
        p.removesuffix(".py").replace("/", ".").removesuffix(".__init__") for p in inside
    }


def units(paths: Iterable[str]) -> list[str]:
    """Units whose scripts, questions or quoted modules are among some paths."""
    paths = {*paths}
    short = {name.removeprefix("gdm_course.") for name in modules(paths)}
    return [key for key in load(ROOT).units if _touched(key, paths, short)]


def _touched(key: str, paths: set[str], short: set[str]) -> bool:
    scripts = [
        f"{kind}/{key.replace('/', '/src/')}.py" for kind in ("lectures", "solutions")
    ]
    lecture = ROOT / scripts[0]
    text = lecture.read_text(encoding="utf-8") if lecture.is_file() else ""
    own = {*scripts, f"gdm_course/{key}.py", f"gdm_course/checks/{key}.py"}
    return bool(own & paths) or any(f"from:{name}." in text for name in short)


@cache
def _imports(path: Path) -> frozenset[str]:
    return imports(path.read_text(encoding="utf-8"))


def chosen(paths: Iterable[str]) -> list[str]:
    """What pytest is to look at, the nearest first."""
    paths = {*paths}
    there = sorted((ROOT / "tests").glob("test_*.py"))
    itself = [p for p in there if p.relative_to(ROOT).as_posix() in paths]
    near = [p for p in there if _imports(p) & modules(paths)]
    sweeps = [ROOT / "tests" / f"test_{name}.py" for name in SWEEPS]
    books = [
        f"{kind}/{key}.ipynb" for key in units(paths) for kind in ("lectures", "solutions")
    ]
    files = [p.relative_to(ROOT).as_posix() for p in [*itself, *near, *sweeps]]
    return [*dict.fromkeys(files), *books]


def words(paths: Iterable[str]) -> set[str]:
    """What the name of a sweep's test has to have in it to be run."""
    paths = {*paths}
    stems = {Path(p).stem for p in paths if p.startswith("gdm_course/")} - {"__init__"}
    return stems | {key.split("/")[1] for key in units(paths)}


def pytest_collection_modifyitems(config, items):
    """Leave out what of a sweep has no changed name in it; changed files run whole."""
    touched, paths = {*_env("WORDS")}, {*_env("PATHS")}
    sweeps = {f"test_{name}.py" for name in SWEEPS}

    def wanted(item) -> bool:
        name = item.path.relative_to(ROOT).as_posix()
        test = item.nodeid.rpartition("::")[2]
        whole = item.path.name not in sweeps or name in paths
        return whole or any(word in test for word in touched)

    config.hook.pytest_deselected(items=[item for item in items if not wanted(item)])
    items[:] = [item for item in items if wanted(item)]


def pytest_runtest_setup(item):
    """Begin nothing when the time is up."""
    if time.time() > float(os.environ.get("GDM_QUICK_END", "inf")):
        pytest.skip("the two minutes are over: make test runs it")


def _env(name: str) -> list[str]:
    return os.environ.get(f"GDM_QUICK_{name}", "").split()


def main(since: str = "") -> int:
    """Prove that nothing derived is stale, then run what was chosen."""
    paths = changed(since)
    if not paths:
        print("nothing changed")
        return 0
    os.environ["GDM_QUICK_END"] = str(time.time() + SECONDS)
    os.environ["GDM_QUICK_WORDS"] = " ".join(sorted(words(paths)))
    os.environ["GDM_QUICK_PATHS"] = " ".join(sorted(paths))
    check = subprocess.run([sys.executable, "-m", "gdm_course", "check"], cwd=ROOT)
    command = [sys.executable, "-m", "pytest", "-n", "2", "-q", "--nbval-lax"]
    command += ["-p", "tests.quick", *chosen(paths)]
    return subprocess.run(command, cwd=ROOT).returncode or check.returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
