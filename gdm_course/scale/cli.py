"""`gdm train`: run recipes here, on a GPU, or on many; light to import."""

import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated

import typer

from gdm_course import checkpoints, recipes
from gdm_course.checkpoints.table import table
from gdm_course.console import told
from gdm_course.environment import must_write
from gdm_course.scale import renewal

Option = typer.Option


def train_command(
    names: Annotated[list[str] | None, typer.Argument(help="Recipes to run.")] = None,
    show: Annotated[bool, Option("--list", help="Print the table of recipes.")] = False,
    pending: Annotated[bool, Option(help="Run what is missing or stale.")] = False,
    measure: Annotated[bool, Option(help="Only measure kept weights again.")] = False,
    confirm: Annotated[bool, Option(help="Say that no result of these changed.")] = False,
    devices: Annotated[str, Option(help="How many devices per host.")] = "1",
    num_nodes: Annotated[int, Option(help="How many hosts.")] = 1,
    accelerator: Annotated[str, Option(help="auto, cpu, gpu ...")] = "auto",
    precision: Annotated[str | None, Option(help="32-true or bf16-mixed.")] = None,
    steps: Annotated[int | None, Option(help="A trial with other steps.")] = None,
    minutes: Annotated[float | None, Option(help="Pause each recipe after that.")] = None,
    resume: Annotated[bool, Option(help="Go on with an unfinished run.")] = True,
    out: Annotated[Path | None, Option(help="Folder of checkpoints.")] = None,
    runs: Annotated[Path | None, Option(help="Folder of unfinished runs.")] = None,
    jobs: Annotated[int | None, Option(help="So many at once, for --minutes.")] = None,
    pack: Annotated[float | None, Option(help="Then an archive of such MiB.")] = None,
    volumes: Annotated[int, Option(help="Cut into up to so many files.")] = 1,
    unpack: Annotated[Path | None, Option(help="Put an archive in place.")] = None,
) -> None:
    """Train recipes and write their checkpoints and cards; killed runs go on.

    With --steps or --precision it is a trial: results go to --out, or build/trials.

    With --jobs, several recipes share the device for --minutes: each fits its steps and its
    schedule to its share, and what is not done by then goes on next time. --pack MIB makes
    one archive of what came out, which --unpack puts in place, here or elsewhere.

    When code has changed since: --measure takes all figures of kept weights anew (of those
    named, or of all whose card is older than its code) and renews the cards, unless a
    changed model gives other figures. --confirm NAME renews a card on your word alone.
    """
    raise typer.Exit(_train(SimpleNamespace(**locals())))


def _train(o: SimpleNamespace) -> int:
    """Do what the options of `train_command` say; the exit status."""
    folder = o.out or checkpoints.FOLDER
    if o.unpack or o.jobs is not None:
        from gdm_course.scale import window

        o.start = time.monotonic()
        if o.unpack:
            return window.put(o.unpack, folder, o.runs, _say)
        return window.spend(_in_order(o, folder), o, folder, _say)
    if o.measure or (o.confirm and o.names):
        todo = o.names or renewal.older(folder)
        return _all(todo, partial(renewal.renew, o.confirm, folder, _say))
    if o.show or not (o.names or o.pending):
        typer.echo(table(folder))
        return 0
    todo = _chosen(o.names or [], o.pending, [folder])
    changed = {"steps": o.steps, "precision": o.precision}
    todo, folder = _planned(todo, changed, folder, o.out)
    machine = {k: getattr(o, k) for k in ("devices", "num_nodes", "accelerator")}
    return _all(todo, lambda r: _run(r, machine, folder, o.runs, o.resume, o.minutes))


def _in_order(o: SimpleNamespace, folder: Path) -> list[recipes.Recipe]:
    """Return the recipes for a window, the most urgent first: by priority, then by course.

    Beside those that are named: what is pending in the course and not in --out yet either,
    and meant for a device such as there is.
    """
    folders = list(dict.fromkeys([checkpoints.FOLDER, folder]))
    todo = _chosen(o.names or [], o.pending, folders, only_fitting=True, on=o.accelerator)
    return sorted(todo, key=lambda recipe: recipe.priority or math.inf)


def _planned(
    todo: list[recipes.Recipe], changed: dict, folder: Path, out: Path | None
) -> tuple[list[recipes.Recipe], Path]:
    """The recipes and their folder; with other settings it is a trial, kept apart."""
    if {*changed.values()} == {None}:
        return todo, folder
    return [_trial(r, **changed) for r in todo], out or Path("build/trials")


def _all(items: list, do: Callable[..., bool]) -> int:
    """Do it to each, also after a failure; the exit status, 0 if all went well."""
    return int(not all([do(item) for item in items]))


def _chosen(
    names: list[str],
    pending: bool,
    folders: list[Path],
    only_fitting: bool = False,
    on: str = "auto",
) -> list[recipes.Recipe]:
    """Return the recipes asked for by name, and the pending ones that fit this machine.

    Args:
        folders: a recipe is pending if it is so in each of them.
        only_fitting: leave those for a CPU out where there is a GPU.
        on: the accelerator that was asked for.
    """
    try:
        todo = [recipes.get(name) for name in names]
    except LookupError as error:
        raise typer.BadParameter(str(error)) from None
    gpu = pending and on != "cpu" and _has_gpu()
    for recipe in recipes.RECIPES if pending else ():
        reasons = [checkpoints.pending(recipe.name, folder) for folder in folders]
        if not all(reasons) or recipe in todo:
            continue
        if only_fitting and gpu and recipe.device == "cpu":
            continue
        if recipe.device == "gpu" and not gpu:
            why = "skipped, for it wants a GPU (or give its name)"
            _say(f"{recipe.name}: {reasons[0]}; {why}")
            continue
        _say(f"{recipe.name}: {reasons[0]}")
        todo.append(recipe)
    return todo


def _trial(recipe: recipes.Recipe, steps: int | None, precision: str | None):
    """Return the recipe with other settings, evaluated at least once."""
    steps = steps or recipe.steps
    changed = {"steps": steps, "precision": precision or recipe.precision}
    try:
        return replace(recipe, **changed, every=min(recipe.every, steps))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _fabric(recipe: recipes.Recipe, devices: str, **machine):
    """Start Lightning Fabric, and with it the other processes if there are to be any."""
    try:
        from lightning.fabric import Fabric
    except ImportError:
        raise typer.BadParameter(
            "training needs lightning: pip install lightning"
        ) from None
    count = int(devices) if devices.lstrip("-").isdigit() else devices
    fabric = Fabric(**machine, devices=count, precision=recipe.precision)
    fabric.launch()
    return fabric


def _run(
    recipe, machine: dict, out: Path, runs: Path | None, resume: bool, minutes
) -> bool:
    """Run one recipe, say how it ended, and return whether it did not fail."""
    fabric = _fabric(recipe, **machine)
    from gdm_course.scale.pace import Pace
    from gdm_course.scale.run import OtherRun
    from gdm_course.scale.runner import RUNS, fit
    from gdm_course.scale.window import reached

    for folder in (out, runs or RUNS):
        must_write(folder, "give --out and --runs folders that you may write to")
    pace = Pace(float("inf") if minutes is None else minutes)
    try:
        card = fit(recipe, fabric, runs or RUNS, out, resume, _say, pace)
    except (FloatingPointError, OtherRun, OSError, ValueError) as error:
        if fabric.world_size > 1:
            raise  # the other processes wait for this one: all have to end
        sentence = told(error) if isinstance(error, OSError) else None
        _say(f"✘ {recipe.name}: {sentence or error}")
        return False
    if card:
        _say(reached(recipe, card, out))
    return True


def _say(line: str) -> None:
    """Print from the first process only, at once."""
    if os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0":
        print(line, flush=True, file=sys.stdout)
