"""The process inside the box: runs a stranger's cells, then answers asks. Trusts nobody.

Started as `python -c "...; main()" JSON`, with frames on stdin and stdout. Nothing that
decides a mark is here: no reference, no tolerance, no point.
"""

import json
import os
import struct
import sys
from typing import Any

LENGTH = struct.Struct("<Q")


class Channel:
    """Frames to and from the judge, on descriptors that prints cannot reach."""

    def __init__(self) -> None:
        self.coming, self.going = os.dup(0), os.dup(1)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(2, 1)
        os.close(nothing)

    def _read(self, n: int) -> bytes:
        parts = []
        while n:
            part = os.read(self.coming, min(n, 1 << 20))
            if not part:
                os._exit(0)  # the judge has left
            parts.append(part)
            n -= len(part)
        return b"".join(parts)

    def receive(self) -> tuple[dict, list]:
        """Wait for the judge's next frame."""
        from gdm_course.grading.wire import decode, frame_length

        return decode(self._read(frame_length(self._read(LENGTH.size))))

    def send(self, message: dict, arrays: Any = ()) -> None:
        """Answer; what cannot travel becomes an error that the judge understands."""
        from gdm_course.grading.wire import Malformed, encode

        try:
            data = memoryview(encode(message, arrays))
        except Malformed:
            data = memoryview(encode({"id": message["id"], "ok": False, "error": "wire"}))
        while data:
            data = data[os.write(self.going, data) :]


def seal(how: dict) -> None:
    """Close the box from inside, as the rung of the ladder asks for."""
    from gdm_course.grading import seal as seals

    if "limits" in how:
        seals.limit(**how["limits"])
    if "landlock" in how:
        seals.landlock(**how["landlock"])
    if "seccomp" in how:
        seals.filter_calls(**how["seccomp"])


def make_shell() -> Any:
    """An IPython that keeps no history and prints one line per error."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.cache_size = 0
    shell = InteractiveShell.instance(config=config)
    shell.enable_gui = lambda gui=None: None  # for %matplotlib: there is no screen
    shell.showtraceback = lambda *args, **kwargs: print(repr(sys.exc_info()[1])[:500])
    return shell


def load(shell: Any, message: dict, arrays: list) -> dict:
    """Run the cells. An error in one does not stop the next: the notebook's own rule."""
    from gdm_course.grading.cells import plan

    cells = json.loads(arrays[0].numpy().tobytes())
    failed = 0
    for source in plan(cells, message["names"]):
        result = shell.run_cell(source, store_history=False)
        failed += not result.success
    found = [name for name in message["names"] if name in shell.user_ns]
    return {"ok": True, "found": found, "failed": failed}


def answer(shell: Any, message: dict, arrays: list) -> tuple[dict, Any]:
    """Carry out one ask on the object that the student's cells left under its name."""
    from gdm_course.checks.ask import run
    from gdm_course.grading.packing import unpack_ask

    try:
        student = shell.user_ns[message["name"]]
        return {"ok": True}, run(unpack_ask(message["ask"], arrays), student)
    except BaseException as error:  # SystemExit and KeyboardInterrupt are answers, too
        return {"ok": False, "error": type(error).__name__[:60]}, ()


def serve(channel: Channel, shell: Any) -> None:
    """Answer until the judge hangs up."""
    channel.send({"id": 0, "ok": True})
    while True:
        message, arrays = channel.receive()
        if message["do"] == "load":
            reply, result = load(shell, message, arrays), ()
        else:
            reply, result = answer(shell, message, arrays)
        sys.stdout.flush()
        channel.send({"id": message["id"], **reply}, result)


def prepare() -> Any:
    """What costs time and is the same for every submission: torch, IPython."""
    import torch

    from gdm_course.grading import light

    light.install()

    torch.set_num_threads(1)
    import gdm_course.checks.ask
    import gdm_course.grading.cells
    import gdm_course.grading.packing
    import gdm_course.grading.seal  # noqa: F401

    return make_shell()


def warm_up() -> None:
    """Let torch import what it imports at the first step of an optimizer: a second."""
    import torch

    parameter = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    optimizer.zero_grad()
    parameter.sum().backward()
    optimizer.step()


def main() -> None:
    """Seal and serve; or, as a nursery, do so in a fork for every submission."""
    how = json.loads(sys.argv[1])
    if not how.get("nursery"):
        channel = Channel()
        seal(how)
        serve(channel, prepare())
    import socket

    from gdm_course.grading.nest import serve as fork_for_each

    control = socket.socket(fileno=os.dup(0))
    shell = prepare()
    warm_up()

    def begin() -> None:
        channel = Channel()
        seal(how)
        serve(channel, shell)

    fork_for_each(control, begin)
