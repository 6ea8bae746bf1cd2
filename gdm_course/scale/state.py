"""A run on disk: written whole or not at all, with every generator of chance in it."""

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from gdm_course.training import set_seeds


def write_whole(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Write a file so that a kill at any moment leaves the old one or the new one.

    Args:
        path: where to; its folder is made.
        write: puts the content into an open binary file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".unfinished")
    with unfinished.open("wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path)
    if hasattr(os, "O_DIRECTORY"):  # POSIX: the new name itself must reach the disk
        folder = os.open(path.parent, os.O_DIRECTORY)
        os.fsync(folder)
        os.close(folder)


def save(path: Path, state: dict[str, Any]) -> None:
    """Write the state of a run: tensors, numbers, strings and containers of these."""
    write_whole(path, lambda file: torch.save(state, file))


def load(path: Path) -> dict[str, Any] | None:
    """Read the state of a run onto the CPU, running no code; None if there is no file."""
    if not path.is_file():
        return None
    return torch.load(path, map_location="cpu", weights_only=True)


def chance() -> dict[str, Any]:
    """Return the state of Python's, NumPy's and torch's generators as `load` reads it."""
    name, keys, *rest = np.random.get_state()
    numpy = [name, torch.from_numpy(keys.astype(np.int64)), *rest]
    cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
    return {
        "python": random.getstate(),
        "numpy": numpy,
        "torch": torch.get_rng_state(),
        "cuda": cuda,
    }


def set_chance(state: dict[str, Any]) -> None:
    """Put all generators back to where `chance` saw them."""
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


@contextmanager
def own_chance(seed: int) -> Iterator[None]:
    """Run a block under its own seed, leaving all generators as if it had not run."""
    before = chance()
    set_seeds(seed)
    try:
        yield
    finally:
        set_chance(before)
