"""Recipes of the unit gan/gan: eight Gaussians by two players, on a CPU."""

from gdm_course.recipes.settings import Metric, Recipe

GOOD = Metric("samples within 3 sigma", "scale.modes.good_share", "share", lower=False)
MODES = Metric("modes found", "scale.modes.found_modes", "of 8", lower=False)
STEPS, BATCH = 6000, 256

RECIPES = (
    # Of seeds 0 to 4: 0.972, 0.960, 0.973, 0.965 and 0.955 of the samples are good, all eight
    # modes are found each time, in 38 seconds of a processor at most.
    # `python -m tests.benchmarks.seeds gan/eight-gaussians 5` measures it again.
    Recipe(
        name="gan/eight-gaussians",
        unit="gan/gan",
        model="gan.gan.RelativisticGAN",
        args=(2,),
        kwargs={"depth": 3, "r1": 0.02, "r2": 0.02},
        loop="gan.gan.train_gan",
        optimizer="training.for_players",
        data="scale.points.toy_points",
        data_args=("eight_gaussians", STEPS * BATCH),
        steps=STEPS,
        batch=BATCH,
        lr=4e-3,
        ema=0.995,
        every=1000,
        metrics=(GOOD, MODES),
        goal=0.95,
        minutes=1,
    ),
)
