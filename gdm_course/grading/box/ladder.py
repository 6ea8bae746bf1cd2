"""The ladder itself: every rung, the highest that this machine has, and the floor."""

import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from gdm_course.grading.box import places
from gdm_course.grading.box.container import container, container_missing
from gdm_course.grading.box.rungs import (
    Rung,
    Site,
    as_nobody,
    bubblewrap,
    guest_command,
    landlocked,
    python_paths,
)
from gdm_course.grading.guest.seal import landlock_abi


class NoRung(Exception):
    """This machine has no rung at or above the floor; the sentence says how to get one."""


def free_uid(slot: int = 0) -> int:
    """An id far above those of users, of subordinate ids and of container ranges."""
    return 1_800_000_000 + (os.getpid() << 5) % 100_000_000 + slot % 32


def _not_linux() -> str | None:
    if sys.platform == "linux":
        return None
    return f"needs Linux, this is {sys.platform}: use a container, or WSL 2"


def _lacks(*programs: str) -> str | None:
    absent = [name for name in programs if shutil.which(name) is None]
    return (
        f"'{absent[0]}' is not installed: apt-get install {PACKAGES[absent[0]]}"
        if absent
        else None
    )


PACKAGES = {
    "bwrap": "bubblewrap",
    "setpriv": "util-linux",
    "unshare": "util-linux",
    "runsc": "runsc",
}


def _hidden() -> str | None:
    """Why no box with a /tmp of its own can start this Python and hide us, or None."""
    lost = [path for path in python_paths() if Path(path).is_relative_to("/tmp")]
    if not lost:
        return places.trouble()
    return f"a box has its own /tmp, and this Python lies in {lost[0]}: set it up elsewhere"


def _refused(wrap) -> str | None:
    """Start `true` in a box; the reason why that fails, or None."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        Path(folder, "gdm_course").mkdir()  # as a stage has: it may have to cover a copy
        site = Site(Path(folder), Path(folder), free_uid())
        command = wrap(site, bubblewrap(site)[: -len(guest_command("", {}))])
        try:
            done = subprocess.run(
                [*command, "true"], env={}, capture_output=True, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"bwrap does not start: {error}"
        if done.returncode == 0:
            return None
        said = done.stderr.decode(errors="replace").strip() or "no reason given"
        switch = "kernel.apparmor_restrict_unprivileged_userns=0"
        last = said.rpartition("\n")[2]
        return f"{last}; allow user namespaces: sysctl -w {switch}"


@cache
def _no_l3() -> str | None:
    if reason := _not_linux():
        return reason
    if os.geteuid() != 0:
        return "needs root, who then gives it up; an ordinary user takes L3u"
    programs = ("bwrap", "setpriv", "unshare")
    return _lacks(*programs) or _hidden() or _refused(as_nobody)


@cache
def _no_l3u() -> str | None:
    if sys.platform == "linux" and os.geteuid() == 0:
        return "root would stay root inside (trap 1): root takes L3"
    plain = lambda site, command: command  # noqa: E731
    return _not_linux() or _lacks("bwrap") or _hidden() or _refused(plain)


@cache
def _no_l2() -> str | None:
    if reason := _not_linux():
        return reason
    needed = 1 if os.geteuid() == 0 else 6
    if landlock_abi() < needed:
        return f"Landlock ABI {landlock_abi()}, needed are {needed}: Linux 6.12, or root"
    lacks = _lacks("setpriv", "unshare") if os.geteuid() == 0 else None
    return lacks or places.trouble()


def _l3(site: Site) -> list[str]:
    return as_nobody(site, bubblewrap(site))


def _l0(site: Site) -> list[str]:
    home = f"HOME={site.scratch}"
    return ["env", home, *guest_command(str(site.stage), {})]


def _no_l0() -> str | None:
    windows = "needs Linux or macOS, this is Windows: use a container, or WSL 2"
    return windows if sys.platform == "win32" else None


def _no_l4() -> str | None:
    return _lacks("runsc") or "this course has no command line for runsc yet"


LADDER = (
    Rung("L4", "gVisor", "side channels", _no_l4, _l3),
    Rung("L3", "unused uid, bubblewrap, seccomp", "kernel zero-days", _no_l3, _l3),
    Rung("L3u", "bubblewrap, seccomp", "another uid than yours", _no_l3u, bubblewrap),
    Rung("Lc", "container", "distrust of the daemon", container_missing, container),
    Rung(
        "L2", "Landlock, seccomp", "total disk and memory, stragglers", _no_l2, landlocked
    ),
    Rung("L0", "nothing", "everything", _no_l0, _l0),
)
NAMES = tuple(rung.name for rung in LADDER)


def choose(floor: str = "L3u", unsandboxed: bool = False) -> Rung:
    """The highest rung of this machine.

    Args:
        floor: the lowest rung to accept.
        unsandboxed: accept L0 if there is nothing else; every mark is labelled so.

    Raises:
        NoRung: nothing at or above the floor.
    """
    for rung in LADDER:
        if rung.name == "L0" and not unsandboxed:
            break
        if rung.missing() is None:
            return rung
        if rung.name == floor and not unsandboxed:
            break
    reasons = [f"  {r.name:<4}{r.how}: {r.missing()}" for r in LADDER if r.missing()]
    raise NoRung(
        f"no sandbox at or above {floor} on this machine, so nothing was graded:\n"
        + "\n".join(reasons)
        + "\nInstall one, accept less with --floor L2, or, for notebooks that you would "
        "run yourself, --unsandboxed."
    )
