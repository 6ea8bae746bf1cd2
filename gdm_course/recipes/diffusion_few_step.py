"""Recipes of the unit diffusion/few_step: one step in the plane, MNIST for a GPU.

A step of MeanFlow costs most, so that its recipe of the plane has fewer steps. Times of the
recipes for a GPU are estimates by `python -m gdm_course.scale.cost`.
"""

from gdm_course.recipes.settings import Metric, Public, Recipe

ENERGY = Metric(
    "energy distance x 1000, one step",
    "evaluation.energy_distance.energy_estimate",
    "rms of the data",
)
FRECHET = Metric(
    "Frechet distance, one step", "evaluation.features.frechet_estimate", "features"
)
SIZE = {"hidden": 96, "depth": 3}


def plane(name: str, model: str, steps: int, goal: float, **more) -> Recipe:
    """Return the recipe of one model of eight bells, about a minute of a CPU."""
    batch = 512
    return Recipe(
        name=f"diffusion/{name}-eight-gaussians",
        unit="diffusion/few_step",
        model=f"scale.few_step.{model}",
        args=(2,),
        kwargs={**SIZE, **more},
        data="scale.few_step.unit_points",
        data_args=("eight_gaussians", steps * batch),
        metrics=(ENERGY,),
        steps=steps,
        batch=batch,
        lr=3e-3,
        clip=1.0,
        ema=0.998,
        every=1000,
        goal=goal,
        minutes=1,
    )


def mnist(name: str, model: str, priority: int, public: Public, **more) -> Recipe:
    """Return the recipe of a one-step model of MNIST, at most four minutes of a GPU.

    The goal is twice the Frechet distance that 50 steps of a diffusion reach: to be set
    beside its first figure.
    """
    return Recipe(
        name=f"diffusion/{name}-mnist",
        unit="diffusion/few_step",
        model=f"scale.few_step.{model}",
        args=((1, 28, 28), 256),
        kwargs={"width": 48, "mult": (1, 2, 2), **more},
        data="scale.data.image_codes",
        data_args=("mnist",),
        metrics=(FRECHET,),
        steps=20_000,
        batch=256,
        lr=1e-3,
        warmup=500,
        clip=1.0,
        ema=0.999,
        every=4000,
        precision="bf16-mixed",
        channels_last=True,
        public=public,
        device="gpu",
        minutes=4,
        priority=priority,
    )


RECIPES = (
    plane("consistency", "PlaneConsistency", 5000, 3.0),
    plane("shortcut", "PlaneShortcut", 5000, 3.0),
    plane("meanflow", "PlaneMeanFlow", 2000, 6.0),
    mnist(
        "consistency",
        "PictureConsistency",
        21,
        Public("FID 2.83 on CIFAR-10", "iCT, one step, 400,000 steps of 1,024"),
    ),
    mnist(
        "meanflow",
        "PictureMeanFlow",
        22,
        Public("FID 2.92 on CIFAR-10", "MeanFlow, one step"),
    ),
)
