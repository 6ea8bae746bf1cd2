"""The process inside the box: runs a stranger's cells, then answers asks. Trusts nobody.

Started as `python -c "...; main()" JSON`, with frames on stdin and stdout. Nothing that
decides a mark is here: no reference, no tolerance, no point.
"""

import contextlib
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
        from gdm_course.grading.guest.wire import decode, frame_length

        return decode(self._read(frame_length(self._read(LENGTH.size))))

    def send(self, message: dict, arrays: Any = ()) -> None:
        """Answer; what cannot travel becomes an error that the judge understands."""
        from gdm_course.grading.guest.wire import Malformed, encode

        try:
            data = memoryview(encode(message, arrays))
        except Malformed:
            data = memoryview(encode({"id": message["id"], "ok": False, "error": "wire"}))
        while data:
            data = data[os.write(self.going, data) :]


def seal(how: dict) -> None:
    """Close the box from inside, as the rung of the ladder asks for."""
    from gdm_course.grading.guest import seal as seals

    if "limits" in how:
        seals.limit(**how["limits"])
    if "landlock" in how:
        seals.landlock(**how["landlock"])
    if "seccomp" in how:
        seals.filter_calls(**how["seccomp"])


def load(shell: Any, message: dict, arrays: list) -> tuple[dict, dict[str, Any]]:
    """Run the cells, or what one answer alone needs of them; also what they leave."""
    from gdm_course.grading.guest.cells import alone, looked_into, plan
    from gdm_course.grading.guest.running import Run, reply

    cells = looked_into(json.loads(arrays[0].numpy().tobytes()))
    names, one = message["names"], message.get("alone", "")
    run = Run(shell, cells, names)
    run.run(alone(cells, one) if one else plan(cells, names))
    return reply(run), run.left


def answer(left: dict[str, Any], message: dict, arrays: list) -> tuple[dict, Any]:
    """Carry out one ask on the object that the student's cells left under its name."""
    from gdm_course.checks.ask import Unfit, run
    from gdm_course.grading.guest.packing import unpack_ask

    try:
        return {"ok": True}, run(unpack_ask(message["ask"], arrays), left[message["name"]])
    except Unfit as error:
        return {"ok": False, "error": "Unfit", "why": error.why}, ()
    except BaseException as error:  # SystemExit and KeyboardInterrupt are answers, too
        return {"ok": False, "error": type(error).__name__[:60]}, ()


def serve(channel: Channel, shell: Any) -> None:
    """Answer until the judge hangs up."""
    from gdm_course.grading.guest.running import settle

    settle()
    channel.send({"id": 0, "ok": True})
    left: dict[str, Any] = {}
    while True:
        message, arrays = channel.receive()
        if message["do"] == "load":
            (reply, left), result = load(shell, message, arrays), ()
        else:
            reply, result = answer(left, message, arrays)
        sys.stdout.flush()
        channel.send({"id": message["id"], **reply}, result)


def prepare() -> Any:
    """What costs time and is the same for every submission: torch, IPython."""
    import torch

    from gdm_course.grading.guest import light

    light.install()

    torch.set_num_threads(1)
    import gdm_course.checks.ask
    import gdm_course.grading.guest.packing
    import gdm_course.grading.guest.running
    import gdm_course.grading.guest.seal  # noqa: F401
    from gdm_course.grading.guest.shell import make_shell

    return make_shell()


def warm_up() -> None:
    """Import what notebooks need and what takes a second: matplotlib, parts of torch."""
    import torch

    with contextlib.suppress(ImportError):  # withheld, or no matplotlib on this machine
        import gdm_course.plotting  # noqa: F401
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

    from gdm_course.grading.guest.nest import serve as fork_for_each

    control = socket.socket(fileno=os.dup(0))
    shell = prepare()
    warm_up()

    def begin() -> None:
        channel = Channel()
        seal(how)
        serve(channel, shell)

    fork_for_each(control, begin)
