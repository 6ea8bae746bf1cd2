"""Two ways to start a box: cold, a new process; warm, a fork of one that has torch."""

import array
import contextlib
import itertools
import os
import select
import signal
import socket
import subprocess
import time
from pathlib import Path

from gdm_course.grading.box import held, watch
from gdm_course.grading.box.ladder import free_uid
from gdm_course.grading.box.rungs import Rung, Site, nest

Streams = tuple[int, int, int]  # to the guest, from it, its errors
# Each box has a uid of its own: dead processes of the last one, until they are collected,
# count as its processes.
slots = itertools.cycle(range(1, 31))


class Started:
    """A box that runs, as the host sees it."""

    streams: Streams

    def seen(self) -> list[watch.Seen]:
        """All its processes."""
        raise NotImplementedError

    def of(self, seen: list[watch.Seen]) -> list[watch.Seen]:
        """Those of them that may run a stranger's line."""
        return seen

    def members(self) -> list[int]:
        """Their numbers."""
        return [one.pid for one in self.of(self.seen())]

    def end(self) -> None:
        """Kill whatever is left, and remove what it wrote."""
        raise NotImplementedError


class Cold(Started):
    """A box that is a process of its own, started on any rung."""

    def __init__(self, rung: Rung, stage: Path):
        self.uid = free_uid(next(slots))
        self.scratch = held.make(held.SCRATCH)
        if os.geteuid() == 0:
            os.chown(self.scratch, self.uid, self.uid)
        path = {"PATH": os.environ.get("PATH", "/usr/bin:/bin")}
        self.process = subprocess.Popen(
            rung.command(Site(stage, self.scratch, self.uid)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=path,
            cwd="/",
            start_new_session=True,
        )
        streams = (self.process.stdin, self.process.stdout, self.process.stderr)
        self.streams = tuple(os.dup(s.fileno()) for s in streams)
        for stream in streams:
            stream.close()

    def seen(self) -> list[watch.Seen]:
        """All its processes."""
        return watch.relatives(self.process.pid)

    def end(self) -> None:
        """Kill whatever is left, and remove the scratch folder."""
        watch.end(self.process, self.uid if os.geteuid() == 0 else None)
        held.drop(self.scratch)


class Nursery:
    """An outer box in which torch is loaded, and from which inner boxes are forked.

    Raises:
        OSError: it does not get ready in time, or this machine cannot nest boxes.
    """

    def __init__(self, rung: Rung, stage: Path, slot: int = 0, seconds: float = 60.0):
        here, there = socket.socketpair()
        self.control = here
        self.process = subprocess.Popen(
            nest(rung, Site(stage, stage, free_uid(slot))),
            stdin=there,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.environ.get("PATH", "/usr/bin:/bin")},
            cwd="/",
            start_new_session=True,
        )
        there.close()
        here.settimeout(seconds)
        if here.recv(5) != b"ready":
            self.close()
            raise OSError("the nursery does not start")
        self.root = watch.family(self.process.pid)[-1]

    def spawn(self) -> "Warm":
        """A new inner box."""
        return Warm(self)

    def close(self) -> None:
        """End it with all its boxes."""
        self.control.close()
        watch.end(self.process, None)


class Warm(Started):
    """An inner box, forked from a nursery."""

    def __init__(self, nursery: Nursery):
        self.nursery = nursery
        (stdin, to), (out, stdout), (err, stderr) = os.pipe(), os.pipe(), os.pipe()
        self.streams = (to, out, err)
        rights = array.array("i", [stdin, stdout, stderr])
        try:
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
            nursery.control.sendmsg([b"x"], ancillary)
        except OSError:
            for stream in self.streams:
                os.close(stream)
            raise
        finally:
            for stream in rights:
                os.close(stream)

    def seen(self) -> list[watch.Seen]:
        """The first process of the box, which collects orphans, and all others."""
        return watch.relatives(self.nursery.root)[2:]

    def of(self, seen: list[watch.Seen]) -> list[watch.Seen]:
        """The guest and what it started: the first process runs nothing of a student's."""
        return seen[1:]

    def end(self) -> None:
        """Kill the inner box; its namespaces take everything with them."""
        end = time.monotonic() + 10
        while time.monotonic() < end:
            left = watch.family(self.nursery.root)[1:]
            if not left:
                return
            for member in left:
                with contextlib.suppress(OSError):
                    os.kill(member, signal.SIGKILL)
            select.select([], [], [], 0.002)
        self.nursery.close()
