"""A run on disk, which is read without running anything.

A state is one safetensors file: tensors under numbers, and everything else (step counts,
generators of chance, the optimiser's settings) as JSON in the file's header.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from gdm_course.scale.whole import write_whole


def save(path: Path, state: dict[str, Any]) -> None:
    """Write the state of a run: tensors, numbers, strings and containers of these.

    Raises:
        TypeError: there is something else in it.
    """
    tensors: dict[str, Tensor] = {}
    outline = json.dumps(_outline(state, tensors))
    data = to_bytes(tensors, {"state": outline})
    write_whole(path, lambda file: file.write(data))


def load(path: Path) -> dict[str, Any] | None:
    """Read the state of a run onto the CPU, running no code; None if there is no file.

    Raises:
        ValueError: the file is none that `save` wrote.
    """
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt", device="cpu") as file:
            outline = json.loads(file.metadata()["state"])
            return _filled(outline, lambda number: file.get_tensor(number).clone())
    except (SafetensorError, LookupError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is no state of a run ({error}): delete it, or start over with "
            "--no-resume"
        ) from None


def _outline(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Write a value as JSON, in which a tensor is the number under which it is kept."""
    if isinstance(value, Tensor):
        number = str(len(tensors))
        tensors[number] = value.detach().cpu().clone().contiguous()
        return {"tensor": number}
    if isinstance(value, dict):
        return {"dict": [[k, _outline(v, tensors)] for k, v in value.items()]}
    if isinstance(value, list | tuple):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_outline(v, tensors) for v in value]}
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(f"a state holds no {type(value).__name__}: {value!r}")


def _filled(outline: Any, tensor: Callable[[str], Tensor]) -> Any:
    """Undo `_outline`."""
    if not isinstance(outline, dict):
        return outline
    ((kind, inside),) = outline.items()
    if kind == "tensor":
        return tensor(inside)
    if kind == "dict":
        return {k: _filled(v, tensor) for k, v in inside}
    made = [_filled(v, tensor) for v in inside]
    return tuple(made) if kind == "tuple" else made
