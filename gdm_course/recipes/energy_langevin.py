"""Recipes of the unit energy/langevin: a deep energies, by likelihood and by chains."""

from gdm_course.recipes.settings import Metric, Recipe

KL = Metric("KL(truth || model)", "scale.deep_energies.grid_kl", "nats")
FRECHET = Metric("Frechet distance", "scale.deep_energies.frechet", "own, 64 features")
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
    Recipe(
        name="energy/conv-mnist",
        unit="energy/langevin",
        model="energy.pictures.ConvEnergyModel",
        args=(784,),
        kwargs={"places": 10_000, "fresh": 0.02},
        data="scale.deep_energies.grey_vectors",
        data_args=("mnist",),
        begin="scale.deep_energies.fit_bowl",
        steps=5000,
        batch=200,
        lr=1e-3,
        warmup=200,
        clip=10.0,
        ema=0.999,
        every=1000,
        metrics=(FRECHET,),
        device="gpu",
        minutes=4,
    ),
)
