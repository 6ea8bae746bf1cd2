"""A window of minutes on one device: several recipes at once, and a deadline that holds.

    lane = Lane(recipes, jobs=6, seconds=540, out=Path("out"))
    ended = lane.run()      # by name: "finished", "paused", "failed" or "waiting"

The lane itself computes nothing. Each recipe runs in a process of its own, which knows when
its share of the window is over; one that does not keep to it is killed. Its last saved
state is then what the next window goes on from.
"""

import contextlib
import math
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from gdm_course import checkpoints
from gdm_course.environment import cores
from gdm_course.recipes import Recipe
from gdm_course.scale.job import PAUSED, RUNNING, Job
from gdm_course.source import ROOT

OUTCOMES = {0: "finished", PAUSED: "paused"}  # by how a process ended; else "failed"
OVERLAP = 2.0  # minutes of work that a device does in one, for those who share it
SAVING = 10.0  # seconds for a job to save and end, after it was asked to


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


class Lane:
    """Trains recipes in their order, some at a time, until a deadline.

    Args:
        todo: recipes, the most urgent first.
        jobs: how many at a time.
        seconds: until `run` returns.
        out, runs: folders of finished checkpoints and of unfinished runs.
        accelerator: of Lightning Fabric.
        say: prints a line.
    """

    def __init__(
        self,
        todo: Sequence[Recipe],
        jobs: int,
        seconds: float,
        out: Path,
        runs: Path,
        accelerator: str = "auto",
        say: Callable[[str], Any] = print,
    ):
        self.waiting, self.jobs, self.say = [*todo], jobs, say
        self.out, self.runs, self.accelerator = out.resolve(), runs.resolve(), accelerator
        self.grace = min(SAVING, 1 + 0.02 * seconds)  # from the end of a share to a kill
        self.end = time.monotonic() + seconds - self.grace
        self.ended = {recipe.name: "waiting" for recipe in todo}
        self.children: dict[str, Child] = {}
        self.events: queue.Queue[tuple[str, str | int]] = queue.Queue()

    def run(self) -> dict[str, str]:
        """Train; return how each recipe ended, by name, before the deadline."""
        try:
            with interruptible():
                while self.waiting or self.children:
                    self.fill()
                    if not self.children:
                        break
                    self.listen()
        except KeyboardInterrupt:
            self.say("stopping: every run saves where it is")
            self.close()
        finally:
            for name in [*self.children]:
                self.children[name].kill()
                self.children[name].kill_at = math.inf
                self.leave(name, self.children[name].process.wait())
        return self.ended

    def fill(self) -> None:
        """Start recipes while there are places and time."""
        while self.waiting and len(self.children) < self.jobs:
            left = self.end - time.monotonic()
            if left < self.grace:
                break
            rounds = math.ceil(self.fitting(left / 60) / self.jobs)
            self.start(self.waiting.pop(0), left / rounds)

    def fitting(self, minutes: float) -> int:
        """Return how many of those who wait will get a place in so many minutes.

        Better some models that are done than all of them half done. At least one.
        """
        asked = accumulate(recipe.minutes for recipe in self.waiting)
        return max(1, sum(total <= OVERLAP * minutes for total in asked))

    def start(self, recipe: Recipe, share: float) -> None:
        """Start a process for a recipe, which gets so many seconds."""
        marker = self.runs / recipe.name / RUNNING
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
        end = time.time() + share
        job = Job(recipe, self.runs, self.out, end, self.accelerator)
        process = launch(job, max(1, cores() // self.jobs))
        kill_at = time.monotonic() + share + self.grace
        self.children[recipe.name] = Child(job, process, kill_at)
        self.say(f"{recipe.name}: started as process {process.pid}, for {share:.0f} s")
        follow = threading.Thread(target=self.follow, args=(recipe.name, process))
        follow.daemon = True
        follow.start()

    def follow(self, name: str, process: subprocess.Popen) -> None:
        """Pass on what a process says, and how it ended."""

        def hear() -> None:
            for line in process.stdout:
                self.events.put((name, line.rstrip("\n")))

        hearing = threading.Thread(target=hear, daemon=True)
        hearing.start()
        code = process.wait()
        hearing.join(2)  # not longer: something that it started may keep the pipe open
        self.events.put((name, code))

    def listen(self) -> None:
        """Wait for one thing to happen, but for no process longer than it may take."""
        first = min(self.children.values(), key=lambda child: child.kill_at)
        try:
            left = first.kill_at - time.monotonic()
            name, event = self.events.get(timeout=min(max(0, left), 3600))
        except queue.Empty:
            if left > 0:
                return
            self.say(f"{first.job.recipe.name}: killed, for its time was up")
            first.kill()
            first.kill_at = math.inf  # its end is an event like any other
            return
        if isinstance(event, str):
            self.say(event)
        elif name in self.children:
            self.leave(name, event)

    def leave(self, name: str, code: int) -> None:
        """Note how a process ended."""
        child = self.children.pop(name)
        child.kill()  # what it may have started
        in_time = child.kill_at < math.inf
        self.ended[name] = OUTCOMES.get(code, "failed") if in_time else "paused"
        if not in_time and checkpoints.pending(name, self.out) is None:
            self.ended[name] = "finished"  # all was written
        (self.runs / name / RUNNING).unlink(missing_ok=True)
        if in_time and code < 0:
            self.say(f"✘ {name}: its process was ended by signal {-code}")

    def close(self) -> None:
        """Ask all processes to save and end, and wait for that, but not for long."""
        self.waiting.clear()
        for child in self.children.values():
            child.process.terminate()
            child.kill_at = min(child.kill_at, time.monotonic() + SAVING)
        with contextlib.suppress(KeyboardInterrupt):  # whoever insists
            while self.children:
                self.listen()


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


@contextmanager
def interruptible() -> Iterator[None]:
    """Let a request to end (SIGTERM) stop a block as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
