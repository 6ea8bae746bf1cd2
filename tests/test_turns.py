"""Of a sweep that costs minutes everything has its turn within days."""

import pytest

from tests import turns

UNITS = ["a/1", "a/2", "a/3", "b/1", "c/1", "c/2"]


@pytest.mark.parametrize("one_of", [0, 3])
def test_everything_has_its_turn_in_three_days_and_a_day_has_a_part(one_of):
    days = [turns.in_turn(UNITS, day, one_of) for day in range(20_000, 20_003)]
    assert set().union(*days) == {*UNITS}
    assert all(0 < len(day) < len(UNITS) for day in days)


def test_a_day_has_one_of_each_family():
    for day in range(7):
        assert sorted(u[0] for u in turns.in_turn(UNITS, day)) == ["a", "b", "c"]


def test_what_is_touched_never_waits(monkeypatch):
    monkeypatch.setattr(turns, "today", lambda: 0)
    monkeypatch.setattr(turns, "touched", lambda: frozenset({"c/2"}))
    found = turns.by_turns({unit: unit for unit in UNITS})
    waiting = [one.id for one in found if one.marks]
    assert waiting == ["a/2", "a/3"]
    monkeypatch.setattr(turns, "touched", frozenset)
    waiting = [one.id for one in turns.by_turns(dict.fromkeys(UNITS)) if one.marks]
    assert waiting == ["a/2", "a/3", "c/2"]


def test_without_git_the_first_are_in_turn(monkeypatch):
    def broken(*arguments):
        raise FileNotFoundError("git")

    monkeypatch.setattr(turns.quick, "_git", broken)
    assert turns.touched.__wrapped__() == frozenset()
    assert turns.today.__wrapped__() == 0


def test_the_day_is_that_of_the_last_commit(monkeypatch):
    monkeypatch.setattr(turns.quick, "_git", lambda *words: {str(3 * turns.DAY + 5)})
    assert turns.today.__wrapped__() == 3
