"""Which questions of a student's copy were right when they were last checked.

The record is a small hidden file beside the copy, `work/flows/.realnvp.json`. It is written
only for a notebook that runs in `work/`, as `gdm start` made it; where it cannot be written
or read it is as if nothing had been checked.
"""

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gdm_course.source import ROOT

WORK = "work"
CHECKS = "gdm_course.checks."


def record(root: Path, key: str) -> Path:
    """Where the verdicts on a unit such as "flows/realnvp" are kept."""
    family, slug = key.split("/")
    return root / WORK / family / f".{slug}.json"


def green(root: Path, key: str) -> set[str]:
    """The questions of a unit that were right when last checked."""
    return {name for name, right in _read(record(root, key)).items() if right is True}


def noted(question: Any, verdict: Any, root: Path = ROOT) -> Any:
    """Remember a verdict if the student's copy runs here, and hand it on whatever happens.

    Args:
        question: the `Question`, found again in the check file that has it.
        verdict: what the check said.
        root: the checkout.
    """
    for key in _units(question):
        path = record(root, key)
        try:
            copy = path.with_name(f"{key.split('/')[1]}.ipynb")
            if Path.cwd() == path.parent.resolve() and copy.is_file():
                _write(path, _read(path) | {question.name: verdict.right})
        except OSError:  # a deleted folder, a full disk, no right to write
            continue
    return verdict


def _units(question: Any) -> Iterator[str]:
    """The units whose check file has this question."""
    for name, module in [*sys.modules.items()]:
        key = name.removeprefix(CHECKS).replace(".", "/")
        ours = name.startswith(CHECKS) and key.count("/") == 1
        if ours and any(value is question for value in vars(module).values()):
            yield key


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(path: Path, verdicts: dict[str, Any]) -> None:
    """Write a record whole or not at all."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(verdicts, file)
        os.replace(name, path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
