"""Whatever an answer returns, as tensors that can travel between a box and its judge.

The notebook, a student's copy of the course and the grader's box all use this file, so that
they agree on what an answer is. It holds no answer and imports nothing of the course.
"""

import numbers
from collections.abc import Iterable, Mapping, Set
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

Arrays = tuple[Tensor, ...]

PLAIN = {*(torch.float64, torch.float32, torch.int64, torch.int32, torch.uint8, torch.bool)}
WHOLE = {torch.int8: torch.int32, torch.int16: torch.int32, torch.uint16: torch.int32}
WHOLE |= {torch.uint32: torch.int64, torch.uint64: torch.float64}
MAX_ARRAYS, MAX_DIMENSIONS, MAX_BYTES = 64, 8, 8 * 1024 * 1024  # of a frame
MANY = 16  # no question has as many values: a longer list is one array
ITEMS = 1 << 20

UNFIT = {
    "none": "it returns None: is a return missing?",
    "part": "one of the values that it returns is None",
    "kind": "what it returns is no tensor, no array, no number and no list of these",
    "complex": "it returns complex numbers, expected real ones",
    "ragged": "it returns lists of unequal lengths: make each value a tensor",
    "large": f"what it returns is too large: at most {MAX_ARRAYS} values of "
    f"{MAX_DIMENSIONS} dimensions, {MAX_BYTES >> 20} MiB together",
}


class Unfit(TypeError):
    """A result that is no array; `why` is a key of UNFIT, which says it in a sentence."""

    def __init__(self, why: str):
        super().__init__(UNFIT[why])
        self.why = why


def to_arrays(value: Any) -> Arrays:
    """Turn an answer into tensors: copies on the CPU, of one of six plain types.

    Args:
        value: a tensor, an array, a number; or several: a tuple, a list, an iterator. Each
            of these may be a nested list of numbers, arrays or tensors.

    Raises:
        Unfit: it is none of these, or larger than a frame.
    """
    if value is None:
        raise Unfit("none")
    listed = _listed(value)
    parts = tuple(_tensor(part) for part in ([value] if listed is None else listed))
    if len(parts) > MANY:
        parts = (_stacked(parts),)
    deepest = max((part.ndim for part in parts), default=0)
    if sum(part.nbytes for part in parts) > MAX_BYTES or deepest > MAX_DIMENSIONS:
        raise Unfit("large")
    return parts


def fitted(given: Arrays, shapes: list[tuple[int, ...]]) -> Arrays:
    """The same numbers in the form that is wanted, where only the packing differs.

    A list of numbers is a vector, also of a single one, and a stack of two arrays is a pair
    of them. Shapes are not changed otherwise: (B, 1) is not (B,).

    Args:
        given: an answer.
        shapes: of the values that are wanted.
    """
    forms = [tuple(part.shape) for part in given]
    for rest in range(len(shapes)):  # so many values at the end are as they should be
        head, ends = len(shapes) - rest, len(given) - rest
        if ends < 1 or forms[ends:] != shapes[head:]:
            break
        if (packed := _packed(given[:ends], shapes[:head])) is not None:
            return (*packed, *given[ends:])
    return given


def _packed(given: Arrays, shapes: list[tuple[int, ...]]) -> Arrays | None:
    """One array cut into several, or several stacked to one; None if neither fits."""
    n, inner = len(shapes), {tuple(part.shape) for part in given}
    if n > 1 and len({*shapes}) == 1 and [p.shape for p in given] == [(n, *shapes[0])]:
        return tuple(given[0])
    if n == 1 and len(inner) == 1 and shapes == [(len(given), *inner.pop())]:
        return (_stacked(given),)
    return None


def differentiable(value: Any) -> Any:
    """A result as torch's `jacobian` takes it: a list or iterator of tensors as a tuple.

    Raises:
        Unfit: nothing was returned.
    """
    if value is None:
        raise Unfit("none")
    listed = _listed(value)
    return value if listed is None else tuple(listed)


# One value --------------------------------------------------------------------------------


def _listed(value: Any) -> list | None:
    """The parts of a tuple, list or iterator; None for anything else."""
    if isinstance(value, str | bytes | Mapping | Set) or hasattr(value, "__array__"):
        return None
    if not isinstance(value, Iterable):
        return None
    parts = [*islice(value, ITEMS + 1)]
    if len(parts) > ITEMS:
        raise Unfit("large")
    return parts


def _tensor(value: Any, depth: int = 0) -> Tensor:
    if value is None:
        raise Unfit("part")
    if depth > MAX_DIMENSIONS:
        raise Unfit("large")
    if isinstance(value, Tensor):
        return _plain(value)
    if isinstance(value, numbers.Number) or hasattr(value, "__array__"):
        return _from_numpy(np.asanyarray(_number(value)), depth)
    if (parts := _listed(value)) is None:
        raise Unfit("kind")
    if parts and {*map(type, parts)} <= {int, float, bool}:
        return _from_numpy(np.array(parts), depth)
    return _stacked(tuple(_tensor(part, depth + 1) for part in parts))


def _number(value: Any) -> Any:
    """A number of Python's as numpy knows it: fractions and huge integers as a float."""
    known = isinstance(value, bool | float | complex | np.generic)
    if known or not isinstance(value, numbers.Number) or hasattr(value, "__array__"):
        return value
    if isinstance(value, int) and abs(value) < 1 << 63:
        return value
    try:
        return float(value)
    except OverflowError:
        raise Unfit("large") from None


def _stacked(parts: Arrays) -> Tensor:
    """Parts of equal shape as one tensor, in a type that holds them all."""
    if not parts:
        return torch.zeros(0)
    if len({part.shape for part in parts}) > 1:
        raise Unfit("ragged")
    if len({part.dtype for part in parts}) > 1:
        parts = tuple(part.double() for part in parts)
    return torch.stack(parts)


def _plain(value: Tensor) -> Tensor:
    """A copy without graph, stride, device and exotic type."""
    if value.is_complex():
        raise Unfit("complex")
    if value.is_meta or value.is_nested:
        raise Unfit("kind")
    if value.ndim > MAX_DIMENSIONS or value.numel() > MAX_BYTES:
        raise Unfit("large")
    value = value.detach()
    value = value.dequantize() if value.is_quantized else value
    value = value if value.layout == torch.strided else value.to_dense()
    known = torch.float32 if value.is_floating_point() else torch.int64
    dtype = value.dtype if value.dtype in PLAIN else WHOLE.get(value.dtype, known)
    return value.resolve_neg().to("cpu", dtype, copy=True).contiguous()


def _from_numpy(value: np.ndarray, depth: int) -> Tensor:
    """A copy in the machine's own byte order; masked entries are no values, so NaN."""
    kind, size = value.dtype.kind, value.dtype.itemsize
    if kind == "c":
        raise Unfit("complex")
    if value.ndim > MAX_DIMENSIONS or value.size > MAX_BYTES:
        raise Unfit("large")
    if kind == "O" and value.ndim:  # numbers, or tensors, in an array of objects
        return _stacked(tuple(_tensor(part, depth + 1) for part in value.tolist()))
    if kind not in "biuf":
        raise Unfit("kind")
    dtype = {"b": np.bool_, "i": np.int64, "u": np.int64}.get(kind, np.float64)
    dtype = np.float32 if kind == "f" and size < 8 else dtype
    if np.ma.is_masked(value):
        value = value.astype(np.float64).filled(np.nan)
        dtype = np.float64
    elif kind == "u" and size == 8:
        dtype = np.float64
    return torch.from_numpy(np.array(value, dtype, order="C"))
