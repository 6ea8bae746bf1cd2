"""Files that are written whole or not at all. Loads no torch."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

STATE = "state.safetensors"  # of an unfinished run, in the run's own folder


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
