"""What came out of a window in one archive, and from there into its place.

An archive is a zip file without compression (weights have none to gain): `manifest.json`
with a sha256 for every file, then cards, weights and states of unfinished runs, the most
urgent first. It may be cut into volumes, `lane.zip.1`, `lane.zip.2` and so on, for ways
that carry only small files.

Whoever unpacks trusts nothing: only files of recipes that the course has, under the names
that they must have, whose checksums agree, in formats that run no code (JSON, safetensors).
All of that is looked at before the first file is written.
"""

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from gdm_course import checkpoints, recipes
from gdm_course.scale.whole import STATE, write_whole

MIB = 2**20
NAME = "lane.zip"
MANIFEST = "manifest.json"
Files = dict[str, bytes]  # by name


class Damaged(ValueError):
    """An archive that does not hold what it must; nothing was written."""


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


def unpack(path: Path, out: Path, runs: Path) -> list[Path]:
    """Put what an archive holds into its places, after everything in it was checked.

    Args:
        path: the archive, or its first volume, or their folder.
        out, runs: folders of checkpoints and of unfinished runs.

    Returns:
        What was written.

    Raises:
        FileNotFoundError: there is no archive.
        Damaged: it is not whole, or holds something that does not belong into one.
    """
    files = checked(opened(b"".join(part.read_bytes() for part in parts_of(path))))
    places = {}
    for name, data in files.items():
        kind, _, rest = name.partition("/")
        places[name] = ((out if kind == "checkpoints" else runs) / rest, data)
    for name in files:  # no card may lie beside weights that are not its own
        if name.endswith(".json"):
            places[name][0].unlink(missing_ok=True)
    for name in sorted(files, key=lambda name: name.endswith(".json")):
        place, data = places[name]
        write_whole(place, lambda file, data=data: file.write(data))
    return [place for place, _ in places.values()]


def parts_of(path: Path) -> list[Path]:
    """Return the files of an archive in their order."""
    path = path / NAME if path.is_dir() else path
    whole = path.with_name(re.sub(r"\.\d+$", "", path.name))
    if whole.is_file():
        return [whole]
    found = whole.parent.glob(f"{whole.name}.*")
    numbered = {p.suffix[1:]: p for p in found if p.suffix[1:].isdigit()}
    parts = [numbered[n] for n in sorted(numbered, key=int)]
    if not parts:
        raise FileNotFoundError(f"{whole}: no archive there: give what 'gdm train' packed")
    if [*numbered] and sorted(map(int, numbered)) != [*range(1, len(parts) + 1)]:
        raise Damaged(f"{whole}.1 to .{len(parts)}: a volume is missing: get all of them")
    return parts


def opened(data: bytes) -> Files:
    """Return the files of an archive; none is larger than it takes in the archive."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            entries = file.infolist()
            if any(e.compress_type != zipfile.ZIP_STORED for e in entries):
                raise Damaged("the archive is compressed: 'gdm train' packs none like that")
            found = {entry.filename: file.read(entry) for entry in entries}
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise Damaged(f"the archive is damaged ({error}): get it again") from None
    if len(found) < len(entries):
        raise Damaged("the archive holds two files of the same name")
    return found


def checked(files: Files) -> Files:
    """Return the files without their manifest, if all is as it must be."""
    try:
        sums = json.loads(files.pop(MANIFEST, b"{}"))
    except ValueError:
        sums = None
    if not isinstance(sums, dict) or sums.keys() != files.keys():
        raise Damaged("the archive is not whole: its manifest lists other files")
    known = set(expected(recipes.names()))
    for name in sorted(files, key=lambda name: name.endswith(".json")):  # cards last
        data = files[name]
        if name not in known:
            raise Damaged(f"{name!r} belongs to no recipe of the course")
        if hashlib.sha256(data).hexdigest() != sums[name]:
            raise Damaged(f"{name} has another checksum than it had: get the archive again")
        if name.endswith(".safetensors"):
            must_parse(name, data)
        else:
            must_describe(name, data, files)
    return files


def expected(names: Iterable[str]) -> Iterator[str]:
    """Yield the only names that files in an archive may have."""
    for name in names:
        yield from (f"checkpoints/{name}.json", f"checkpoints/{name}.safetensors")
        yield str(PurePosixPath("runs", name, STATE))


def must_parse(name: str, data: bytes) -> None:
    """Refuse what is no file of tensors."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        load(data)
    except SafetensorError as error:
        raise Damaged(f"{name} is no file of tensors ({error})") from None


def must_describe(name: str, data: bytes, files: Files) -> None:
    """Refuse a card that is none, or that has other weights beside it than its own."""
    try:
        card = json.loads(data)
        owner, digest, kept = card["name"], card["file"]["sha256"], card["kept"]
    except (ValueError, LookupError, TypeError):
        raise Damaged(f"{name} is no card of a checkpoint") from None
    weights = files.get(name.removesuffix(".json") + ".safetensors")
    if name != f"checkpoints/{owner}.json":
        raise Damaged(f"{name} is the card of {owner}")
    if kept and weights is None:
        raise Damaged(f"{name} came without its weights")
    if kept and hashlib.sha256(weights).hexdigest() != digest:
        raise Damaged(f"{name} describes other weights than those beside it")
