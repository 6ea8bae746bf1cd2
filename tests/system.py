"""Programs of the system that some tests need: what is missing, and what that cost."""

import shutil
from collections.abc import Iterable

from gdm_course.publishing.browser import NAMES

REMEDY = "'make system' brings it (Debian, Ubuntu)"
# A package of Debian, and the programs of which one is enough.
NEEDED = {
    "chromium": NAMES,
    "bubblewrap": ("bwrap",),
}


def missing() -> list[str]:
    """The packages of which this machine has no program."""
    return [name for name, any_of in NEEDED.items() if not any(map(shutil.which, any_of))]


def opening(absent: list[str]) -> list[str]:
    """What to say before the tests begin."""
    return [
        f"{name} is missing: tests that need it are skipped; {REMEDY}" for name in absent
    ]


def closing(absent: list[str], reasons: Iterable[str]) -> list[str]:
    """What to say at the end: how many tests each missing program cost."""
    said = [*reasons]
    words = {name: (name, *NEEDED[name]) for name in absent}
    counts = {n: sum(any(w in r for w in words[n]) for r in said) for n in absent}
    return [
        f"{number} test{'s' * (number != 1)} skipped for want of {name}; {REMEDY}"
        for name, number in counts.items()
    ]
