"""How a box is started on each rung of the isolation ladder: the command lines."""

import json
import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gdm_course.grading.box import cgroup, memory, places
from gdm_course.grading.box.places import python_paths

START = (
    "import sys; sys.path.insert(0, {!r}); "
    "import gdm_course.grading.guest.guest as g; g.main()"
)
TMP_MIB, SHM_MIB = 128, 64
LIMITS = {"data_mib": 2500, "file_mib": 128, "processes": 64, "cpu_seconds": 600}
ENVIRONMENT = {
    **{"HOME": "/tmp", "USER": "student", "LANG": "C.UTF-8", "IPYTHONDIR": "/tmp/ipython"},
    **{"MPLBACKEND": "agg", "MPLCONFIGDIR": "/tmp/mpl", "OMP_NUM_THREADS": "1"},
    **{"GDM_SMOKE": "1", "GDM_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"},
    "PATH": f"{sys.prefix}/bin:/usr/local/bin:/usr/bin:/bin",
}


@dataclass(frozen=True)
class Site:
    """Where a box's folders are on the host.

    Attributes:
        stage: the package without answers, read-only.
        scratch: an empty folder of this box alone; used where nothing can be mounted.
        uid: an id that nobody has; used by root.
    """

    stage: Path
    scratch: Path
    uid: int


@dataclass(frozen=True)
class Rung:
    """One rung: how to start a box on it, and what it lacks."""

    name: str
    how: str
    lacks: str
    missing: Callable[[], str | None]
    command: Callable[[Site], list[str]]


def uncounted() -> dict[str, bool]:
    """What a box may do although no process shows it: if the kernel or the judge counts."""
    limited = cgroup.home()[0] is not None
    return {"shared_memory": limited or memory.device() != b"", "record_locks": limited}


def guest_command(course: str, how: dict) -> list[str]:
    """The guest's command line. `course`: where the package is, as the box sees it."""
    flags = ["-E", "-s", "-P", "-B"]
    return [sys.executable, *flags, "-c", START.format(course), json.dumps(how)]


# L3 and L3u: bubblewrap -------------------------------------------------------------------


def bubblewrap(site: Site, nested: bool = False) -> list[str]:
    """A box made by bubblewrap: namespaces, sized tmpfs, nothing else writable.

    `nested`: boxes will be forked inside of it, each in namespaces of its own.
    """
    command = ["bwrap", "--unshare-all", "--unshare-user"]
    command += [] if nested else ["--disable-userns"]
    command += ["--die-with-parent", "--new-session", "--clearenv", "--hostname", "box"]
    command += ["--uid", "1000", "--gid", "1000"]
    for path in places.SYSTEM:
        if os.path.islink(path):
            command += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            command += ["--ro-bind", path, path]
    for path in (*places.ETC, *python_paths()):
        command += ["--ro-bind-try", path, path]
    command += _hide(site.stage)
    command += ["--proc", "/proc", "--dev", "/dev"]
    if not (may := uncounted())["shared_memory"]:  # a mapping of /dev/zero is shared memory
        command += ["--ro-bind", "/dev/null", "/dev/zero"]
    command += ["--size", str(SHM_MIB << 20), "--tmpfs", "/dev/shm"]
    command += ["--size", str(TMP_MIB << 20), "--tmpfs", "/tmp"]
    command += ["--ro-bind", str(site.stage), "/course"]
    command += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/tmp"]
    for name, value in ENVIRONMENT.items():
        command += ["--setenv", name, value]
    how = {"limits": LIMITS, "seccomp": may, "nursery": nested}
    return [*command, "--", *guest_command("/course", how)]


def _hide(stage: Path) -> list[str]:
    """Hide the course where a box would see it: an empty folder, or the stage's package."""
    options = []
    for cover in places.covers():
        if cover.copy:
            options += ["--ro-bind", str(stage / "gdm_course"), str(cover.place)]
            continue
        options += ["--tmpfs", str(cover.place)]
        for kept in map(str, cover.keep):
            options += ["--ro-bind", kept, kept]
        options += ["--remount-ro", str(cover.place)]
    return options


def nest(rung: "Rung", site: Site) -> list[str]:
    """The command of a nursery on rung L3 or L3u."""
    command = bubblewrap(site, nested=True)
    return as_nobody(site, command) if rung.name == "L3" else command


def as_nobody(site: Site, command: list[str]) -> list[str]:
    """Give up root for an unused uid; first, privately, uncover an unreachable Python."""
    drop = ["setpriv", f"--reuid={site.uid}", f"--regid={site.uid}", "--clear-groups"]
    drop += ["--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"]
    lines = _uncover([p for p in python_paths() if _covered(p)], site.stage / ".holds")
    if not lines:
        return [*drop, *command]
    script = "; ".join([*lines, 'exec "$@"'])
    return ["unshare", "--mount", "sh", "-ec", script, "sh", *drop, *command]


def _uncover(paths: list[str], holds: Path) -> list[str]:
    """Shell lines that keep only these folders of whatever stands in the way of them."""
    first, last = [], []
    for i, path in enumerate(paths):
        (hold := holds / str(i)).mkdir(parents=True, exist_ok=True)
        source, kept = shlex.quote(path), shlex.quote(str(hold))
        first.append(f"mount --bind {source} {kept}")
        last += [f"mkdir -p {source}", f"mount --bind {kept} {source}"]
    above = map(shlex.quote, {_covered(path) for path in paths})
    return [*first, *(f"mount -t tmpfs -o mode=755,size=1m none {a}" for a in above), *last]


def _covered(path: str) -> str:
    """The first folder above `path` that other users may not pass; "" if there is none."""
    above = [p for p in reversed(Path(path).parents) if not p.stat().st_mode & 0o001]
    return str(above[0]) if above else ""


# L2: Landlock -----------------------------------------------------------------------------


def landlocked(site: Site) -> list[str]:
    """A box without namespaces: the guest locks itself up."""
    read = [*places.readable(), str(site.stage)]
    read += ["/dev/null", "/dev/urandom", "/proc/cpuinfo", "/proc/meminfo"]
    read += ["/dev/zero"] * (may := uncounted())["shared_memory"]
    write = [str(site.scratch), "/dev/shm", "/dev/null"]
    root = os.geteuid() == 0
    limits = LIMITS if root else {**LIMITS, "processes": 64 + _threads_of(os.getuid())}
    paths = {"read": read, "write": write, "folders": places.around()}
    how = {"limits": limits, "landlock": paths}
    # as a user: his bus would start anything
    how["seccomp"] = {"unix_sockets": root, **may}
    home = {name: v.replace("/tmp", str(site.scratch)) for name, v in ENVIRONMENT.items()}
    command = ["env", "-i", "-C", str(site.scratch), f"TMPDIR={site.scratch}"]
    command += [f"{name}={value}" for name, value in home.items()]
    command += guest_command(str(site.stage), how)
    return as_nobody(site, command) if root else command


def _threads_of(uid: int) -> int:
    """How many threads a user has now, for a limit that counts them all."""
    total = 0
    for task in Path("/proc").glob("[0-9]*"):
        try:
            if task.stat().st_uid == uid:
                total += len(os.listdir(task / "task"))
        except OSError:
            continue
    return total
