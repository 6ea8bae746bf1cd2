"""What the judge sees of a box from outside, through /proc: memory, files, who is left."""

import contextlib
import os
import signal
import subprocess
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                line = Path(f"/proc/{entry}/stat").read_bytes()
                parent = int(line.rpartition(b")")[2].split()[1])  # names may hold spaces
                children.setdefault(parent, []).append(int(entry))
    found = [pid]
    for one in found:
        found += children.get(one, ())
    return found


def memory(members: list[int], limit: int) -> int:
    """Resident bytes of a box; exact (shared pages once) as soon as that could matter."""
    total = sum(map(_resident, members))
    return total if total <= limit else sum(map(_proportional, members))


def _resident(pid: int) -> int:
    with contextlib.suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * PAGE
    return 0


def _proportional(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_bytes().split(b"\n"):
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        return _resident(pid)
    return 0


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
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{entry}").st_uid == uid and not _zombie(entry):
                    found.append(int(entry))
    return found


def _zombie(pid: str) -> bool:
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"Z"
    return True
