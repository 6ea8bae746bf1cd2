"""Recipes of the unit flows/planar: many small steps on toy densities, on a CPU."""

from gdm_course.recipes.settings import Metric, Recipe

KL = Metric("KL(truth || model)", "evaluation.likelihood.kl_to_truth", "nats")
STEPS, BATCH = 2500, 512
SETTINGS = {
    "unit": "flows/planar",
    "args": (2,),
    "data": "scale.points.toy_points",
    "steps": STEPS,
    "batch": BATCH,
    "lr": 1e-2,
    "ema": 0.995,
    "every": 500,
    "metrics": (KL,),
}

RECIPES = (
    Recipe(
        name="flows/planar-two-moons",
        model="flows.planar.PlanarFlow",
        kwargs={"layers": 32},
        data_args=("two_moons", STEPS * BATCH),
        minutes=2,
        **SETTINGS,
    ),
    Recipe(
        name="flows/radial-ring",
        model="flows.radial.RadialFlow",
        kwargs={"layers": 32},
        data_args=("ring", STEPS * BATCH),
        minutes=2,
        **SETTINGS,
    ),
)
