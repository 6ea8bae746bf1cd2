"""From an archive of `pack` into its places.

Whoever unpacks trusts nothing: only files of recipes that the course has, under the names
that they must have, whose checksums agree, in formats that run no code (JSON, safetensors).
All of that is looked at before the first file is written.
"""

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from gdm_course import recipes
from gdm_course.scale.pack import MANIFEST, NAME, Files
from gdm_course.scale.whole import STATE, write_whole


class Damaged(ValueError):
    """An archive that does not hold what it must; nothing was written."""


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
