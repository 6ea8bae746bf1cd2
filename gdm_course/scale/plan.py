"""What of a run follows from the time there is: its steps, and what hangs on them."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from gdm_course.recipes import Recipe
from gdm_course.recipes.settings import fall

EVALUATIONS = 12  # of a fitted run at most, so that it can be resumed from so many steps


@dataclass(frozen=True)
class Plan:
    """The steps of a run and its schedule of learning rates.

    The rate rises over `warmup` steps and then falls. When the plan changes under way, at
    step `since`, so much of the fall is `done`, and the rest of it is stretched or
    squeezed over the steps that are left: the rate never jumps.

    Attributes:
        steps, every, warmup, batch, lr: as in a recipe.
        since, done: where the present stretch of the fall begins.
    """

    steps: int
    every: int
    warmup: int
    batch: int
    lr: float
    since: int
    done: float = 0.0

    @staticmethod
    def of(recipe: Recipe) -> "Plan":
        """Return the plan of a recipe that gets all the time it wants."""
        r = recipe
        return Plan(r.steps, r.every, r.warmup, r.batch, r.lr, since=r.warmup)

    def progress(self, step: int) -> float:
        """Return how much of the fall is done at step 0, 1, ...: from 0 to 1."""
        part = (step - self.since) / max(self.steps - self.since, 1)
        return self.done + (1 - self.done) * part

    def rate(self, step: int) -> float:
        """Return the learning rate of step 0, 1, ..."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        return fall(self.lr, self.progress(step))


def fitted(plan: Plan, step: int, steps: int, evaluations: int) -> Plan:
    """Return a plan with another number of steps from `step` on, where the run is now."""
    every = max(1, steps // max(1, min(evaluations, EVALUATIONS)))
    if step <= plan.warmup:
        warmup = max(step, min(plan.warmup, steps // 10))
        return replace(plan, steps=steps, every=every, warmup=warmup, since=warmup)
    done = min(plan.progress(step), 1.0)
    return replace(plan, steps=steps, every=every, since=step, done=done)


def smaller(plan: Plan) -> Plan:
    """Return a plan with half the batch, and the rate that Adam wants for that."""
    return replace(plan, batch=max(1, plan.batch // 2), lr=plan.lr / 2**0.5)


def changes(plan: Plan, recipe: Recipe) -> dict[str, Any]:
    """Return what differs from the recipe's own plan, for a card."""
    own = asdict(Plan.of(recipe))
    return {k: v for k, v in asdict(plan).items() if v != own[k]}
