"""`gdm grade`, and a signal at a chosen moment, for test_grading_kept.py.

`python -m tests.kill_runs MOMENT SIGNAL WHOM ARGUMENTS...`: the first time that a process
comes to the moment, it sends the signal to the main process, to the whole group, or to
itself, and waits there for what comes of it.
"""

import importlib
import os
import signal
import sys
import time
from pathlib import Path

MOMENTS = {
    "index": ("gdm_course.grading.marks.adding", "keep"),  # the lock is held
    "hiring": (
        "gdm_course.grading.guest.light",
        "install",
    ),  # a worker has just been forked
    "stage": ("gdm_course.grading.judge.stage", "_check"),  # half of it is there
    "box": ("gdm_course.grading.judge.session", "_load"),  # a box waits for its cells
    "ask": ("gdm_course.grading.judge.judge", "ask_box"),
    "verdict": ("gdm_course.grading.judge.verdict", "os.fsync"),
    "report": ("gdm_course.grading.marks.exports", "questions"),  # the lock is held
}


def main() -> None:
    """Grade, with a signal in it."""
    moment, name, whom, *arguments = sys.argv[1:]
    first, pid = Path(os.environ["TMPDIR"]).with_name("first"), os.getpid()
    module, path = MOMENTS[moment]
    *outer, inner = path.split(".")
    place = importlib.import_module(module)
    for part in outer:
        place = getattr(place, part)
    real = getattr(place, inner)

    def wrapped(*args: object, **kwargs: object) -> object:
        try:
            os.close(os.open(first, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return real(*args, **kwargs)
        to = {
            "main": (os.kill, pid),
            "group": (os.killpg, pid),
            "self": (os.kill, os.getpid()),
        }
        send, target = to[whom]
        send(target, signal.Signals[name])
        while moment != "hiring":  # where signals have to wait, too;
            time.sleep(0.1)
        return real(*args, **kwargs)

    setattr(place, inner, wrapped)
    from gdm_course.grading.marks.cli import app

    app(arguments)


if __name__ == "__main__":
    main()
