"""The first thing that `gdm` does: stop looking for modules in the current folder.

Python looks there first. In a folder of submissions, a student's `torch.py` would be part
of the grader.
"""

import sys

GUARDED = {"grade", "doctor"}  # commands that deal with strangers' files
os = sys.modules["os"]  # loaded before any folder of ours was looked at


def leave_current_folder() -> None:
    """Import nothing from the current folder any more, nor from a relative one.

    Raises:
        SystemExit: PYTHONPATH told Python to look there even before this line.
    """
    try:
        here = os.path.realpath(os.getcwd())
    except OSError:  # it has been removed
        here = ""
    sys.path[:] = [e for e in sys.path if os.path.isabs(e) and os.path.realpath(e) != here]
    if GUARDED & {*sys.argv[1:]}:
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
    course = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    entries = [
        os.path.realpath(e) if os.path.isabs(e) else "" for e in path.split(os.pathsep)
    ]
    return "" in entries or (here != course and here in entries)
