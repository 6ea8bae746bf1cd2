"""The first thing that `gdm` does: stop looking for modules in the current folder.

Python looks there first. In a folder of submissions, a student's `torch.py` would be part
of the grader.
"""

import sys

GUARDED = {"grade", "doctor"}  # commands that deal with strangers' files
os = sys.modules["os"]  # loaded before any folder of ours was looked at
COURSE = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))


def leave_current_folder() -> None:
    """Import nothing from the current folder any more, nor from a relative one.

    Where that is the course's own folder it is looked at last, so that processes which
    this one spawns take the same course; not by a command that deals with strangers' files.

    Raises:
        SystemExit: PYTHONPATH told Python to look there even before this line.
    """
    try:
        here = os.path.realpath(os.getcwd())
    except OSError:  # it has been removed
        here = ""
    away = [e for e in sys.path if os.path.isabs(e) and os.path.realpath(e) != here]
    guarded = bool(GUARDED & {*sys.argv[1:]})
    sys.path[:] = away + [here] * (here == COURSE and not guarded)
    if guarded:
        if _misled(os.environ.get("PYTHONPATH", ""), here):
            sys.exit(
                "✘ PYTHONPATH names the current folder, where anybody's file may be taken "
                "for a module: take empty and relative entries out of it"
            )
        os.environ["PYTHONSAFEPATH"] = "1"  # the same for every Python started from here


def _misled(path: str, here: str) -> bool:
    """Whether this PYTHONPATH leads to the current folder, unless that is the course."""
    if not path or sys.flags.ignore_environment:
        return False
    entries = [
        os.path.realpath(e) if os.path.isabs(e) else "" for e in path.split(os.pathsep)
    ]
    return "" in entries or (here != COURSE and here in entries)
