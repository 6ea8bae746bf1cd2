"""How much memory a box has, counted from outside, where the kernel does not limit it.

Resident pages are not all. Pages of shared memory stay when a process unmaps them; page
tables, mappings and sockets are the kernel's own memory; and a process whose first thread
has ended shows none at all, though its other threads live on.
"""

import contextlib
import mmap
import os
from functools import cache
from pathlib import Path

from gdm_course.grading.box import watch

KIB, MIB, BLOCK = 1024, 1024 * 1024, 512
MAX_MAPPINGS = 200_000  # of a box; a process with torch has 2,000
A_MAPPING = 256  # bytes in the kernel
A_FEW = 64  # sockets, and MiB of the kernel's, that are not worth a closer look
FOLDERS = ("tmp", "dev/shm")


class TooMuch(Exception):
    """A box has more of something than any answer needs; the sentence says what."""


class Gauge:
    """Reads the memory of one box, again and again.

    Args:
        limit: in bytes; above it, the reading is exact.
    """

    def __init__(self, limit: int):
        self.limit = limit
        self.least = _hidden_by_all()  # of this whole machine, since the box is there

    def read(self, members: list[int]) -> int:
        """Bytes in use by these processes.

        Raises:
            TooMuch: more mappings than can be looked at.
        """
        now = _hidden_by_all()
        self.least = min(self.least, now)
        hidden = _mapped(members) if now - self.least > A_FEW * MIB else (0, 0)
        shared, kernel = _in_folders(members) + hidden[0], _sockets(members) + hidden[1]
        for exact in (False, True):
            parts = [_pages(pid, exact) for pid in members]
            own, common = sum(p[0] for p in parts), sum(p[1] for p in parts)
            total = own + max(shared, common) + kernel
            if total <= self.limit:
                break
        return total


def _fields(path: str) -> dict[str, int]:
    """The numbers, in bytes, of a file with lines such as `VmPTE: 40 kB`."""
    found = {}
    with contextlib.suppress(OSError):
        for line in Path(path).read_bytes().decode(errors="replace").split("\n"):
            name, _, value = line.partition(":")
            if value.endswith(" kB"):
                found[name] = int(value.split()[0]) * KIB
    return found


def _pages(pid: int, exact: bool) -> tuple[int, int]:
    """Bytes of a process: its own with its page tables, and those of shared memory.

    `exact`: pages that several processes have in common are divided among them.
    """
    found = _fields(f"/proc/{pid}/status")
    if "VmPTE" not in found and (other := watch.living(pid)) is not None:
        pid, found = other, _fields(f"/proc/{other}/status")
    tables = found.get("VmPTE", 0) + found.get("HugetlbPages", 0)
    names = ("RssAnon", "RssFile", "VmSwap", "RssShmem")
    if exact and "Pss" in (pages := _fields(f"/proc/{pid}/smaps_rollup")):
        found, names = pages, ("Pss_Anon", "Pss_File", "SwapPss", "Pss_Shmem")
        if "Pss_Anon" not in found:  # before Linux 5.4
            names = ("Pss", "SwapPss", "", "")
    *own, shared = (found.get(name, 0) for name in names)
    return sum(own) + tables, shared


def _in_folders(members: list[int]) -> int:
    """What a box's own sized folders hold; they are memory, mapped or not."""
    for member in members[:3]:
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{member}/root/tmp").st_dev != os.stat("/tmp").st_dev:
                about = [os.statvfs(f"/proc/{member}/root/{name}") for name in FOLDERS]
                return sum((a.f_blocks - a.f_bfree) * a.f_frsize for a in about)
    return 0


def _sockets(members: list[int]) -> int:
    """What all sockets of a box's network can keep in their queues, if there are many."""
    for member in members:
        with contextlib.suppress(OSError, ValueError, IndexError):
            network = os.stat(f"/proc/{member}/ns/net").st_ino
            if network == os.stat("/proc/self/ns/net").st_ino:
                return 0
            used = int(Path(f"/proc/{member}/net/sockstat").read_bytes().split()[2])
            each = 2 * int(Path("/proc/sys/net/core/wmem_max").read_bytes())
            return used * each if used > A_FEW else 0
    return 0


# What no process shows --------------------------------------------------------------------


def _hidden_by_all() -> int:
    """Shared memory and the kernel's own small objects, of the whole machine."""
    found = _fields("/proc/meminfo")
    return found.get("Shmem", 0) + found.get("SUnreclaim", 0)


def _mapped(members: list[int]) -> tuple[int, int]:
    """Bytes of anonymous shared memory, given back or not, and of all mappings themselves.

    Such pages stay until every process has let go of all of them.
    """
    sizes: dict[bytes, int] = {}
    seen = 0
    for pid in members:
        pid = watch.living(pid) or pid
        with contextlib.suppress(OSError), open(f"/proc/{pid}/maps", "rb") as file:
            for line in file:
                seen += 1
                addresses, _, _, place, number = line.split(maxsplit=5)[:5]
                if place == device() and number not in (b"0", *sizes):
                    sizes[number] = _allocated(pid, addresses)
                if seen > MAX_MAPPINGS:
                    raise TooMuch(f"more than {MAX_MAPPINGS} mappings of memory")
    return sum(sizes.values()), seen * A_MAPPING


def _allocated(pid: int | str, addresses: bytes) -> int:
    begin, end = (int(part, 16) for part in addresses.split(b"-"))
    return os.stat(f"/proc/{pid}/map_files/{begin:x}-{end:x}").st_blocks * BLOCK


@cache
def device() -> bytes:
    """The device that anonymous shared memory is on; b"" if nobody here may look at it.

    That takes the right to follow /proc/PID/map_files, which root has.
    """
    with contextlib.suppress(OSError), mmap.mmap(-1, mmap.PAGESIZE) as page:
        page[0] = 1
        for line in Path("/proc/self/maps").read_bytes().split(b"\n"):
            if line.endswith(b"/dev/zero (deleted)"):
                addresses, _, _, place, _ = line.split(maxsplit=5)[:5]
                return place if _allocated("self", addresses) else b""
    return b""
