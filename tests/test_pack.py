"""Archives of what came out of a window: whole, in their places, and nobody's tricks."""

import hashlib
import io
import json
import pickle
import warnings
import zipfile
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save as to_bytes
from scale_runs import noisy
from test_checkpoints import gdm

from gdm_course import checkpoints, recipes
from gdm_course.scale import unpack as unpacking
from gdm_course.scale.pack import pack
from gdm_course.scale.state import load, save
from gdm_course.scale.unpack import Damaged, unpack
from gdm_course.scale.whole import STATE

FIRST, SECOND, LIGHT = (
    replace(noisy(), name=f"autoregressive/{name}", keep=name != "light")
    for name in ("first", "second", "light")
)


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setattr(recipes, "RECIPES", (FIRST, SECOND, LIGHT))


def finish(recipe, out, size=100):
    """Write a card, and weights of so many numbers."""
    weights, path = checkpoints.paths(recipe.name, out)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = to_bytes({"w": torch.arange(size, dtype=torch.float32)})
    weights.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    card = {"name": recipe.name, "file": {"sha256": digest}, "kept": True, "figures": []}
    path.write_text(json.dumps(card))


def begin(recipe, runs, size=100):
    """Write the state of an unfinished run."""
    state = {"step": 7, "model": {"w": torch.ones(size)}, "noise": [(1, None, "x")]}
    save(runs / recipe.name / STATE, state)


@pytest.fixture
def came(tmp_path):
    """A folder with two finished recipes and a begun one: out, runs."""
    out, runs = tmp_path / "out", tmp_path / "runs"
    finish(FIRST, out)
    finish(LIGHT, out)
    begin(SECOND, runs)
    return out, runs


def packed(came, mib=15.0, **more) -> list:
    out, runs = came
    return pack((FIRST, SECOND, LIGHT), out, runs, mib, **more)


def held(path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


def rewrite(path, change, compression=zipfile.ZIP_STORED, sums=True) -> None:
    """Change the files of an archive, and its checksums so that they agree."""
    files = held(path)
    files.pop("manifest.json")
    change(files)
    if sums:
        manifest = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        files = {"manifest.json": json.dumps(manifest).encode()} | files
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in files.items():
            file.writestr(name, data)


def everything(folder) -> dict[str, bytes]:
    files = (p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


def test_what_is_packed_comes_out_where_it_belongs(came, tmp_path):
    (path,) = packed(came)
    assert path.name == "lane.zip"
    there = tmp_path / "there"
    unpack(path, there / "cards", there / "runs")
    assert [*everything(there)] == [*dict.fromkeys(everything(there))]
    assert {*everything(there)} == {
        "cards/autoregressive/first.json",
        "cards/autoregressive/first.safetensors",
        "cards/autoregressive/light.json",  # of which the course keeps the card only
        f"runs/autoregressive/second/{STATE}",
    }
    weights = "autoregressive/first.safetensors"
    assert (there / "cards" / weights).read_bytes() == (came[0] / weights).read_bytes()
    assert checkpoints.card(LIGHT.name, there / "cards")["kept"] is False
    state = load(there / "runs" / SECOND.name / STATE)
    assert state["step"] == 7
    assert state["noise"] == [(1, None, "x")]
    assert state["model"]["w"].equal(torch.ones(100))


def test_packing_twice_gives_the_same_bytes(came):
    first = packed(came)[0].read_bytes()
    assert packed(came)[0].read_bytes() == first


def test_what_does_not_fit_is_said_and_cards_come_first(came):
    out, runs = came
    finish(FIRST, out, 300_000)  # 1.1 MiB
    begin(SECOND, runs, 300_000)
    said = []
    (path,) = packed(came, 1.0, say=said.append)
    assert path.stat().st_size <= 2**20
    assert {*held(path)} == {
        "manifest.json",
        f"checkpoints/{FIRST.name}.json",
        f"checkpoints/{LIGHT.name}.json",
    }
    assert json.loads(held(path)[f"checkpoints/{FIRST.name}.json"])["kept"] is False
    assert [line.partition(":")[0] for line in said] == [
        f"checkpoints/{FIRST.name}.safetensors",
        f"runs/{SECOND.name}/{STATE}",
    ]


def test_several_files_carry_what_is_too_large_for_one(came, tmp_path):
    begin(SECOND, came[1], 600_000)  # 2.3 MiB
    paths = packed(came, 1.0, volumes=4)
    assert [p.name for p in paths] == ["lane.zip.1", "lane.zip.2", "lane.zip.3"]
    assert all(p.stat().st_size <= 2**20 for p in paths)
    for given in (*paths, came[0]):
        unpack(given, tmp_path / "a", tmp_path / "b")
        assert load(tmp_path / "b" / SECOND.name / STATE)["step"] == 7
    paths[1].unlink()
    with pytest.raises(Damaged, match="a volume is missing"):
        unpack(paths[0], tmp_path / "c", tmp_path / "d")


def test_a_new_archive_leaves_no_volume_of_an_old_one(came):
    begin(SECOND, came[1], 600_000)
    packed(came, 1.0, volumes=4)
    begin(SECOND, came[1])
    assert [p.name for p in packed(came)] == ["lane.zip"]
    assert [p.name for p in came[0].glob("lane*")] == ["lane.zip"]


CARD = f"checkpoints/{FIRST.name}.json"
WEIGHTS = f"checkpoints/{FIRST.name}.safetensors"
RUN = f"runs/{SECOND.name}/{STATE}"


def renamed(old, new):
    return lambda files: files.update({new: files.pop(old)})


def replaced(name, data):
    return lambda files: files.update({name: data})


TRICKS = {
    "up": (renamed(RUN, f"runs/../../{STATE}"), "belongs to no recipe"),
    "root": (renamed(RUN, f"/runs/{SECOND.name}/{STATE}"), "belongs to no recipe"),
    "other": (replaced("checkpoints/autoregressive/x.json", b"{}"), "belongs to no recipe"),
    "code": (replaced("runs/autoregressive/first/state.pt", b""), "belongs to no recipe"),
    "pickle": (replaced(RUN, pickle.dumps({"step": 1})), "no file of tensors"),
    "zip": (replaced(WEIGHTS, b"PK\x03\x04"), "no file of tensors"),
    "weights": (replaced(WEIGHTS, to_bytes({"w": torch.ones(9)})), "other weights"),
    "lost": (lambda files: files.pop(WEIGHTS), "came without its weights"),
    "card": (replaced(CARD, b"[]"), "no card"),
    "text": (replaced(CARD, b"\xff"), "no card"),
    "name": (
        lambda files: files.update(
            {CARD: files[CARD].replace(b"autoregressive/first", b"autoregressive/second")}
        ),
        "is the card of autoregressive/second",
    ),
}


@pytest.mark.parametrize("trick", TRICKS)
def test_nothing_is_written_of_an_archive_with_a_trick_in_it(came, tmp_path, trick):
    """Also what stands before the trick is right and would do no harm."""
    (path,) = packed(came)
    change, said = TRICKS[trick]
    rewrite(path, change)
    before = everything(tmp_path)
    with pytest.raises(Damaged, match=said):
        unpack(path, tmp_path / "a" / "b", tmp_path / "a" / "c")
    assert everything(tmp_path) == before


def test_an_archive_that_was_changed_on_its_way_is_refused(came, tmp_path):
    (path,) = packed(came)
    whole = path.read_bytes()
    for i in range(0, len(whole), max(1, len(whole) // 97)):
        data = bytearray(whole)
        data[i] ^= 1
        path.write_bytes(data)
        try:
            unpack(path, tmp_path / "a", tmp_path / "b")
        except Damaged:
            assert not (tmp_path / "a").exists()
        else:  # a byte that says nothing, such as a date: all came out as it was
            assert (tmp_path / "a" / f"{FIRST.name}.json").read_bytes() == held(path)[CARD]
            for folder in ("a", "b"):
                for file in (tmp_path / folder).rglob("*.*"):
                    file.unlink()
            (tmp_path / "a" / "autoregressive").rmdir()
            (tmp_path / "a").rmdir()
    path.write_bytes(whole[:-100])
    with pytest.raises(Damaged, match="damaged"):
        unpack(path, tmp_path / "a", tmp_path / "b")


def test_what_blows_up_is_not_opened(came, tmp_path):
    (path,) = packed(came)
    rewrite(path, lambda files: None, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(Damaged, match="compressed"):
        unpack(path, tmp_path / "a", tmp_path / "b")


def test_a_manifest_lists_all_and_nothing_else(came, tmp_path):
    (path,) = packed(came)
    rewrite(path, lambda files: None, sums=False)
    with pytest.raises(Damaged, match="manifest"):
        unpack(path, tmp_path / "a", tmp_path / "b")
    held_twice = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(held_twice, "w") as file:
        warnings.simplefilter("ignore")
        for _ in range(2):
            file.writestr("manifest.json", b"{}")
    path.write_bytes(held_twice.getvalue())
    with pytest.raises(Damaged, match="two files of the same name"):
        unpack(path, tmp_path / "a", tmp_path / "b")


def test_new_weights_never_lie_beside_an_old_card(came, tmp_path, monkeypatch):
    """Killed at any write: a card that is there describes the weights that are there."""
    (path,) = packed(came)
    out, runs = tmp_path / "a", tmp_path / "b"
    finish(FIRST, out, 50)
    real, left = unpacking.write_whole, [1]

    def scarce(*args):
        if not left:
            raise OSError("disk full")
        left.pop()
        real(*args)

    monkeypatch.setattr(unpacking, "write_whole", scarce)
    with pytest.raises(OSError, match="disk full"):
        unpack(path, out, runs)
    assert not checkpoints.paths(FIRST.name, out)[1].exists()


def test_gdm_train_unpacks_and_says_what_is_wrong(came, tmp_path):
    (path,) = packed(came)
    where = ["--out", tmp_path / "a", "--runs", tmp_path / "b"]
    code, said = gdm("--unpack", path, *where)
    assert (code, said.count("wrote")) == (0, 4)
    code, said = gdm("--unpack", tmp_path / "nothing.zip", *where)
    assert code == 1
    assert "no archive there" in said
