"""Of a sweep that costs minutes everything has its turn within days."""

import pytest

from tests import turns

UNITS = ["a/1", "a/2", "a/3", "b/1", "c/1", "c/2"]


@pytest.mark.parametrize("one_of", [2, 3, 6])
def test_everything_has_its_turn_once_in_so_many_days(one_of):
    days = [turns.in_turn(UNITS, one_of, day) for day in range(20_000, 20_000 + one_of)]
    assert sorted(unit for day in days for unit in day) == UNITS
    assert {len(day) for day in days} == {len(UNITS) // one_of}


def test_what_is_touched_never_waits(monkeypatch):
    monkeypatch.setattr(turns, "today", lambda: 0)
    monkeypatch.setattr(turns, "touched", lambda: frozenset({"c/2"}))
    found = turns.by_turns(dict.fromkeys(UNITS), 3)
    waiting = [one.id for one in found if one.marks]
    assert waiting == ["a/2", "a/3", "c/1"]
    monkeypatch.setattr(turns, "touched", frozenset)
    waiting = [one.id for one in turns.by_turns(dict.fromkeys(UNITS), 3) if one.marks]
    assert waiting == ["a/2", "a/3", "c/1", "c/2"]


def test_without_git_the_first_are_in_turn(monkeypatch):
    def broken(*arguments):
        raise FileNotFoundError("git")

    monkeypatch.setattr(turns.quick, "_git", broken)
    assert turns.touched.__wrapped__() == frozenset()
    assert turns.today.__wrapped__() == 0


def test_the_day_is_that_of_the_last_commit(monkeypatch):
    monkeypatch.setattr(turns.quick, "_git", lambda *words: {str(3 * turns.DAY + 5)})
    assert turns.today.__wrapped__() == 3
