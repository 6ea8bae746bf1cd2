"""Data for a machine without a network, in loads that fit through a narrow way.

    python -m gdm_course.scale.carry             # what fits into one load, and what to do
    python -m gdm_course.scale.carry --loads 3   # CIFAR-10 too
    python -m gdm_course.scale.carry --join DATA [--runs RUNS]    # there

A load is a folder `.lane/1`, `.lane/2` ... that git ignores, with data sets and unfinished
runs of the recipes that are pending for a GPU, the most urgent first. Together with the
checkout it stays below a size; files are cut to fill it. `--join` puts all together again.
"""

import argparse
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gdm_course import checkpoints, recipes
from gdm_course.data import download
from gdm_course.data.transfer import checksum
from gdm_course.scale.job import RUNS
from gdm_course.scale.whole import STATE, write_whole
from gdm_course.source import ROOT

MIB = 2**20
FOLDER, LIST = ".lane", "list.json"
SPARE = MIB // 2  # for names and lists
LINE = """mkdir -p /tmp/lane && \
python3 -m gdm_course.scale.carry --join /tmp/data --runs /tmp/runs && \
export GDM_DATA_DIR=/tmp/data GDM_OFFLINE=1 PYTHONUNBUFFERED=1; \
python3 -m gdm_course train {names} --jobs 6 --minutes 9 --out /tmp/lane --runs /tmp/runs \
--pack 15 --volumes 4 2>&1 | tee $OUT/log; cp /tmp/lane/lane.zip* $OUT/"""


@dataclass(frozen=True)
class File:
    """A file here, and where it belongs there: "data/..." or "runs/..."."""

    path: Path
    place: str


def files_of(recipe: recipes.Recipe, runs: Path) -> list[File]:
    """Return the files that a recipe needs: its data set, and its state if it was begun.

    Raises:
        FileNotFoundError: its data are not here.
    """
    paths = download.need(str(recipe.data_args[0]))
    found = [File(p, f"data/{p.relative_to(download.folder()).as_posix()}") for p in paths]
    state = File(runs / recipe.name / STATE, f"runs/{recipe.name}/{STATE}")
    return [state, *found] if state.path.is_file() else found


def urgent() -> list[recipes.Recipe]:
    """Return the pending recipes for a GPU, the most urgent first."""
    todo = [r for r in recipes.RECIPES if r.device == "gpu" and checkpoints.pending(r.name)]
    return sorted(todo, key=lambda recipe: recipe.priority)


def chosen(
    todo: Iterable[recipes.Recipe], room: int, runs: Path, say: Callable
) -> tuple[list[recipes.Recipe], list[File]]:
    """Return the recipes whose files have room, in their order, and all those files."""
    taken, files = [], {}
    for recipe in todo:
        try:
            more = {f.place: f for f in files_of(recipe, runs)}
        except FileNotFoundError as error:
            say(f"{recipe.name}: left out: {error}")
            continue
        size = sum(f.path.stat().st_size for f in (files | more).values())
        if size > room:
            say(f"{recipe.name}: left out, for its files do not fit: take more --loads")
            continue
        taken.append(recipe)
        files |= more
    return taken, list(files.values())


def load_up(files: list[File], folder: Path, room: int) -> list[Path]:
    """Write loads of at most `room` bytes each; return their folders."""
    shutil.rmtree(folder, ignore_errors=True)
    loads, pieces = [], []
    for file, start, size in cuts(files, room):
        if start is None:  # a new load
            loads.append(folder / str(len(loads) + 1))
            continue
        name = f"{len(pieces):04d}"
        with file.path.open("rb") as source:
            source.seek(start)
            data = source.read(size)
        write_whole(loads[-1] / name, lambda to, data=data: to.write(data))
        pieces.append({"piece": name, "place": file.place, "sha256": checksum(file.path)})
    told = json.dumps(pieces, indent=1).encode()
    write_whole(loads[-1] / LIST, lambda to: to.write(told))
    return loads


def cuts(files: list[File], room: int) -> Iterator[tuple[File | None, int | None, int]]:
    """Yield (file, start, size) of every piece, and (None, None, 0) before each load."""
    left = 0
    for file in files:
        start, end = 0, file.path.stat().st_size
        while start < end:
            if not left:
                yield None, None, 0
                left = room
            size = min(left, end - start)
            yield file, start, size
            start, left = start + size, left - size


def join(folder: Path, data: Path, runs: Path) -> list[Path]:
    """Put the files of all loads into their places.

    Raises:
        FileNotFoundError: a load is missing.
        ValueError: a file is not what it was.
    """
    (told,) = folder.glob(f"*/{LIST}")
    there = {p.name: p for p in folder.glob("*/[0-9]*")}
    written, parts, sums = [], {}, {}
    for piece in json.loads(told.read_text("utf-8")):
        if piece["piece"] not in there:
            raise FileNotFoundError(
                f"{folder} has no piece {piece['piece']}: a load is lost"
            )
        parts.setdefault(piece["place"], []).append(there[piece["piece"]])
        sums[piece["place"]] = piece["sha256"]
    for place, pieces in parts.items():
        kind, _, rest = place.partition("/")
        path = (data if kind == "data" else runs) / rest
        whole = b"".join(piece.read_bytes() for piece in pieces)
        write_whole(path, lambda to, whole=whole: to.write(whole))
        if checksum(path) != sums[place]:
            raise ValueError(f"{place} came with other bytes than it had: carry it again")
        written.append(path)
    return written


def tree_size(root: Path = ROOT) -> int:
    """Return the bytes of a checkout that travel: all that git does not ignore."""
    command = ["git", "-C", str(root), "ls-files", "-coz", "--exclude-standard"]
    names = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    paths = [root / name for name in {*names.split("\0")} - {""}]
    return sum(
        path.lstat().st_size for path in paths if path.is_symlink() or path.is_file()
    )


def ignore(folder: Path) -> None:
    """Let git ignore a folder of its checkout, in this clone only."""
    command = ["git", "-C", str(folder.parent), "rev-parse", "--git-path", "info/exclude"]
    told = subprocess.run(
        command, check=True, capture_output=True, text=True
    ).stdout.strip()
    path, line = folder.parent / told, f"/{folder.name}/"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = path.read_text("utf-8").split("\n") if path.is_file() else []
    if line not in lines:
        path.write_text("\n".join([*filter(None, lines), line, ""]), encoding="utf-8")


def prepare(root: Path, loads: int, mib: float, runs: Path, say: Callable) -> list[Path]:
    """Write the loads, and say which calls of the device tool bring and use them."""
    folder = root / FOLDER
    ignore(folder)
    room = int(mib * MIB) - tree_size(root) - SPARE
    if room <= 0:
        say(f"the checkout alone is larger than {mib} MiB")
        return []
    todo, files = chosen(urgent(), room * loads, runs, say)
    made = load_up(files, folder, room) if files else []
    line = LINE.format(names=" ".join(recipe.name for recipe in todo))
    for load in made:
        last = load == made[-1]
        command = line if last else "true"
        asked = {"carry": [f"{FOLDER}/{load.name}"], "timeout_s": 600 if last else 60}
        say(f"run({json.dumps(asked | {'command': command})})")
    if made:
        say("then, here: gdm train --unpack THE_FOLDER_OF_lane.zip && gdm sync")
    return made


def main() -> None:
    """Prepare loads here, or join them there."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--loads", type=int, default=1, help="how many calls may carry")
    parser.add_argument("--mib", type=float, default=64, help="one call, checkout included")
    parser.add_argument("--join", type=Path, help="put data there instead")
    parser.add_argument("--runs", type=Path, default=RUNS, help="unfinished runs")
    told, start = parser.parse_args(), time.monotonic()
    if not told.join:
        prepare(ROOT, told.loads, told.mib, told.runs, print)
        return
    for path in join(ROOT / FOLDER, told.join, told.runs):
        print(f"{path} ({path.stat().st_size / MIB:.1f} MiB)")
    print(f"joined in {time.monotonic() - start:.1f} s")


if __name__ == "__main__":
    main()
