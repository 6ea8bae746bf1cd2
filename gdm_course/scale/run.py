"""A run in progress: what it consists of, how it starts, and how it outlives a kill."""

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gdm_course.chance import chance, set_chance, set_seeds
from gdm_course.checkpoints.fingerprint import fingerprint
from gdm_course.recipes import ONE_LOSS, Recipe, differs, resolve
from gdm_course.scale.data import Splits
from gdm_course.scale.plan import Plan
from gdm_course.scale.state import save
from gdm_course.training import ema

# what of a Run is kept as it is
KEPT = ("step", "best", "best_step", "value", "waited")
KEPT += ("seconds", "processor", "beside")


class OtherRun(RuntimeError):
    """The unfinished run on disk was started with other settings or other code."""


@dataclass
class Run:
    """A run in progress.

    Attributes:
        plan, average: its steps and schedule; the averaged weights, None without.
        step: optimiser steps taken so far.
        best, best_step, value: the weights chosen so far and their validation figure.
        waited: evaluations since then.
        seconds, processor, beside: of the clock and of it; who shared the device.
        losses: of the steps since the last evaluation.
    """

    recipe: Recipe
    model: nn.Module
    average: nn.Module | None
    optimizer: torch.optim.Optimizer
    splits: Splits
    code: dict[str, str]
    plan: Plan
    step: int = 0
    best: dict[str, torch.Tensor] | None = None
    best_step: int = 0
    value: float = math.nan
    waited: int = 0
    seconds: float = 0.0
    processor: float = 0.0
    beside: list[str] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    @property
    def over(self) -> bool:
        """All steps are taken, or the validation figure has long stopped improving."""
        patience = self.recipe.patience
        tired = patience is not None and self.waited >= patience
        return self.step >= self.plan.steps or tired

    def chosen(self) -> nn.Module:
        """Return the module that is evaluated and kept: the average, if there is one."""
        return self.model if self.average is None else self.average


def prepare(recipe: Recipe, fabric: Any) -> Run:
    """Build model, optimiser and data of a run at step 0."""
    set_seeds(recipe.seed)
    model = recipe.build().to(fabric.device)
    if recipe.channels_last:
        model = model.to(memory_format=torch.channels_last)
    splits = resolve(recipe.data)(*recipe.data_args).to(fabric.device)
    if recipe.begin:
        resolve(recipe.begin)(model, splits.train)
    average = follower(model, recipe) if recipe.ema else None
    optimizer = resolve(recipe.optimizer)(model, recipe.lr, recipe.weight_decay)
    set_seeds(recipe.seed * 2**16 + 1 + fabric.global_rank)  # own noise per process
    code, plan = fingerprint(recipe.model), Plan.of(recipe)
    return Run(recipe, model, average, optimizer, splits, code, plan)


def follower(model: nn.Module, recipe: Recipe) -> nn.Module:
    """Return the copy of a model that becomes its average.

    Of two players only the generator's weights are averaged: the copy shares the other's,
    so whoever evaluates or keeps the copy has the discriminator as it is now.
    """
    average = copy.deepcopy(model).requires_grad_(False)
    if recipe.loop != ONE_LOSS:
        average.discriminator = model.discriminator
    return average


def count_step(run: Run) -> None:
    """Book one optimiser step, and move the average, whose memory grows at first."""
    run.step += 1
    if run.average is not None:
        ema(run.average, run.model, min(run.recipe.ema, (1 + run.step) / (10 + run.step)))


@contextmanager
def naming(run: Run) -> Iterator[None]:
    """Let a loss that is not finite say which run it was, and from where steps count."""
    since = run.step
    try:
        yield
    except FloatingPointError as error:
        what = str(error).partition(": ")[2]
        raise FloatingPointError(f"{run.recipe.name}, from step {since}: {what}") from None


def keep(run: Run, fabric: Any, path: Path) -> None:
    """Write the whole state of a run; all processes take part, the first one writes."""
    noise = [chance()]
    if fabric.world_size > 1:
        noise = [None] * fabric.world_size
        torch.distributed.all_gather_object(noise, chance())
    state = {name: getattr(run, name) for name in KEPT} | {"plan": asdict(run.plan)}
    state |= {"settings": run.recipe.settings(), "code": run.code, "noise": noise}
    state |= {"model": run.model.state_dict(), "optimizer": run.optimizer.state_dict()}
    state |= {"average": None if run.average is None else run.average.state_dict()}
    if fabric.is_global_zero:
        save(path, state)


def restore(run: Run, state: dict[str, Any], fabric: Any) -> None:
    """Put a run back to where `keep` saw it, after checking that it is the same run."""
    other = differs(run.recipe, state["settings"]) or ["code"] * (state["code"] != run.code)
    if other:
        raise OtherRun(
            f"the unfinished run of {run.recipe.name} had another {', '.join(other)}: "
            "go back to that, or start over with --no-resume"
        )
    run.model.load_state_dict(state["model"])
    run.optimizer.load_state_dict(state["optimizer"])
    if run.average is not None:
        run.average.load_state_dict(state["average"])
    run.plan = Plan(**state["plan"])
    for name in KEPT:
        setattr(run, name, state[name])
    if len(state["noise"]) == fabric.world_size:
        set_chance(state["noise"][fabric.global_rank])
