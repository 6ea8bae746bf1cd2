"""A run on disk: written whole or not at all."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch


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
