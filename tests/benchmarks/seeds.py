"""How much of a card's figure is its seed: the same recipe, trained from several.

`python -m tests.benchmarks.seeds gan/eight-gaussians 5` trains with seeds 0 to 4 into a
folder that is thrown away, and prints every figure of the test split with its CPU seconds.
"""

import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from lightning.fabric import Fabric

from gdm_course import recipes
from gdm_course.scale.runner import fit


def figures(name: str, seed: int) -> tuple[dict[str, float], float]:
    """Train a recipe from a seed: its figures on the test split, and CPU seconds."""
    recipe = replace(recipes.get(name), seed=seed)
    fabric = Fabric(accelerator="cpu", devices=1, precision=recipe.precision)
    fabric.launch()
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        card = fit(recipe, fabric, at / "runs", at, resume=False, say=lambda line: None)
    spent = time.process_time() - began
    assert card is not None  # nothing paused it
    measured = (f for f in card["figures"] if f["split"] == "test")
    return {f["metric"]: f["value"] for f in measured}, spent


def lines(name: str, seeds: int) -> Iterator[str]:
    """Yield a line for each seed."""
    for seed in range(seeds):
        found, spent = figures(name, seed)
        told = ", ".join(f"{metric} {value:.4g}" for metric, value in found.items())
        yield f"{name}, seed {seed}: {told}; {spent:.0f} CPU s"


if __name__ == "__main__":
    torch.set_num_threads(1)
    for line in lines(sys.argv[1], int(sys.argv[2])):
        print(line, flush=True)
