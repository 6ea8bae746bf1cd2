"""`gdm train`: run recipes here, on a GPU, or on many; light to import."""

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from gdm_course import checkpoints, recipes
from gdm_course.console import told
from gdm_course.environment import must_write

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
) -> None:
    """Train recipes and write their checkpoints and cards; killed runs go on.

    With --steps or --precision it is a trial: results go to --out, or build/trials.

    When code has changed since: --measure takes all figures of kept weights anew (of those
    named, or of all whose card is older than its code) and renews the cards, unless a
    changed model gives other figures. --confirm NAME renews a card on your word alone.
    """
    folder = out or checkpoints.FOLDER
    if measure or (confirm and names):
        raise typer.Exit(_all(names or _older(folder), partial(_renew, confirm, folder)))
    if show or not (names or pending):
        return typer.echo(checkpoints.table(folder))
    todo = _chosen(names or [], pending, folder)
    todo, folder = _planned(todo, {"steps": steps, "precision": precision}, folder, out)
    machine = {"devices": devices, "num_nodes": num_nodes, "accelerator": accelerator}
    raise typer.Exit(_all(todo, lambda r: _run(r, machine, folder, runs, resume, minutes)))


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


def _older(folder: Path) -> list[str]:
    """Names of the cards that are older than some code, of kept weights."""
    files = {name: checkpoints.paths(name, folder) for name in recipes.names()}
    there = [name for name, pair in files.items() if all(p.is_file() for p in pair)]
    return [name for name in there if not checkpoints.measured(name, folder)]


def _renew(confirm: bool, folder: Path, name: str) -> bool:
    """Renew one card, say how that ended, and return whether it did not fail."""
    from gdm_course.scale import again

    must_write(folder, "give --out a folder that you may write to")
    try:
        card = (again.confirm if confirm else again.measure_again)(name, folder)
    except (again.Changed, LookupError, OSError) as error:
        sentence = told(error) if isinstance(error, OSError) else None
        _say(f"✘ {name}: {sentence or error}")
        return False
    first = card["figures"][0]
    _say(f"✔ {name}: {first['metric']} {first['value']:.4f} ± {first['error']:.4f}")
    return True


def _chosen(names: list[str], pending: bool, folder: Path) -> list[recipes.Recipe]:
    """Return the recipes asked for by name, and the pending ones that fit this machine."""
    try:
        todo = [recipes.get(name) for name in names]
    except LookupError as error:
        raise typer.BadParameter(str(error)) from None
    for recipe in recipes.RECIPES if pending else ():
        reason = checkpoints.pending(recipe.name, folder)
        if reason is None or recipe in todo:
            continue
        if recipe.device == "gpu" and not _has_gpu():
            _say(f"{recipe.name}: {reason}; skipped, for it wants a GPU (or give its name)")
            continue
        _say(f"{recipe.name}: {reason}")
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
    from gdm_course.scale.run import OtherRun
    from gdm_course.scale.runner import RUNS, fit

    for folder in (out, runs or RUNS):
        must_write(folder, "give --out and --runs folders that you may write to")
    limit = float("inf") if minutes is None else minutes
    try:
        card = fit(recipe, fabric, runs or RUNS, out, resume, limit, _say)
    except (FloatingPointError, OtherRun, OSError) as error:
        if fabric.world_size > 1:
            raise  # the other processes wait for this one: all have to end
        sentence = told(error) if isinstance(error, OSError) else None
        _say(f"✘ {recipe.name}: {sentence or error}")
        return False
    if card:
        _say(_result(recipe, card, out))
    return True


def _result(recipe: recipes.Recipe, card: dict, out: Path) -> str:
    """Say in one line what a finished run reached, beside its goal."""
    told = card["figures"][0]
    text = f"✔ {recipe.name}: {told['metric']} {told['value']:.3f} ± {told['error']:.3f}"
    text += f" {told['unit']} on the {told['n']} test examples, {card['seconds']:.0f} s"
    if recipe.goal is not None:
        better = told["value"] <= recipe.goal
        if not recipe.metrics[0].lower:
            better = told["value"] >= recipe.goal
        text += f"; goal {recipe.goal} {'met' if better else 'missed'}"
    return f"{text}; {checkpoints.paths(recipe.name, out)[1]}"


def _say(line: str) -> None:
    """Print from the first process only, at once."""
    if os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0":
        print(line, flush=True, file=sys.stdout)
