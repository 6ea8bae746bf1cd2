"""What every box reads of the host, and what of the course must not show through it.

A box has the system's folders and the interpreter's. A checkout may lie below one of them
(`/usr/src/app` in a container, `venv/src`) or hold the interpreter (`.venv`), and a copy
of the package may be installed beside torch. Wherever answers would show, they are covered;
where they cannot be, nothing is graded.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gdm_course.source import PACKAGE, ROOT

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
ETC = ("/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime", "/etc/fonts")
MOUNTS = "/proc/self/mountinfo"
# Folders of a checkout with answers, other people's answers, or marks.
PARTS = ("solutions", "exercises", "lectures", "gdm_course", "tests", "work", "build")
PARTS += (".git",)
# What an environment needs of its folder, where that is the course's folder, too.
ENVIRONMENT = ("bin", "lib", "lib64", "pyvenv.cfg")
INSTALLED = ("", "local/", "envs/*/")  # the last: where conda keeps environments


@dataclass(frozen=True)
class Cover:
    """Something to be covered.

    Attributes:
        place: where, as the box sees it.
        copy: an installed package; the one without answers is put there.
        keep: parts of the interpreter below it, which stay.
    """

    place: Path
    copy: bool
    keep: tuple[Path, ...] = ()


def interpreter() -> list[str]:
    """Where Python and its libraries are, as they are called."""
    return sorted({os.path.realpath(sys.base_prefix), sys.base_prefix, sys.prefix})


def python_paths() -> list[str]:
    """Those outside of the system's folders."""
    return [p for p in interpreter() if not p.startswith("/usr/") and p != "/usr"]


def covers() -> list[Cover]:
    """What has to be covered in a box, the outer ones first."""
    found: list[Cover] = []
    copies = {
        dest / real.relative_to(source): copy
        for real, copy in _answers()
        for dest, source in _shown()
        if real.is_relative_to(source) and _reachable(real, source)
    }
    for place in sorted(copies, key=lambda p: len(p.parts)):
        outer = [c for c in found if place.is_relative_to(c.place)]
        kept = any(place.is_relative_to(k) for c in outer for k in c.keep)
        if not outer or kept:
            found.append(Cover(place, copies[place], _kept(place)))
    return found


def readable() -> list[str]:
    """What a box without mounts may read: the same folders, around what is covered."""
    answers = [real for real, _ in _answers()]
    found = []
    for top in sorted({os.path.realpath(p) for p in (*SYSTEM, *ETC, *interpreter())}):
        parts = _kept(Path(top)) if Path(top) in answers else (Path(top),)
        found += [str(p) for part in parts for p in _around(part, answers)]
    return found


def around() -> list[str]:
    """Folders on Python's path that hold a copy: it has to list them, nothing more."""
    path = {Path(p).resolve() for p in sys.path if p}
    copies = [real for real, copy in _answers() if copy]
    tops = [source for _, source in _shown()]
    found = {p for real in copies for p in real.parents if p in path}
    return sorted(str(p) for p in found if any(p.is_relative_to(t) for t in tops))


def exposed(place: Path) -> str:
    """The folder through which every box would read a place, or ""."""
    shown = [source for _, source in _shown()]
    answers = [real for real, _ in _answers()]
    shown += [part for real in answers for part in _kept(real)]
    for real in mounted(place.resolve()):
        above = [(len(p.parts), True, p) for p in shown if real.is_relative_to(p)]
        above += [(len(p.parts), False, p) for p in answers if real.is_relative_to(p)]
        # the nearest decides; of two that are the same folder, the cover
        nearest = min(above, key=lambda a: (-a[0], a[1]), default=(0, False, real))
        if nearest[1] and _reachable(real, nearest[2]):
            return str(nearest[2])
    return ""


def trouble() -> str | None:
    """Why nothing can be graded in boxes from here, or None."""
    for real, _ in _answers():
        for top in SYSTEM:
            if real == Path(os.path.realpath(top)):
                return f"the course is {top} itself: move it into a folder of its own"
    if shown := exposed(Path(tempfile.gettempdir())):
        return f"temporary files would lie in {shown}, which every box reads: set TMPDIR"
    return None


def _shown() -> list[tuple[Path, Path]]:
    """Folders of the host in every box: where they stand there, and what they are."""
    named = [p for p in (*SYSTEM, *ETC) if not os.path.islink(p)]
    return [(Path(p), Path(os.path.realpath(p))) for p in (*named, *interpreter())]


def _answers() -> list[tuple[Path, bool]]:
    """Every folder with answers, under all its mounts, and whether it is a copy."""
    found: dict[Path, bool] = {}
    for root in {ROOT, PACKAGE.resolve().parent}:
        if (root / "solutions").exists() or (root / "pyproject.toml").is_file():
            parts = [root / name for name in PARTS if (root / name).is_dir()]
            found |= {place.resolve(): False for place in (root, *parts)}
    if sys.pycache_prefix:
        found[Path(sys.pycache_prefix).resolve()] = False
    for copy in filter(Path.is_dir, _copies()):
        found.setdefault(copy.resolve(), True)
    return [(real, copy) for place, copy in found.items() for real in mounted(place)]


def _copies() -> Iterator[Path]:
    """Installed packages: the one that runs, those on the path and in other Pythons."""
    yield PACKAGE
    yield from (Path(p) / "gdm_course" for p in sys.path if p)
    for top in {*SYSTEM, *interpreter()}:
        for inner in INSTALLED:
            yield from Path(top).glob(f"{inner}lib*/python3*/*-packages/gdm_course")


def mounted(place: Path) -> list[Path]:
    """All paths of a folder: another mount may show it once more."""
    table = _mounts()
    holds = [m for m in table if place.is_relative_to(m[2])]
    if not holds:
        return [place]
    device, root, point = max(holds, key=lambda m: len(m[2].parts))
    inside, found = root / place.relative_to(point), [place]
    for other, top, at in table:
        if other == device and inside.is_relative_to(top):
            found.append(at / inside.relative_to(top))
        elif other == device and top.is_relative_to(inside):
            found.append(at)
    return list(dict.fromkeys(found))


def _mounts() -> list[tuple[str, Path, Path]]:
    """Device, folder of it, and where that is mounted; nothing where Linux is not."""
    try:
        lines = os.fsdecode(Path(MOUNTS).read_bytes())  # as text, \r would end a line
    except OSError:
        return []
    fields = [line.split(" ") for line in lines.split("\n")]
    return [(f[2], _path(f[3]), _path(f[4])) for f in fields if len(f) > 4]


def _path(text: str) -> Path:
    for code, character in (("040", " "), ("011", "\t"), ("012", "\n"), ("134", "\\")):
        text = text.replace(f"\\{code}", character)
    return Path(text)


def _kept(place: Path) -> tuple[Path, ...]:
    """Parts of the interpreter below a folder, or in it if it is the same."""
    found = []
    for prefix in {Path(p) for q in interpreter() for p in (q, os.path.realpath(q))}:
        if prefix == place:
            found += [p for name in ENVIRONMENT if (p := place / name).exists()]
        elif prefix.is_relative_to(place):
            found.append(prefix)
    return tuple(sorted(found))


def _around(folder: Path, answers: list[Path]) -> list[Path]:
    """A folder, or its parts where something below is covered. Links show elsewhere."""
    if not any(real.is_relative_to(folder) for real in answers):
        return [folder]
    if folder in answers:
        return []
    parts = [p for p in sorted(folder.iterdir()) if not p.is_symlink()]
    return [p for part in parts for p in _around(part, answers)]


def _reachable(place: Path, top: Path) -> bool:
    """Whether a box gets there: one that root starts passes only what is open to all."""
    if os.geteuid() != 0:
        return True
    above = [p for p in place.parents if p.is_relative_to(top) and p.exists()]
    return all(p.stat().st_mode & 0o001 for p in above)
