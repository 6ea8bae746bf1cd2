"""`gdm doctor --sandbox`: try to break out of the box, and say PASS or FAIL per promise."""

import contextlib
import inspect
import json
import os
import secrets
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from gdm_course.checks.ask import Ask
from gdm_course.grading.box import cgroup
from gdm_course.grading.box.box import Box, Died, TooLate
from gdm_course.grading.box.ladder import LADDER
from gdm_course.grading.box.rungs import Rung
from gdm_course.grading.guest.packing import pack_ask
from gdm_course.grading.guest.wire import Malformed
from gdm_course.grading.judge.assignment import Assignment
from gdm_course.grading.judge.boxes import Boxes
from gdm_course.grading.probes import attempts, hoards

TOGETHER = ("host_file", "no_answers", "write_outside", "host_loopback", "odd_sockets")
TOGETHER += ("core_pattern", "first_environment", "trace", "namespaces", "disk", "forks")
TOGETHER += ("sleeper",)
HOARDS = ("memory", "shared_memory", "page_tables", "first_threads")
ALONE = ("kill_others", "flood", *HOARDS)  # these may end their box
# What a rung does not promise: L2 has no sized folders; see the threat model.
NOT_PROMISED = {"L2": {"disk"}, "L0": {*TOGETHER, *ALONE}}


@dataclass(frozen=True)
class Finding:
    """One promise, tried on one rung."""

    promise: str
    held: bool
    note: str = ""


class Host:
    """What the probes are to reach for, and must not: a file, a server, an environment."""

    def __enter__(self) -> "Host":
        self.token = secrets.token_hex(16)
        handle, name = tempfile.mkstemp(prefix="gdm-secret-")
        os.write(handle, self.token.encode())
        os.fchmod(handle, 0o644)
        os.close(handle)
        self.secret = Path(name)
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        os.environ["GDM_PROBE_SECRET"] = self.token
        return self

    def __exit__(self, *exception: object) -> None:
        self.server.close()
        self.secret.unlink(missing_ok=True)
        del os.environ["GDM_PROBE_SECRET"]

    def intact(self) -> bool:
        """Whether the file is as it was, and nobody has knocked at the server."""
        self.server.settimeout(0.01)
        try:
            self.server.accept()
        except TimeoutError:
            return self.secret.read_text() == self.token
        return False

    def sleepers(self) -> list[str]:
        """Processes that the `sleeper` probe left behind."""
        found = []
        for entry in (e for e in os.listdir("/proc") if e.isdigit()):
            with contextlib.suppress(OSError):
                if (
                    f"{self.port}.25".encode()
                    in Path(f"/proc/{entry}/cmdline").read_bytes()
                ):
                    found.append(entry)
        return found


def promise(name: str) -> str:
    """The promise that a probe tries to break, in words."""
    there = attempts if hasattr(attempts, name) else hoards
    return (getattr(there, name).__doc__ or name).split("\n")[0]


def probe(rung: Rung) -> Iterator[Finding]:
    """Try everything on one rung."""
    boxes = boxes_of_nothing(rung)
    try:
        with Host() as host:
            with _loaded(boxes) as box:
                for name in TOGETHER:
                    yield _try(box, name, host)
            yield Finding("Nothing is left running in the background.", not host.sleepers())
            for name in ALONE:
                with _loaded(boxes) as box:
                    yield _try(box, name, host)
            yield Finding("The host's file and server were not touched.", host.intact())
    finally:
        boxes.close()


def boxes_of_nothing(rung: Rung) -> Boxes:
    """Boxes of an assignment without questions."""
    nothing = Assignment("probe", {}, frozenset())
    nothing.__dict__["questions"] = nothing.__dict__["made"] = {}
    nothing.__dict__["withheld"] = frozenset()
    return Boxes(rung, nothing)


def _loaded(boxes: Boxes) -> Box:
    """A box that knows the attempts."""
    box = boxes.make()
    box.ready(60)
    texts = map(inspect.getsource, (attempts, hoards))
    cells = json.dumps([{"source": text, "known": False} for text in texts])
    text = torch.frombuffer(bytearray(cells.encode()), dtype=torch.uint8)
    box.request({"do": "load", "names": [*TOGETHER, *ALONE]}, [text], 60)
    return box


def _try(box: Box, name: str, host: Host) -> Finding:
    spec, arrays = pack_ask(Ask(args=(str(host.secret), host.port)))
    try:
        message = {"do": "ask", "name": name, "ask": spec}
        reply, answer = box.request(message, arrays, 30)
    except Died as end:
        held = name in ALONE  # the box itself may end
        return Finding(promise(name), held, f"box closed: {end}")
    except (TooLate, Malformed) as end:
        return Finding(promise(name), False, str(end))
    if not reply["ok"]:
        return Finding(promise(name), False, f"the probe itself fails: {reply['error']}")
    return Finding(promise(name), bool(len(answer) == 1 and answer[0].item() == 1))


def main() -> int:
    """Probe every rung of this machine; 1 if a promise is broken or there is no rung."""
    broken = tried = 0
    for rung in LADDER:
        if rung.name == "L0":
            continue
        if reason := rung.missing():
            print(f"{rung.name:<4} not tried: {reason}")
            continue
        tried += 1
        print(f"{rung.name:<4} {rung.how}; not covered: {rung.lacks}")
        print(f"     a box's memory is {cgroup.means()}")
        for finding in probe(rung):
            broken += _say(rung, finding)
    print("every promise held" if tried and not broken else f"{broken} promises broken")
    return int(not tried or broken > 0)


def _say(rung: Rung, finding: Finding) -> bool:
    """Print one line; returns whether a promise of this rung was broken."""
    free = {promise(name) for name in NOT_PROMISED.get(rung.name, ())}
    broken = not finding.held and finding.promise not in free
    mark = "PASS" if finding.held else "FAIL" if broken else "none"
    print(f"     {mark} {finding.promise} {finding.note}".rstrip(), flush=True)
    return broken
