"""`gdm train --jobs` and `--unpack`: a window of minutes, and what came out of one."""

import contextlib
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import typer

from gdm_course import checkpoints
from gdm_course.environment import must_write
from gdm_course.recipes import Recipe
from gdm_course.scale.job import RUNS
from gdm_course.scale.lane import Lane, run
from gdm_course.scale.pack import pack

RESERVE = 0.02  # of a window, and a second: for the archive


def spend(todo: list[Recipe], o: SimpleNamespace, out: Path, say: Callable) -> int:
    """Train recipes for `o.minutes`, pack what came out, and return the exit status.

    Args:
        todo: recipes, the most urgent first.
        o: the options of `gdm train`: jobs, minutes, pack, volumes, runs, accelerator;
            and `start`, since when the minutes count.
        out: folder of checkpoints.
    """
    if o.minutes is None or o.minutes <= 0 or o.jobs < 1:
        raise typer.BadParameter("--jobs N (1 or more) needs --minutes, as in --minutes 9")
    if o.pack and not o.out:
        raise typer.BadParameter("--pack needs --out: the archive goes there too")
    if o.steps or o.precision:
        raise typer.BadParameter("--steps and --precision are for a trial, without --jobs")
    say = whatever_happens(say)
    runs, seconds = o.runs or RUNS, 60 * o.minutes
    for folder in (out, runs):
        must_write(folder, "give --out and --runs folders that you may write to")
    reserve = time.monotonic() - o.start + (RESERVE * seconds + 1 if o.pack else 0)
    lane = Lane(todo, o.jobs, seconds - reserve, out, runs, o.accelerator, o.resume, say)
    ended = run(lane)
    for recipe in todo:
        say(result(recipe, ended[recipe.name], out))
    if o.pack:
        for path in pack(todo, out, runs, o.pack, o.volumes, say):
            say(f"packed {path} ({path.stat().st_size / 2**20:.2f} MiB)")
    counts = ", ".join(f"{n} {how}" for how, n in Counter(ended.values()).items())
    say(f"{counts or 'nothing to do'}, in {time.monotonic() - o.start:.0f} s")
    return int("failed" in ended.values())


def whatever_happens(say: Callable) -> Callable:
    """Return `say` for a console that may go away, which must not end the window."""

    def tell(line: str) -> None:
        with contextlib.suppress(OSError):
            say(line)

    return tell


def result(recipe: Recipe, how: str, out: Path) -> str:
    """Say in one line how a recipe ended."""
    if how == "finished":
        return reached(recipe, checkpoints.card(recipe.name, out), out)
    words = {
        "paused": "goes on in the next window",
        "waiting": "was not begun: no time was left",
        "failed": "failed; what it had saved last is kept",
    }
    return f"{'✘' if how == 'failed' else '…'} {recipe.name}: {words[how]}"


def reached(recipe: Recipe, card: dict, out: Path) -> str:
    """Say in one line what a finished run reached, beside its goal."""
    told = [f for f in card["figures"] if f["split"] == "test"][recipe.aim]
    text = f"✔ {recipe.name}: {told['metric']} {told['value']:.3f} ± {told['error']:.3f}"
    text += f" {told['unit']} on the {told['n']} test examples, {card['seconds']:.0f} s"
    if recipe.goal is not None:
        better = told["value"] <= recipe.goal
        if not recipe.metrics[recipe.aim].lower:
            better = told["value"] >= recipe.goal
        text += f"; goal {recipe.goal} {'met' if better else 'missed'}"
    return f"{text}; {checkpoints.paths(recipe.name, out)[1]}"


def put(path: Path, out: Path, runs: Path | None, say: Callable) -> int:
    """Put what an archive holds into its places; the exit status."""
    from gdm_course.scale.unpack import Damaged, unpack

    runs = runs or RUNS
    for folder in (out, runs):
        must_write(folder, "give --out and --runs folders that you may write to")
    try:
        for place in unpack(path, out, runs):
            say(f"wrote {place}")
    except (Damaged, FileNotFoundError) as error:
        say(f"✘ {error}")
        return 1
    return 0
