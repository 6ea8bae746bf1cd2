"""Run the cells of one submission in the box; keep what they define, note what stopped.

An error in a cell does not stop the next one: the notebook's own rule.
"""

import __future__

import os
import sys
from bdb import BdbQuit
from pathlib import Path
from typing import Any

from gdm_course.grading.guest.cells import Cell, Source, alone, disturbed
from gdm_course.grading.guest.names import steps
from gdm_course.grading.guest.shell import execute
from gdm_course.grading.guest.standin import Absent

SHOWN = 3  # cells named as the reason why an answer is missing


class Run:
    """The cells of a submission, run one after the other.

    Attributes:
        left: the last callable object that was seen under each name; a later cell may
            have deleted it, or used its name for something else.
        stopped: what stopped which cell, by its number.
    """

    def __init__(self, shell: Any, cells: list[Cell], names: list[str]):
        self.shell, self.cells, self.names = shell, cells, names
        self.left: dict[str, Any] = {}
        self.stopped: dict[int, str] = {}
        self.absent: set[str] = set()  # names that imports did not bind

    def run(self, sources: list[Source]) -> None:
        """Run what `plan` or `alone` chose."""
        for number, source in sources:
            sys.path_importer_cache.pop(os.getcwd(), None)  # the cell before wrote modules
            if (error := execute(self.shell, source)) is not None:
                self.stopped.setdefault(number, type(error).__name__[:60])
                if _lacking(error, self.absent):
                    self._without_what_is_missing(source)
            space = self.shell.user_ns
            self.left |= {n: space[n] for n in self.names if callable(space.get(n))}
        space = self.shell.user_ns  # what is no function: asked, it says what is wrong
        self.left = {**{n: space[n] for n in self.names if n in space}, **self.left}

    def _without_what_is_missing(self, source: str) -> None:
        """A module or file that is not here costs what uses it, not the cell around it.

        Statements that define something which is not there yet run one by one;
        annotations, which may name types of that module, are not evaluated.
        """
        for step in steps(source) or ():
            if step.sets <= self.shell.user_ns.keys() and not step.source.endswith("*"):
                continue
            with self.shell.compile.extra_flags(__future__.annotations.compiler_flag):
                if execute(self.shell, step.source) is not None:
                    self.absent |= step.sets


def reply(run: Run) -> dict:
    """What the judge is told; it believes none of it, but for sentences."""
    return {
        "ok": True,
        "found": [name for name in run.names if name in run.left],
        "failed": len(run.stopped),
        "why": {name: _why(run, name) for name in run.names},
        "disturbed": [name for name in run.names if disturbed(run.cells, name)],
    }


def _why(run: Run, name: str) -> dict[str, list]:
    """The cells that stopped, of those that define a name and that it needs."""
    own = [cell.number for cell in run.cells if cell.means(name)]
    used = {number for number, _ in alone(run.cells, name)} - {*own}
    timed = [c.number for c in run.cells for s in c.steps or () if name in s.lost]
    told = {
        "own": [[n, run.stopped[n]] for n in own if n in run.stopped][-SHOWN:],
        "uses": [[n, run.stopped[n]] for n in sorted(used & {*run.stopped})][:SHOWN],
        "timed": [[n, ""] for n in timed][-SHOWN:],
    }
    return {kind: cells for kind, cells in told.items() if cells}


def _lacking(error: BaseException, absent: set[str]) -> bool:
    """Whether the box is to blame: no such module, file or host; nobody at the keyboard."""
    if isinstance(error, NameError):
        return error.name in absent
    return isinstance(error, ImportError | OSError | EOFError | BdbQuit | Absent)


def settle() -> None:
    """Go to a new, empty folder, from which modules can be imported: after all others."""
    folder = Path(os.environ.get("HOME", "/tmp"), "work")
    folder.mkdir(exist_ok=True)
    os.chdir(folder)
    sys.path.append(str(folder))
