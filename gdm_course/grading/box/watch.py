"""What the judge sees of a box from outside, through /proc: who is there, who is left."""

import contextlib
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100  # none on Windows


@dataclass(frozen=True)
class Seen:
    """One process, at one moment.

    Attributes:
        session: its session's number, as the host counts.
        cpu: seconds of processors that it has used, with children that it has collected.
        threads: how many it has.
    """

    pid: int
    parent: int
    state: str
    session: int
    cpu: float
    threads: int


def look(pid: int | str) -> Seen | None:
    """A process or thread, if it is there."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        line = Path(f"/proc/{pid}/stat").read_bytes()
        said = line.rpartition(b")")[2].split()  # names may hold anything
        cpu = sum(map(int, said[11:15])) / TICKS
        numbers = int(said[1]), int(said[3]), int(said[17])
        return Seen(int(pid), numbers[0], said[0].decode(), numbers[1], cpu, numbers[2])
    return None


def relatives(pid: int) -> list[Seen]:
    """A process and all its descendants; nothing if it is gone."""
    children: dict[int, list[Seen]] = {}
    first = None
    for entry in filter(str.isdigit, os.listdir("/proc")):
        if (seen := look(entry)) is not None:
            children.setdefault(seen.parent, []).append(seen)
            first = seen if seen.pid == pid else first
    found = [first] if first else []
    for one in found:
        found += children.get(one.pid, ())
    return found


def family(pid: int) -> list[int]:
    """The numbers of a process and of all its descendants."""
    return [pid, *(seen.pid for seen in relatives(pid)[1:])]


def files(members: list[int]) -> int:
    """How many files a box's sized tmpfs at /tmp holds; 0 where it has none."""
    for member in members[:3]:
        with contextlib.suppress(OSError):
            place = f"/proc/{member}/root/tmp"
            if os.stat(place).st_dev != os.stat("/tmp").st_dev:
                about = os.statvfs(place)
                return about.f_files - about.f_ffree
    return 0


def end(process: subprocess.Popen, uid: int | None) -> None:
    """Kill a box: its whole family, and whoever else runs under its uid."""
    members = family(process.pid)
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    for member in members:
        with contextlib.suppress(OSError):
            os.kill(member, signal.SIGKILL)
    process.wait()
    for _ in range(50):  # a fork may be under way
        left = of_uid(uid) if uid is not None else []
        if not left:
            return
        for member in left:
            with contextlib.suppress(OSError):
                os.kill(member, signal.SIGKILL)


def of_uid(uid: int) -> list[int]:
    """All processes of a user, dead ones that nobody has collected excepted."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError, StopIteration, ValueError):
            lines = Path(f"/proc/{entry}/status").read_bytes().split(b"\n")  # not at \r
            # the folder's owner is root's as soon as a process says that it is secret
            mine = next(line for line in lines if line.startswith(b"Uid:")).split()[1]
            if int(mine) == uid and living(int(entry)) is not None:
                found.append(int(entry))
    return found


def living(pid: int) -> int | None:
    """A thread of a process that runs on: its first one may have ended."""
    with contextlib.suppress(OSError):
        for task in (pid, *sorted(map(int, os.listdir(f"/proc/{pid}/task")))):
            if (seen := look(task)) is not None and seen.state not in "ZX":
                return task
    return None
