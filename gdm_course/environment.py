"""What the environment says: switches, where data sets lie, how many cores are allowed.

A switch such as GDM_SMOKE is on unless it is unset, empty, 0, false, no or off.

GDM_DATA_DIR may begin with `~`; a relative one starts at the course's folder, so that it
means the same from every notebook, or, where the package is installed without its
checkout, at the current folder.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from gdm_course.source import ROOT

OFF = {"", "0", "false", "no", "off"}


def on(*names: str) -> bool:
    """Say whether any of these switches is on."""
    return any(os.environ.get(name, "").strip().lower() not in OFF for name in names)


def given() -> str:
    """Return GDM_DATA_DIR as it was given, empty if it was not."""
    return os.environ.get("GDM_DATA_DIR", "")


def data_folder() -> Path:
    """Return where data sets are kept: GDM_DATA_DIR, else the user's cache.

    Raises:
        FileNotFoundError: there is no such home folder.
    """
    path = Path(os.path.expanduser(given() or "~/.cache/gdm_course"))
    if path.parts[0].startswith("~"):
        raise FileNotFoundError(
            f"{path}: there is no such home folder: set GDM_DATA_DIR to a whole path"
        )
    checkout = (ROOT / "pyproject.toml").is_file()
    return (ROOT if checkout else Path.cwd()) / path


def must_write(folder: Path, instead: str) -> None:
    """Find out whether files can be put into a folder, before any work is done for them.

    Args:
        folder: made if it is not there.
        instead: what to do otherwise, for the message.

    Raises:
        PermissionError: they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise PermissionError(
            f"cannot write to {folder} ({error.strerror}): {instead}"
        ) from None


def cores() -> int:
    """Count the cores that this process may use: its affinity and its container's quota."""
    count = getattr(os, "process_cpu_count", None)  # from Python 3.13 on
    affinity = getattr(os, "sched_getaffinity", None)  # Linux
    if count is not None:
        found = count()
    else:
        found = len(affinity(0)) if affinity else os.cpu_count()
    limit = quota()
    return max(1, min(found or 1, int(limit) if limit else found or 1))


def quota(
    root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> float | None:
    """Return how many cores' time the control groups of this process allow, if limited.

    Args:
        root: where control groups are mounted, version 1 or 2.
        own: names the groups of this process.
    """
    found = []
    for folder in _groups(root, own):
        try:
            if (folder / "cpu.max").is_file():
                share, period = (folder / "cpu.max").read_text(encoding="ascii").split()
            else:
                share = (folder / "cpu.cfs_quota_us").read_text(encoding="ascii")
                period = (folder / "cpu.cfs_period_us").read_text(encoding="ascii")
            found += [int(share) / int(period)] if int(share) > 0 else []
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return min(found, default=None)


def _groups(root: Path, own: Path) -> Iterator[Path]:
    """The folders of this process's groups that can limit its processor time."""
    try:
        rows = [row.split(":", 2) for row in own.read_text(encoding="utf-8").split("\n")]
    except OSError:
        return
    for row in rows:
        if len(row) != 3 or not (row[1] == "" or "cpu" in row[1].split(",")):
            continue
        base = root / "cpu" if row[1] else root
        inner = Path(row[2].strip("/"))
        for folder in (inner, *inner.parents):
            yield base / folder
