"""`gdm doctor`: one line per thing the course needs of this machine, each with a remedy."""

import importlib
import platform
import shutil
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

from gdm_course.environment import data_folder, given
from gdm_course.machine import (
    GIB,
    Finding,
    check_cpu,
    check_gpu,
    check_memory,
    check_network,
    check_sandbox,
)
from gdm_course.source import ROOT

WIDGET_PACKAGES = ("jupyterlab", "ipywidgets", "ipykernel", "matplotlib")
MARKS = {"ok": "✔", "note": "·", "fail": "✘"}


def check_python() -> Finding:
    """Python is 3.11, 3.12 or 3.13, and says from where it runs."""
    found = f"{platform.python_version()} at {sys.executable}"
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        return Finding("ok", "python", found)
    return Finding(
        "fail",
        "python",
        found,
        "install Python 3.11, 3.12 or 3.13: 'make lab PYTHON=python3.12'",
    )


def check_torch() -> Finding:
    """Torch imports and is 2.6 or later."""
    remedy = "pip install -c constraints.txt torch"
    try:
        torch = importlib.import_module("torch")
    except Exception as error:  # a broken wheel raises OSError, not ImportError
        return Finding("fail", "torch", f"does not import: {error}", remedy)
    number = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if number < (2, 6):
        return Finding(
            "fail", "torch", f"{torch.__version__}, expected 2.6 or later", remedy
        )
    return Finding("ok", "torch", torch.__version__)


def check_disk() -> Finding:
    """Room for data sets and checkpoints beside the data folder."""
    try:
        folder = data_folder()
    except FileNotFoundError:  # said by check_data
        folder = ROOT
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / GIB
    if free >= 2:
        return Finding("ok", "disk", f"{free:.0f} GiB free at {folder}")
    return Finding(
        "note",
        "disk",
        f"{free:.1f} GiB free at {folder}",
        "free 2 GiB, or set GDM_DATA_DIR to a larger disk",
    )


def check_data() -> Finding:
    """Which data sets are on this machine. The lectures run with none of them."""
    try:
        folder = data_folder()
    except FileNotFoundError as error:
        return Finding("fail", "data", *str(error).rsplit(": ", 1))
    present = (
        sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
    )
    if given() and not folder.is_dir():
        return Finding(
            "fail",
            "data",
            f"GDM_DATA_DIR={folder} is no folder",
            "create it, or unset GDM_DATA_DIR",
        )
    if not present:
        return Finding(
            "note",
            "data",
            f"none in {folder}",
            "'gdm data get mnist'; until then lectures use the bundled digits",
        )
    return Finding("ok", "data", f"{', '.join(present)} in {folder}")


def check_widgets() -> Finding:
    """The packages that draw interactive figures, with their versions."""
    versions, missing = [], []
    for name in WIDGET_PACKAGES:
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        return Finding(
            "note", "widgets", f"missing: {', '.join(missing)}", "pip install -e '.[lab]'"
        )
    return Finding("ok", "widgets", ", ".join(versions))


CHECKS: tuple[Callable[[], Finding], ...] = (
    check_python,
    check_torch,
    check_cpu,
    check_gpu,
    check_memory,
    check_disk,
    check_data,
    check_network,
    check_widgets,
    check_sandbox,
)


def render(finding: Finding) -> str:
    """Lay one finding out as one line of text."""
    line = f"{MARKS[finding.state]} {finding.what:<8} {finding.found}"
    return f"{line}  → {finding.remedy}" if finding.remedy else line


def main() -> int:
    """Print the report; return 1 when something stops the lectures from running, else 0."""
    findings = []
    for check in CHECKS:
        findings.append(check())
        print(render(findings[-1]), flush=True)
    failed = [finding.what for finding in findings if finding.state == "fail"]
    print(
        f"needs attention: {', '.join(failed)}"
        if failed
        else "ready: every lecture can run here"
    )
    return 1 if failed else 0
