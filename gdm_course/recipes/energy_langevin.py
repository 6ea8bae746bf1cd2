"""Recipes of the unit energy/langevin: a deep energy by its likelihood, on a CPU."""

from gdm_course.recipes.settings import Metric, Recipe

KL = Metric("KL(truth || model)", "scale.deep_energies.grid_kl", "nats")
STEPS, BATCH, SIDE = 600, 256, (-4.4, 4.4)

RECIPES = (
    Recipe(
        name="energy/exact-eight-gaussians",
        unit="energy/langevin",
        model="energy.langevin.ExactEnergyModel",
        args=(2, (SIDE, SIDE)),
        kwargs={"width": 2.1},
        data="scale.points.toy_points",
        data_args=("eight_gaussians", STEPS * BATCH),
        steps=STEPS,
        batch=BATCH,
        lr=1e-2,
        every=200,
        metrics=(KL,),
        goal=0.1,
        minutes=1,
    ),
)
