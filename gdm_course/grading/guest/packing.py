"""Asks as JSON and arrays, so that they can travel in a frame."""

from typing import Any

import torch
from torch import Tensor

from gdm_course.checks.ask import Ask, Make
from gdm_course.grading.guest.wire import Malformed

PLAIN = (bool, int, str, type(None))


def pack(value: Any, arrays: list[Tensor]) -> Any:
    """Write an argument as JSON; its tensors go to the end of `arrays`.

    Raises:
        Malformed: a value of another kind, such as a function: send a `Make` of it.
    """
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, Tensor):
        arrays.append(value)
        return {"tensor": len(arrays) - 1}
    if isinstance(value, float):
        return {"float": value.hex()}  # exact, and infinities travel too
    if isinstance(value, tuple | list):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [pack(part, arrays) for part in value]}
    if isinstance(value, dict):
        return {"dict": [[key, pack(part, arrays)] for key, part in value.items()]}
    if isinstance(value, Make):
        return {"make": value.path, "args": pack(value.args, arrays)}
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    raise Malformed(
        f"a {type(value).__name__} cannot travel to the box: let the question send "
        "tensors, numbers, or Make('gdm_course.module.function', args)"
    )


def unpack(spec: Any, arrays: list[Tensor]) -> Any:
    """Read an argument back: the inverse of `pack`."""
    if isinstance(spec, PLAIN):
        return spec
    ((kind, value), *_) = spec.items()
    if kind in ("tuple", "list"):
        return {"tuple": tuple, "list": list}[kind](unpack(part, arrays) for part in value)
    if kind == "make":
        return Make(value, unpack(spec["args"], arrays))
    read = {
        "tensor": lambda: arrays[value],
        "float": lambda: float.fromhex(value),
        "dict": lambda: {key: unpack(part, arrays) for key, part in value},
        "dtype": lambda: getattr(torch, value),
    }
    return read[kind]()


def pack_ask(ask: Ask) -> tuple[dict, list[Tensor]]:
    """An ask as JSON and arrays."""
    arrays: list[Tensor] = []
    return {name: pack(value, arrays) for name, value in vars(ask).items()}, arrays


def unpack_ask(spec: dict, arrays: list[Tensor]) -> Ask:
    """The ask that `pack_ask` wrote."""
    return Ask(**{name: unpack(value, arrays) for name, value in spec.items()})
