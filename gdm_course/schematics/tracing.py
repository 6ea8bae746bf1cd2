"""What a real call went through: the variables of every function that it ran, by name."""

import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import torch
from torch import nn

from gdm_course.chance import own_chance
from gdm_course.learning import evaluating


@dataclass(frozen=True)
class Call:
    """One function that ran: its arguments, its variables at the end, and what it returned.

    `call["z"]` is the variable z, as it was when the function returned.
    """

    name: str
    given: dict[str, Any]
    values: dict[str, Any]
    result: Any

    def __getitem__(self, name: str) -> Any:
        if name not in self.values:
            known = ", ".join(self.values)
            raise KeyError(f"{self.name} has no variable {name}; it has {known}")
        return self.values[name]


@dataclass
class Trace:
    """Every call of a traced one in the order in which they ended, and its own result."""

    calls: list[Call] = field(default_factory=list)
    result: Any = None

    def all(self, of: nn.Module | Callable | str) -> list[Call]:
        """Return the calls of a module, of a method such as `layer.inverse`, or by a name.

        A name is as the lecture writes it, such as "gru_update": a function that a notebook
        defines anew is found, too.

        Raises:
            LookupError: the traced call never ran it.
        """
        method = of.forward if isinstance(of, nn.Module) else of
        name = of if isinstance(of, str) else method.__name__
        found = [c for c in self.calls if f".{c.name}".endswith(f".{name}")]
        if not isinstance(of, str):
            found = [c for c in found if c.given.get("self") is method.__self__]
        if not found:
            what = of if isinstance(of, str) else method.__qualname__
            ran = ", ".join(dict.fromkeys(c.name for c in self.calls))
            raise LookupError(f"the traced call never ran {what}; it ran {ran}")
        return found

    def first(self, of: nn.Module | Callable | str) -> Call:
        """Return the first of `all` calls."""
        return self.all(of)[0]


class Recorder:
    """A profile function: the interpreter tells it of every call and every return."""

    def __init__(self):
        self.calls, self.given = [], {}

    def __call__(self, frame: FrameType, event: str, arg: Any) -> None:
        """Note the arguments when a function begins, all that it knows when it ends."""
        if event == "call" and _worth(frame):
            self.given[frame] = dict(frame.f_locals)
        elif event == "return" and frame in self.given:
            name, given = frame.f_code.co_qualname, self.given.pop(frame)
            self.calls.append(Call(name, given, dict(frame.f_locals), arg))


def _worth(frame: FrameType) -> bool:
    """Whether a function is the course's or a reader's own, or a module's `forward`."""
    code, home = frame.f_code, frame.f_globals.get("__name__", "").partition(".")[0]
    library = "site-packages" in code.co_filename or home in sys.stdlib_module_names
    own = home == "gdm_course" or not (library or code.co_filename.startswith("<frozen"))
    return code.co_name == "forward" or (own and not code.co_name.startswith("<"))


def trace(call: Callable, *inputs: Any) -> Trace:
    """Run `call(*inputs)` and write down everything that it ran.

    Without gradients; a module is in evaluation mode meanwhile. Random numbers of later
    cells are left alone.

    Args:
        call: a module, or any function, such as `model.inverse`.
        inputs: what it is called with; a small batch, for every tensor made is kept.
    """
    module = getattr(call, "__self__", call)
    still = evaluating(module) if isinstance(module, nn.Module) else nullcontext()
    recorder, before = Recorder(), sys.getprofile()
    restore = getattr(
        before, "enable", lambda: sys.setprofile(before)
    )  # cProfile's own way
    with own_chance(), torch.no_grad(), still:
        sys.setprofile(recorder)
        try:
            result = call(*inputs)
        finally:
            sys.setprofile(None)
            restore()
    return Trace(recorder.calls, result)
