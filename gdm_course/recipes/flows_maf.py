"""Recipes of the unit flows/maf: one spline flow for each toy density, on a CPU."""

from gdm_course.recipes.settings import Metric, Recipe

KL = Metric("KL(truth || model)", "evaluation.likelihood.kl_to_truth", "nats")
BATCH = 512
MORE = {"grid": 6000}  # steps, where 2,500 are too few: 25 heaps with gaps between them
SMOOTH = ("eight_gaussians", "ring", "two_moons", "pinwheel", "spirals", "grid")
SMOOTH += ("banana", "funnel")
EDGES = ("checkerboard", "word", "face")  # squares, whose edges are a few hundredths wide


def recipe(toy: str) -> Recipe:
    """Make the recipe of one toy density; every step draws new points from the truth."""
    steps = MORE.get(toy, 2500)
    return Recipe(
        name=f"flows/spline-{toy.replace('_', '-')}",
        unit="flows/maf",
        model="flows.spline.SplineFlow",
        args=(2,),
        data="scale.points.toy_points",
        data_args=(toy, steps * BATCH),
        steps=steps,
        batch=BATCH,
        lr=5e-3,
        ema=0.995,
        every=500,
        metrics=(KL,),
        goal=0.02 if toy in SMOOTH else None,
        minutes=1,
    )


RECIPES = tuple(recipe(toy) for toy in (*SMOOTH, *EDGES))
