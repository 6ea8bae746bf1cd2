"""A window of minutes on one device: several recipes at once, and a deadline that holds.

    lane = Lane(recipes, jobs=6, seconds=540, out=Path("out"), runs=Path("runs"))
    ended = run(lane)       # by name: "finished", "paused", "failed" or "waiting"

The lane itself computes nothing. Each recipe runs in a process of its own, which knows when
its share of the window is over; one that does not keep to it is killed. Its last saved
state is then what the next window goes on from.
"""

import contextlib
import math
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

from gdm_course import checkpoints
from gdm_course.environment import cores
from gdm_course.recipes import Recipe
from gdm_course.scale import child as processes
from gdm_course.scale.child import Child, Events, follow
from gdm_course.scale.job import PAUSED, RUNNING, Job
from gdm_course.scale.whole import STATE

OUTCOMES = {0: "finished", PAUSED: "paused"}  # by how a process ended; else "failed"
OVERLAP = 2.0  # minutes of work that a device does in one, for those who share it
SAVING = 10.0  # seconds for a job to save and end, after it was asked to


@dataclass
class Lane:
    """Recipes that are trained in their order, some at a time, until a deadline.

    Attributes:
        waiting: recipes, the most urgent first.
        jobs: how many at a time.
        seconds: until `run` returns.
        out, runs: folders of finished checkpoints and of unfinished runs.
        accelerator, resume: of Lightning Fabric; whether unfinished runs go on.
        say: prints a line.
        children, events: the processes by name, and what is heard of them.
        ended: how each recipe ended, by name.
        grace, end: seconds from the end of a share to a kill; when all shares are over.
    """

    waiting: list[Recipe]
    jobs: int
    seconds: float
    out: Path
    runs: Path
    accelerator: str = "auto"
    resume: bool = True
    say: Callable[[str], Any] = print
    children: dict[str, Child] = field(default_factory=dict)
    events: Events = field(default_factory=queue.Queue)

    def __post_init__(self):
        self.waiting = [*self.waiting]
        self.out, self.runs = self.out.resolve(), self.runs.resolve()
        self.ended = {recipe.name: "waiting" for recipe in self.waiting}
        self.grace = min(SAVING, 1 + 0.02 * self.seconds)
        self.end = time.monotonic() + self.seconds - self.grace


def run(lane: Lane) -> dict[str, str]:
    """Train; return how each recipe ended, by name, before the deadline."""
    try:
        with interruptible():
            while lane.waiting or lane.children:
                fill(lane)
                if not lane.children:
                    break
                listen(lane)
    except KeyboardInterrupt:
        lane.say("stopping: every run saves where it is")
        close(lane)
    finally:
        for name, child in [*lane.children.items()]:
            child.kill()
            child.kill_at = math.inf
            leave(lane, name, child.process.wait())
    return lane.ended


def fill(lane: Lane) -> None:
    """Start recipes while there are places and time."""
    while lane.waiting and len(lane.children) < lane.jobs:
        left = lane.end - time.monotonic()
        if left < lane.grace:
            break
        rounds = math.ceil(fitting(lane.waiting, left / 60) / lane.jobs)
        start(lane, lane.waiting.pop(0), left / rounds)


def fitting(waiting: list[Recipe], minutes: float) -> int:
    """Return how many of those who wait will get a place in so many minutes.

    Better some models that are done than all of them half done. At least one.
    """
    asked = accumulate(recipe.minutes for recipe in waiting)
    return max(1, sum(total <= OVERLAP * minutes for total in asked))


def start(lane: Lane, recipe: Recipe, share: float) -> None:
    """Start a process for a recipe, which gets so many seconds."""
    marker = lane.runs / recipe.name / RUNNING
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()
    end, how = time.time() + share, (lane.accelerator, lane.resume)
    job = Job(recipe, lane.runs, lane.out, end, *how)
    process = processes.launch(job, max(1, cores() // lane.jobs))
    kill_at = time.monotonic() + share + lane.grace
    lane.children[recipe.name] = Child(job, process, kill_at)
    lane.say(f"{recipe.name}: started as process {process.pid}, for {share:.0f} s")
    follow(recipe.name, process, lane.events)


def listen(lane: Lane) -> None:
    """Wait for one thing to happen, but for no process longer than it may take."""
    first = min(lane.children.values(), key=lambda child: child.kill_at)
    left = first.kill_at - time.monotonic()
    try:
        name, event = lane.events.get(timeout=min(max(0, left), 3600))
    except queue.Empty:
        if left < 3600:
            lane.say(f"{first.job.recipe.name}: killed, for its time was up")
            first.kill()
            first.kill_at = math.inf  # its end is an event like any other
        return
    if isinstance(event, str):
        lane.say(event)
    elif name in lane.children:
        leave(lane, name, event)


def leave(lane: Lane, name: str, code: int) -> None:
    """Note how a process ended."""
    child = lane.children.pop(name)
    child.kill()  # what it may have started
    in_time = child.kill_at < math.inf
    lane.ended[name] = OUTCOMES.get(code, "failed") if in_time else "paused"
    left = (lane.runs / name / STATE).is_file()
    if not (in_time or left or checkpoints.pending(name, lane.out)):
        lane.ended[name] = "finished"  # all was written before
    (lane.runs / name / RUNNING).unlink(missing_ok=True)
    if in_time and code < 0:
        lane.say(f"✘ {name}: its process was ended by signal {-code}")


def close(lane: Lane) -> None:
    """Ask all processes to save and end, and wait for that, but not for long."""
    lane.waiting.clear()
    for child in lane.children.values():
        child.process.terminate()
        child.kill_at = min(child.kill_at, time.monotonic() + SAVING)
    with contextlib.suppress(KeyboardInterrupt):  # whoever insists
        while lane.children:
            listen(lane)


@contextmanager
def interruptible() -> Iterator[None]:
    """Let a request to end, or the end of its terminal, stop a block as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {
        number: signal.signal(number, signal.default_int_handler)
        for number in (getattr(signal, name) for name in names)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
