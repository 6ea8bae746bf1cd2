"""Data for a machine without a network: small enough loads, and whole at the end."""

import json
import random
import subprocess
from dataclasses import replace

import pytest
from scale_runs import noisy

from gdm_course import recipes
from gdm_course.scale import carry
from gdm_course.scale.carry import File
from gdm_course.scale.whole import STATE

KIB = 2**10


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A checkout of 100 KiB, with three recipes and their files of 40, 70 and 500 KiB."""
    root, data = tmp_path / "root", tmp_path / "data"
    root.mkdir()
    subprocess.run(["git", "init", "-q", root], check=True)
    (root / "tracked").write_bytes(bytes(100 * KIB))
    names = [f"autoregressive/{letter}" for letter in "abc"]
    made = [replace(noisy(), name=name, device="gpu") for name in names]
    order = (3, 1, 2)
    made = tuple(replace(r, priority=p) for r, p in zip(made, order))
    monkeypatch.setattr(recipes, "RECIPES", made)
    chance = random.Random(0)
    for name, size in zip("abc", (500, 40, 70)):
        path = data / name / "file"
        path.parent.mkdir(parents=True)
        path.write_bytes(chance.randbytes(size * KIB))

    def files_of(recipe, runs):
        letter = recipe.name[-1]
        return [File(data / letter / "file", f"data/{letter}/file")]

    monkeypatch.setattr(carry, "files_of", files_of)
    monkeypatch.setattr(carry, "SPARE", 0)
    return root, data


def prepared(root, loads, kib):
    said = []
    made = carry.prepare(root, loads, kib / KIB, root / "runs", said.append)
    calls = [json.loads(s[4:-1]) for s in said if s.startswith("run(")]
    return made, calls, said


def test_the_most_urgent_go_first_and_what_has_no_room_is_said(here):
    root, _ = here
    made, calls, said = prepared(root, 1, 250)
    assert [p.name for p in made] == ["1"]
    assert said[0].startswith("autoregressive/a: left out, for its files do not fit")
    assert "train autoregressive/b autoregressive/c --jobs" in calls[0]["command"]
    assert calls[0]["carry"] == [".lane/1"]
    assert len(calls[0]["command"]) < 2000


def test_loads_are_small_enough_and_come_together_again(here, tmp_path):
    root, data = here
    made, calls, _ = prepared(root, 6, 220)
    assert len(made) == len(calls) == 6
    for load in made:
        size = sum(p.stat().st_size for p in load.iterdir() if p.name != carry.LIST)
        assert size <= 120 * KIB
    assert [call["command"] for call in calls[:-1]] == ["true"] * 5
    written = carry.join(root / carry.FOLDER, tmp_path / "there", tmp_path / "runs")
    assert len(written) == 3
    for name in "abc":
        there = tmp_path / "there" / name / "file"
        assert there.read_bytes() == (data / name / "file").read_bytes()


def test_git_does_not_see_the_loads(here):
    root, _ = here
    before = carry.tree_size(root)
    prepared(root, 9, 220)
    prepared(root, 9, 220)
    assert carry.tree_size(root) == before
    told = (root / ".git" / "info" / "exclude").read_text()
    assert told.count("/.lane/") == 1


def test_a_lost_or_changed_load_is_noticed(here, tmp_path):
    root, _ = here
    made, _, _ = prepared(root, 6, 220)
    piece = made[1] / sorted(p.name for p in made[1].iterdir())[0]
    data = piece.read_bytes()
    piece.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    with pytest.raises(ValueError, match="carry it again"):
        carry.join(root / carry.FOLDER, tmp_path / "a", tmp_path / "b")
    piece.unlink()
    with pytest.raises(FileNotFoundError, match="a load is lost"):
        carry.join(root / carry.FOLDER, tmp_path / "a", tmp_path / "b")


def test_a_checkout_that_is_too_large_is_said(here):
    root, _ = here
    made, calls, said = prepared(root, 1, 99)
    assert (made, calls) == ([], [])
    assert "larger than" in said[0]


def test_a_recipe_brings_its_data_and_what_was_begun(tmp_path, monkeypatch):
    monkeypatch.setenv("GDM_DATA_DIR", str(tmp_path))
    text = tmp_path / "text" / "tinyshakespeare.txt"
    text.parent.mkdir()
    text.write_bytes(bytes(1115394))
    recipe, runs = recipes.get("autoregressive/gpt-shakespeare"), tmp_path / "runs"
    places = [f.place for f in carry.files_of(recipe, runs)]
    assert places == ["data/text/tinyshakespeare.txt"]
    (runs / recipe.name).mkdir(parents=True)
    (runs / recipe.name / STATE).touch()
    places = [f.place for f in carry.files_of(recipe, runs)]
    assert places == [f"runs/{recipe.name}/{STATE}", "data/text/tinyshakespeare.txt"]
