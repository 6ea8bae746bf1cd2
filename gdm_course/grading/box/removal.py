"""Removing a folder that a stranger could write: any depth, any mode, no link followed."""

import contextlib
import os
import secrets
from pathlib import Path

FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
MANY = 1_000_000  # entries; whoever still makes new ones does not keep the judge


def remove(folder: Path) -> None:
    """Remove a folder with all that is in it, as far as this user can.

    Folders in folders are moved up before they are emptied, so that no path gets long and
    nothing recurs; what is not removed stays, without an error.
    """
    with contextlib.suppress(OSError):
        _open_up(str(folder), None)
        top = os.open(folder, FOLDER)
        try:
            left = MANY
            while left and (done := _once(top, left)):
                left -= min(done, left)
        finally:
            os.close(top)
        os.rmdir(folder)


def _once(top: int, most: int) -> int:
    """Go through what lies at the top once; returns how much was removed or moved."""
    done = 0
    for name, is_folder in _listed(top)[:most]:
        with contextlib.suppress(OSError):
            if is_folder:
                _open_up(name, top)
                done += _emptied(name, top)
                os.rmdir(name, dir_fd=top)
            else:
                os.unlink(name, dir_fd=top)
            done += 1
    return done


def _emptied(name: str, top: int) -> int:
    """Remove the files of one folder, and move its folders to the top."""
    done, place = 0, os.open(name, FOLDER, dir_fd=top)
    try:
        for inner, is_folder in _listed(place):
            with contextlib.suppress(OSError):
                if is_folder:
                    _open_up(inner, place)
                    new = secrets.token_hex(16)
                    os.rename(inner, new, src_dir_fd=place, dst_dir_fd=top)
                else:
                    os.unlink(inner, dir_fd=place)
                done += 1
    finally:
        os.close(place)
    return done


def _listed(place: int) -> list[tuple[str, bool]]:
    with os.scandir(place) as entries:
        return [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]


def _open_up(name: str, place: int | None) -> None:
    """Let the owner read, write and enter this very folder, whatever its name is now."""
    if not hasattr(os, "O_PATH"):
        return
    handle = os.open(name, os.O_PATH | FOLDER, dir_fd=place)
    try:
        os.chmod(f"/proc/self/fd/{handle}", 0o700)
    finally:
        os.close(handle)
