"""What a box says of its cells, read strictly: it decides about sentences, not marks."""

import builtins
from dataclasses import dataclass, field
from typing import Any

from gdm_course.grading.judge.verdict import Status

Stops = list[tuple[int, str]]  # a code cell, counted from 1, and the kind of its error
KINDS, MOST, SHOWN = ("own", "uses", "timed"), 2_000, 3


@dataclass(frozen=True)
class Told:
    """What a box says after it has run the cells.

    Attributes:
        found: the names that they left behind.
        disturbed: names of answers that cells below them may have changed.
        why: of each name, the cells that stopped: those that define it ("own"), and those
            that it needs ("uses"); and those that define it in %%timeit only ("timed").
    """

    found: frozenset[str] = frozenset()
    disturbed: frozenset[str] = frozenset()
    why: dict[str, dict[str, Stops]] = field(default_factory=dict)


def told(reply: dict, names: list[str]) -> Told:
    """Read a box's reply; whatever is not as it should be is passed over."""
    why = reply.get("why")
    why = why if isinstance(why, dict) else {}
    return Told(
        _names(reply.get("found"), names),
        _names(reply.get("disturbed"), names),
        {name: _stops(why.get(name)) for name in names},
    )


def _names(value: Any, names: list[str]) -> frozenset[str]:
    given = [n for n in value if isinstance(n, str)] if isinstance(value, list) else []
    return frozenset(given) & frozenset(names)


def _stops(value: Any) -> dict[str, Stops]:
    if not isinstance(value, dict):
        return {}
    lists = {kind: value.get(kind) for kind in KINDS}
    return {
        kind: [(pair[0], pair[1]) for pair in pairs[:SHOWN] if _is_stop(pair)]
        for kind, pairs in lists.items()
        if isinstance(pairs, list)
    }


def _is_stop(pair: Any) -> bool:
    if not isinstance(pair, list) or len(pair) != 2:
        return False
    return type(pair[0]) is int and 0 < pair[0] <= MOST and isinstance(pair[1], str)


# Sentences --------------------------------------------------------------------------------


def absent(said: Told, name: str, judged: Status) -> tuple[Status, str]:
    """Why there is nothing to ask. `judged`: the status of what is wrong, not missing."""
    if said.why.get(name, {}).get("own"):
        return unanswered(said, name, judged)
    sentence = f"no cell defines '{name}'"
    if timed := said.why.get(name, {}).get("timed"):
        place = _cell(timed[-1][0])
        sentence += f": {place} does so inside of %%timeit only, which keeps nothing"
    return Status.MISSING, sentence


def unanswered(said: Told, name: str, judged: Status) -> tuple[Status, str]:
    """Why an answer is still the exercise's stub: nobody wrote one, or its cell stopped."""
    own = said.why.get(name, {}).get("own")
    number, error = own[-1] if own else (0, "NotImplementedError")
    if error == "NotImplementedError":
        return Status.MISSING, "not answered yet"
    sentence = f"{_cell(number)}, which defines it, stopped with {shown(error)}"
    return judged, sentence + earlier(said, name)


def earlier(said: Told, name: str) -> str:
    """The first cell with an error, of those that an answer needs; "" if none had one."""
    if not (used := said.why.get(name, {}).get("uses")):
        return ""
    number, error = used[0]
    return f"; {_cell(number)}, which it needs, stopped with {shown(error)} before"


def _cell(number: int) -> str:
    return f"code cell {number} from the top"


def shown(name: object) -> str:
    """The name of an exception, if it is one of Python's own: the rest is a stranger's."""
    found = getattr(builtins, name, None) if isinstance(name, str) else None
    known = isinstance(found, type) and issubclass(found, BaseException)
    return str(name) if known else "an error"
