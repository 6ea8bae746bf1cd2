"""Whose turn it is: of a sweep that costs minutes `make test` runs a part, daily another.

The day is that of the last commit, so that a commit has the same tests wherever and
whenever it is tested. What it or an edit touches is always in turn; GDM_FULL=1 runs all.
"""

import subprocess
from collections.abc import Iterable
from functools import cache

import pytest

from tests import quick

DAY = 24 * 60 * 60  # seconds


@cache
def touched() -> frozenset[str]:
    """Units of which a script, the questions or a quoted module changed."""
    try:
        return frozenset(quick.units(quick.changed()))
    except (OSError, subprocess.CalledProcessError):
        return frozenset()  # no git, or a clone without a past


@cache
def today() -> int:
    """The day of the last commit, counted from 1970; 0 without git."""
    try:
        return int(quick._git("log", "-1", "--format=%ct").pop()) // DAY
    except (OSError, subprocess.CalledProcessError):
        return 0


def in_turn(units: Iterable[str], one_of: int, day: int) -> set[str]:
    """Which units have their turn on a day: one of so many."""
    return {*[*units][day % one_of :: one_of]}


def now(units: Iterable[str], one_of: int) -> set[str]:
    """Which units are tested at this commit."""
    units = [*units]
    return in_turn(units, one_of, today()) | (touched() & {*units})


def by_turns(values: dict[str, object], one_of: int) -> list:
    """Parameters of a test, by unit: those that are not in turn wait for a full run."""
    chosen = now(values, one_of)
    return [
        pytest.param(value, id=unit, marks=[] if unit in chosen else pytest.mark.full)
        for unit, value in values.items()
    ]
