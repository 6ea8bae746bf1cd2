"""A process that trains one recipe of a window: started, listened to, ended."""

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass

from gdm_course.scale.job import Job
from gdm_course.source import ROOT

Events = queue.Queue[tuple[str, str | int]]  # a name with a line, or with an exit code


@dataclass
class Child:
    """A process that trains a recipe, and when to kill it; never, once that is done."""

    job: Job
    process: subprocess.Popen
    kill_at: float

    def kill(self) -> None:
        """End the process and whatever it started; nothing happens if it has ended."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(self.process.pid, signal.SIGKILL)
            else:
                self.process.kill()


def launch(job: Job, threads: int) -> subprocess.Popen:
    """Start the process of a job, which may use so many threads of the processor."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {"OMP_NUM_THREADS": str(threads)} | os.environ | {"PYTHONPATH": path}
    process = subprocess.Popen(
        [sys.executable, "-m", "gdm_course.scale.job"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=environment | {"PYTHONIOENCODING": "utf-8"},
        start_new_session=True,  # Ctrl-C is for the lane, which tells the others
    )
    with contextlib.suppress(BrokenPipeError):  # it ended already, which will be noticed
        process.stdin.buffer.write(pickle.dumps(job))
        process.stdin.close()
    return process


def follow(name: str, process: subprocess.Popen, events: Events) -> None:
    """Pass on what a process says, and how it ended; returns at once."""

    def hear() -> None:
        for line in process.stdout:
            events.put((name, line.rstrip("\n")))

    def wait() -> None:
        code = process.wait()
        hearing.join(2)  # not longer: something that it started may keep the pipe open
        events.put((name, code))

    hearing = threading.Thread(target=hear, daemon=True)
    hearing.start()
    threading.Thread(target=wait, daemon=True).start()
