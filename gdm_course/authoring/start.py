"""`gdm start` and `gdm lab`: what a student types."""

import difflib
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from gdm_course.authoring.course import Unit, load
from gdm_course.authoring.cut import ORIGINAL
from gdm_course.authoring.derive import OWN
from gdm_course.authoring.notebook import dumps
from gdm_course.authoring.percent import AuthoringError
from gdm_course.checks.progress import record

BIN = Path(sys.executable).parent  # not resolved: in an environment, Python is a link


def start(root: Path, name: str) -> tuple[Path, bool]:
    """Copy an exercise into `work/`, unless the student's copy is there already.

    The copy does without the line that says which file is the original.

    Args:
        root: the checkout.
        name: a unit such as "flows/realnvp"; "realnvp" will do if it is unique.

    Returns:
        The copy, and whether it is new. An existing file is never touched.

    Raises:
        AuthoringError: there is no such unit, or its exercise has not been made.
    """
    unit = find(load(root).units, name)
    source = root / unit.notebook("exercises")
    if not source.is_file():
        raise AuthoringError(
            f"{unit.notebook('exercises')} is not there yet: run 'gdm sync'"
        )
    copy = root / "work" / unit.family / f"{unit.slug}.ipynb"
    try:
        text = _own(source.read_text(encoding="utf-8"))
        copy.parent.mkdir(parents=True, exist_ok=True)
        with copy.open("x", encoding="utf-8", newline="\n") as file:  # x: never overwrites
            file.write(text)
        record(root, unit.key).unlink(missing_ok=True)  # of a copy that is no more
    except OSError as error:
        if copy.is_file():
            return copy, False
        raise AuthoringError(f"{copy} cannot be made ({error.strerror}): {OWN}") from None
    return copy, True


def _own(text: str) -> str:
    """An exercise as a student gets it."""
    notebook = json.loads(text)
    cells = notebook["cells"]
    kept = [c for c in cells if ORIGINAL not in c["metadata"].get("tags", [])]
    return dumps(notebook | {"cells": kept})


def find(units: dict[str, Unit], name: str) -> Unit:
    """The unit of that name, full or short.

    Raises:
        AuthoringError: there is none, or a short name fits several; names the close ones.
    """
    plain = name.strip("/").removesuffix(".ipynb")
    fitting = [unit for key, unit in units.items() if plain in (key, unit.slug)]
    if len(fitting) == 1:
        return fitting[0]
    slugs = {unit.slug: key for key, unit in units.items()} | {key: key for key in units}
    close = [slugs[match] for match in difflib.get_close_matches(plain, slugs, 5, 0.5)]
    names = [unit.key for unit in fitting] or [*dict.fromkeys(close)] or [*units]
    several = "names several units" if fitting else "is no unit of the course"
    raise AuthoringError(f"'{name}' {several}: did you mean {' or '.join(names)}?")


def lab(root: Path, page: str, port: int | None, browser: bool, args: list[str]) -> int:
    """Become JupyterLab, rooted at the checkout, opened at `page`.

    Its terminals and kernels find the programs of this environment, `gdm` among them.

    Args:
        root: the checkout.
        page: the notebook to open, relative to the checkout.
        port: to listen at; None lets Jupyter choose.
        browser: whether to open one.
        args: passed on to `jupyter lab`.

    Raises:
        AuthoringError: JupyterLab is not installed.
    """
    if find_spec("jupyterlab") is None:
        raise AuthoringError("JupyterLab is not installed here: pip install -e .[lab]")
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={root}"]
    command += [f"--LabApp.default_url=/lab/tree/{page}"]
    command += [f"--ServerApp.port={port}"] if port is not None else []
    command += [] if browser else ["--no-browser"]
    os.environ["PATH"] = os.pathsep.join([str(BIN), os.environ.get("PATH", os.defpath)])
    if os.name == "nt":  # exec would give the console back at once
        return subprocess.call([*command, *args])
    # named, so that it is no login shell: that would forget PATH
    shell = os.environ.get("SHELL") or "/bin/sh"
    command += [f"--ServerApp.terminado_settings=shell_command={shell}"]
    sys.stdout.flush()
    os.execv(sys.executable, [*command, *args])
