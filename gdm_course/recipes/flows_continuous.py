"""Recipes of the unit flows/continuous: FFJORD on toy densities, on a CPU."""

from gdm_course.recipes.settings import Metric, Recipe

KL = Metric("KL(truth || model)", "evaluation.likelihood.kl_to_truth", "nats")
STEPS, BATCH = 3000, 512


def recipe(toy: str) -> Recipe:
    """Make the recipe of one toy density; every step draws new points from the truth."""
    return Recipe(
        name=f"flows/ffjord-{toy.replace('_', '-')}",
        unit="flows/continuous",
        model="flows.continuous.FFJORD",
        args=(2,),
        data="scale.points.toy_points",
        data_args=(toy, STEPS * BATCH),
        steps=STEPS,
        batch=BATCH,
        lr=5e-3,
        ema=0.995,
        every=1000,
        metrics=(KL,),
        minutes=4,
    )


RECIPES = (recipe("eight_gaussians"), recipe("pinwheel"))
