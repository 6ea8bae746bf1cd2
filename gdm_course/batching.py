"""What counts as data and as a batch: checked in one place, and refused in words."""

from collections.abc import Iterable, Iterator
from itertools import islice
from numbers import Integral

from torch import Tensor

Batch = Tensor | tuple[Tensor, ...] | list[Tensor]


def arguments(batch: Batch) -> tuple:
    """Return a batch as the arguments of `loss`: a tensor alone, or all of a tuple or list.

    Raises:
        TypeError: it is something else, such as an array or a dictionary.
    """
    if isinstance(batch, tuple | list):
        return tuple(batch)
    if isinstance(batch, Tensor):
        return (batch,)
    raise TypeError(
        f"data of type {type(batch).__name__}: give a tensor (torch.as_tensor makes one), "
        "or a tuple or list with one tensor for every argument of the model"
    )


def columns(x: Batch) -> tuple[Tensor, ...]:
    """Return data as a tuple of tensors, after checking that all have equally many rows.

    Raises:
        TypeError: there is something else than tensors with rows.
        ValueError: the numbers of rows differ.
    """
    parts = arguments(x)
    if not parts or not all(isinstance(t, Tensor) and t.ndim for t in parts):
        kinds = ", ".join(type(t).__name__ for t in parts) or "nothing"
        raise TypeError(f"data of {kinds}: give tensors (N, *D), with one row per example")
    if len({len(t) for t in parts}) > 1:
        rows = " and ".join(str(len(t)) for t in parts)
        raise ValueError(f"tensors of {rows} rows: they belong together row by row")
    return parts


def whole(name: str, value: int, least: int) -> int:
    """Return a whole number, or raise ValueError if it is none or less than `least`."""
    if not isinstance(value, Integral) or value < least:
        raise ValueError(f"{name}={value!r}: expected a whole number of at least {least}")
    return int(value)


def numbered(batches: Iterable[Batch], steps: int) -> Iterator[tuple[int, tuple]]:
    """Number the first `steps` batches from 1, each as the arguments of `loss`.

    Raises:
        TypeError: `batches` is the data itself, or holds something else than batches.
        ValueError: there is no batch at all.
    """
    iterates = hasattr(batches, "__iter__")  # a Dataset only has rows by number
    if isinstance(batches, tuple) or hasattr(batches, "ndim") or not iterates:
        raise TypeError(
            f"`batches` of type {type(batches).__name__}: data itself, or one batch, is no "
            "iterable of batches; give forever(x, B), a DataLoader, or [x] for all at once"
        )
    step = 0
    for step, batch in enumerate(islice(batches, whole("steps", steps, 0)), start=1):
        yield step, arguments(batch)
    if steps and not step:
        raise ValueError("no batch to train on: was the iterator used up before?")
