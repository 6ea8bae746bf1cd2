"""What came out of a window in one archive, and from there into its place.

An archive is a zip file without compression (weights have none to gain): `manifest.json`
with a sha256 for every file, then cards, weights and states of unfinished runs, the most
urgent first. It may be cut into volumes, `lane.zip.1`, `lane.zip.2` and so on, for ways
that carry only small files.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from gdm_course import checkpoints, recipes
from gdm_course.scale.whole import STATE, write_whole

MIB = 2**20
NAME = "lane.zip"
MANIFEST = "manifest.json"
Files = dict[str, bytes]  # by name


def pack(
    todo: Sequence[recipes.Recipe],
    out: Path,
    runs: Path,
    mib: float,
    volumes: int = 1,
    say: Callable[[str], Any] = print,
) -> list[Path]:
    """Pack cards, weights and states of recipes, as far as there is room.

    Args:
        todo: recipes, the most urgent first.
        out, runs: folders of checkpoints, where the archive goes too, and of runs.
        mib, volumes: largest size of one file, and how many there may be.
        say: prints a line about everything that does not fit.

    Returns:
        The files of the archive.
    """
    room, files = int(mib * MIB) * volumes - 64 * 1024, {}  # for the manifest
    for group, instead in contents(todo, out, runs):
        size = sum(map(len, group.values()))
        if size + 1000 * len(group) > room:  # headers, and lines of the manifest
            say(f"{[*group][-1]}: {size / MIB:.1f} MiB do not fit into the archive")
            group = instead
        files |= group
        room -= sum(len(data) + 1000 for data in group.values())
    return volumes_of(archive(files), out, int(mib * MIB))


def contents(
    todo: Sequence[recipes.Recipe], out: Path, runs: Path
) -> Iterator[tuple[Files, Files]]:
    """Yield what belongs together, most important first, and what to pack instead.

    Of a finished run that is its card and its weights, or the card alone, which says so.
    """
    for recipe in todo:
        weights, path = checkpoints.paths(recipe.name, out)
        if not path.is_file():
            continue
        told, name = json.loads(path.read_text("utf-8")), f"checkpoints/{recipe.name}"
        alone = {f"{name}.json": as_json(told | {"kept": False})}
        if recipe.keep and weights.is_file():
            both = {f"{name}.json": as_json(told | {"kept": True})}
            yield both | {f"{name}.safetensors": weights.read_bytes()}, alone
        else:
            yield alone, {}
    for recipe in todo:
        if (state := runs / recipe.name / STATE).is_file():
            yield {f"runs/{recipe.name}/{STATE}": state.read_bytes()}, {}


def as_json(card: dict[str, Any]) -> bytes:
    """Return a card as its file."""
    return (json.dumps(card, indent=1) + "\n").encode()


def archive(files: Files) -> bytes:
    """Return a zip file of these files and a manifest: the same bytes for the same."""
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_STORED) as file:
        file.writestr(zipfile.ZipInfo(MANIFEST), json.dumps(sums, indent=1))
        for name, data in files.items():
            file.writestr(zipfile.ZipInfo(name), data)
    return held.getvalue()


def volumes_of(data: bytes, out: Path, size: int) -> list[Path]:
    """Write an archive as one file, or as several if it is larger than `size`."""
    for old in out.glob(f"{NAME}*"):
        old.unlink()
    parts = [data[i : i + size] for i in range(0, len(data), size)]
    names = [f"{NAME}.{i}" for i in range(1, len(parts) + 1)] if len(parts) > 1 else [NAME]
    for name, part in zip(names, parts):
        write_whole(out / name, lambda file, part=part: file.write(part))
    return [out / name for name in names]
