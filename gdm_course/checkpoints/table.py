"""The measured models as markdown, one table for each data set: made from cards alone."""

import math
from itertools import groupby
from pathlib import Path
from typing import Any

from gdm_course import checkpoints, recipes
from gdm_course.data.registry import datasets

HEAD = "recipe|model|data|test figure|unit|goal|best published, and its cost"
HEAD += "|parameters|trained in|on|seed"
MADE = {  # data that the course draws itself
    "scale.points.toy_points": "Densities in the plane",
    "scale.factors.shape_bits": "Pictures of shapes",
    "scale.sound.spoken_codes": "Spoken digits",
    "scale.translation.unpaired": "MNIST and USPS, unpaired",
    "scale.streams.stream_points": "Densities in the plane, as a stream",
    "scale.few_step.unit_points": "Eight gaussians, in few steps",
    "scale.flow_pairs.reflowed": "Eight gaussians, straightened",
    "scale.flow_pairs.encoded": "Codes of MNIST",
}


def table(folder: Path = checkpoints.FOLDER) -> str:
    """Draw a table of the recipes of every data set, in the course's order."""
    titles = list(dict.fromkeys(map(data_of, recipes.RECIPES)))
    ordered = sorted(recipes.RECIPES, key=lambda recipe: titles.index(data_of(recipe)))
    head = [HEAD.split("|"), ["---"] * (HEAD.count("|") + 1)]
    parts = []
    for title, group in groupby(ordered, data_of):
        rows = [*head, *(row(recipe, folder) for recipe in group)]
        lines = ["| " + " | ".join(cells) + " |" for cells in rows]
        parts.append("\n".join([f"**{title}**", "", *lines]))
    return "\n\n".join(parts)


def data_of(recipe: recipes.Recipe) -> str:
    """Name the data whose figures can be compared with each other."""
    if recipe.name.startswith("evaluation/"):
        return "Classifiers, by whose features samples are compared"
    if recipe.data in MADE:
        return MADE[recipe.data]
    name = str(recipe.data_args[0])
    title = datasets()[name].title if name in datasets() else name
    title = title[:1].upper() + title[1:]
    cut = recipe.data == "scale.data.binary_images" and "binari" not in name
    return f"{title}, cut at half of its grey values" if cut else title


def row(recipe: recipes.Recipe, folder: Path) -> list[str]:
    """Return the cells of one recipe."""
    metric, public = recipe.metrics[recipe.aim], recipe.public
    first = [f"`{recipe.name}`", recipe.model.rpartition(".")[2]]
    best = f"{public.figure}: {public.cost}" if public else ""
    aims = [metric.unit, goal(recipe), best]
    try:
        told = checkpoints.card(recipe.name, folder)
    except FileNotFoundError:
        return [
            *first,
            data_of(recipe),
            "not yet measured",
            *aims,
            "",
            "",
            "",
            str(recipe.seed),
        ]
    found = [f for f in told["figures"] if f["split"] == "test"][recipe.aim]
    value = _figure(found["value"], found["error"])
    if reason := checkpoints.pending(recipe.name, folder):
        value += " (older than its code)" if "code" in reason else " (with older settings)"
    made = [f"{told['parameters']:,}", cost(told), where(told)]
    return [*first, told["data"], value, *aims, *made, str(told["seed"])]


def goal(recipe: recipes.Recipe) -> str:
    """Say what is to be reached, and in brackets what may or may not be."""
    if recipe.goal is None:
        return ""
    sign = "≤" if recipe.metrics[recipe.aim].lower else "≥"
    more = "" if recipe.stretch is None else f" ({recipe.stretch})"
    return f"{sign} {recipe.goal}{more}"


def where(told: dict[str, Any]) -> str:
    """Name the device of a card, and how many shared it."""
    others = len(told.get("beside", []))
    return told["device"] + (f", beside {others} more" if others else "")


def cost(told: dict[str, Any]) -> str:
    """Say what training took: of the processor, or by a clock, beside who knows what else.

    One thread alone on a machine would take as long as the first says, or less than the
    second. For a GPU only its clock counts.
    """
    if "CPU" not in told["device"]:
        return _minutes(told["seconds"])
    if "processor_seconds" in told:
        return _minutes(told["processor_seconds"])
    return "≤ " + _minutes(told["seconds"])


def _figure(value: float, error: float) -> str:
    """Give a figure two digits after the point, or as many as its error asks for."""
    digits = 2 if error <= 0 else max(2, math.ceil(-math.log10(error)))
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
