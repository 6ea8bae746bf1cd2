"""`gdm start` and `gdm lab`: what a student types."""

import difflib
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from gdm_course.authoring.course import Unit, load
from gdm_course.authoring.derive import OWN
from gdm_course.authoring.percent import AuthoringError


def start(root: Path, name: str) -> tuple[Path, bool]:
    """Copy an exercise into `work/`, unless the student's copy is there already.

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
        copy.parent.mkdir(parents=True, exist_ok=True)
        with copy.open("xb") as file:  # x: fails if it exists, so nothing is overwritten
            file.write(source.read_bytes())
    except OSError as error:
        if copy.is_file():
            return copy, False
        raise AuthoringError(f"{copy} cannot be made ({error.strerror}): {OWN}") from None
    return copy, True


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
    if os.name == "nt":  # exec would give the console back at once
        return subprocess.call([*command, *args])
    sys.stdout.flush()
    os.execv(sys.executable, [*command, *args])
