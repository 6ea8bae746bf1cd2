"""The kernel's own limits for a box: a group of cgroup v2, where we may make one.

It knows every page that a box uses, also those that no process shows, and shares the
processor among boxes, however many processes one of them has.
"""

import contextlib
import itertools
import os
import subprocess
import time
from functools import cache
from pathlib import Path

from gdm_course.source import lines

NEEDED, WANTED = {"memory", "pids"}, {"memory", "pids", "cpu"}
numbers = itertools.count()


class Group:
    """A group for one box. OSError: none can be made here."""

    def __init__(self, parent: Path, memory: int, processes: int):
        self.path = parent / f"gdm-{os.getpid()}-{next(numbers)}"
        self.path.mkdir()
        try:
            self._set("memory.max", memory)
            self._set("pids.max", processes)
            with contextlib.suppress(OSError):  # an old kernel; no swap
                self._set("memory.oom.group", 1)
                self._set("memory.swap.max", 0)
        except OSError:
            self.close()
            raise

    def _set(self, name: str, value: int) -> None:
        (self.path / name).write_text(str(value))

    def take(self, pids: list[int]) -> None:
        """From now on these processes, and all that they start, are in the group."""
        for pid in pids:
            self._set("cgroup.procs", pid)

    def kill(self) -> None:
        """Kill all that is in it."""
        with contextlib.suppress(OSError):
            self._set("cgroup.kill", 1)  # since Linux 5.14

    def close(self, patience: float = 5.0) -> None:
        """Remove the group, once what was in it is gone."""
        end = time.monotonic() + patience
        while self.path.exists() and time.monotonic() < end:
            with contextlib.suppress(OSError):
                self.path.rmdir()
                return
            time.sleep(0.002)


def memory(group: Group) -> int:
    """Bytes in use."""
    return int((group.path / "memory.current").read_text())


def cpu(group: Group) -> float:
    """Seconds of processors used by all that was ever in it."""
    return _counts(group, "cpu.stat")["usage_usec"] / 1e6


def overflowed(group: Group) -> bool:
    """Whether the kernel has ended a process for want of memory."""
    return _counts(group, "memory.events")["oom_kill"] > 0


def weighs(group: Group) -> bool:
    """Whether the processor is shared among groups, not among processes."""
    return (group.path / "cpu.weight").exists()


def _counts(group: Group, name: str) -> dict[str, int]:
    rows = lines((group.path / name).read_text())
    return {key: int(value) for key, value in map(str.split, rows)}


def group(pids: list[int], memory: int, processes: int) -> Group | None:
    """A group with these processes in it, or None where there can be none."""
    if (parent := home()[0]) is None:
        return None
    try:
        made = Group(parent, memory, processes)
    except OSError:
        return None
    try:
        made.take(pids)
    except OSError:
        made.close()
        return None
    return made


@cache
def home() -> tuple[Path | None, str]:
    """Where groups can be made; or None, and why not. Found out by making one."""
    try:
        own, top = _own()
    except (OSError, ValueError, StopIteration):
        return None, "cgroup v2 is not mounted"
    why = "no group above this process may be written to"
    for place in (own, *own.parents):
        if not place.is_relative_to(top):
            break
        try:
            if not {*(place / "cgroup.controllers").read_text().split()} >= NEEDED:
                why = "its controllers of memory and processes belong to cgroup v1"
                continue
            if place == own:
                _enable(place)
            _try(place)
        except (OSError, KeyError):
            continue
        _sweep(place)
        return place, ""
    return None, why


def _own() -> tuple[Path, Path]:
    """This process's group as a folder, and the highest that can be seen."""
    rows = lines(Path("/proc/self/mountinfo").read_text())
    mount = next(line for line in rows if " - cgroup2 " in line).split()
    top = Path(mount[4])
    own = next(
        line[3:]
        for line in lines(Path("/proc/self/cgroup").read_text())
        if line.startswith("0::/")
    )
    below = os.path.relpath(own, mount[3])
    if below.startswith(".."):
        raise ValueError(own)
    return top / below, top


def _enable(place: Path) -> None:
    """Let groups in this one have the controllers; refused if it holds processes."""
    control = place / "cgroup.subtree_control"
    there = {*control.read_text().split()}
    able = {*(place / "cgroup.controllers").read_text().split()}
    for name in sorted((WANTED & able) - there):
        with contextlib.suppress(OSError):
            control.write_text(f"+{name}")


def _try(place: Path) -> None:
    """Make a group, move a process into it, and look whether it is there.

    Raises:
        OSError: that is not allowed, or the group has no limits.
    """
    made = Group(place, 64 << 20, 8)
    child = subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL)
    try:
        made.take([child.pid])
        memory(made), cpu(made), overflowed(made)
        if str(child.pid) not in (made.path / "cgroup.procs").read_text().split():
            raise OSError("the process is not there")
    finally:
        child.kill()
        child.wait()
        made.close()


def _sweep(place: Path) -> None:
    """Remove groups of judges that were killed."""
    for left in place.glob("gdm-*-*"):
        pid = left.name.split("-")[1]
        if not os.path.exists(f"/proc/{pid}"):
            with contextlib.suppress(OSError):
                left.rmdir()


def means() -> str:
    """In words: by what the memory and processor of boxes are limited here."""
    place, why = home()
    if place is None:
        return f"counted ten times a second (no cgroup v2: {why})"
    shares = "cpu" in (place / "cgroup.subtree_control").read_text().split()
    among = "boxes" if shares else "processes, whose priority the judge lowers"
    return f"limited by the kernel (cgroup v2 at {place}; processor shared among {among})"
