"""Recipes of the unit diffusion/ddpm. The bound is an upper one for -log p.

Times of recipes for a GPU are estimates by `python -m gdm_course.scale.cost`.
"""

from gdm_course.recipes.settings import Metric, Public, Recipe

BOUND = Metric("bound", "evaluation.chains.chain_bits", "bits/dim")
STEPS, BATCH = 1500, 512


def points(
    name: str, toy: str, shift: tuple[float, float], scale: float, of: str
) -> Recipe:
    """Return the recipe of one density in the plane, about ten seconds of a CPU."""
    return Recipe(
        name=name,
        unit="diffusion/ddpm",
        model="diffusion.ddpm.PointDDPM",
        args=(2,),
        kwargs={"shift": shift, "scale": scale},
        data="scale.points.toy_points",
        data_args=(toy, STEPS * BATCH),
        metrics=(Metric("bound above the best", f"evaluation.chains.{of}_excess", "nats"),),
        steps=STEPS,
        batch=BATCH,
        lr=5e-3,
        ema=0.99,
        every=500,
        goal=0.1,
        minutes=1,
    )


JUMPS = tuple(
    Metric(f"Frechet distance, {n} jumps", f"evaluation.jumps.jumps_{n}", "features")
    for n in (5, 10, 20, 50)
)
PICTURES = {
    "unit": "diffusion/ddpm",
    "model": "diffusion.unet.ImageDDPM",
    "metrics": (BOUND,),
    "clip": 1.0,
}
ON_CPU = {
    "kwargs": {"width": 16, "mult": (1, 2, 2), "classes": 10, "drop": 0.5},
    "data": "scale.pictures.labelled_codes",
    "batch": 64,
    "lr": 2e-3,
    "warmup": 100,
    "ema": 0.995,
    "every": 1750,
    "precision": "bf16-mixed",
    "minutes": 20,
    **PICTURES,
}
ON_GPU = {
    "data": "scale.data.image_codes",
    "precision": "bf16-mixed",
    "channels_last": True,
    "device": "gpu",
    "minutes": 4,
}

RECIPES = (
    points("diffusion/two-moons", "two_moons", (0.5, 0.25), 0.7, "moons"),
    points("diffusion/eight-gaussians", "eight_gaussians", (0.0, 0.0), 1.4, "bells"),
    Recipe(
        name="diffusion/ddpm-digits",
        args=((1, 8, 8), 17),
        kwargs={
            "high": 8.0,
            "low": -8.0,
            "width": 32,
            "classes": 10,
            "drop": 0.3,
            "dropout": 0.1,
        },
        data="scale.pictures.labelled_codes",
        data_args=("digits",),
        steps=1500,
        batch=128,
        lr=3e-3,
        warmup=50,
        ema=0.99,
        every=500,
        goal=2.2,
        minutes=3,
        **PICTURES,
    ),
    Recipe(
        name="diffusion/ddpm-mnist-cpu",
        args=((1, 28, 28), 256),
        data_args=("mnist",),
        steps=3500,
        **(ON_CPU | {"metrics": (BOUND, *JUMPS)}),
    ),
    Recipe(
        name="diffusion/ddpm-fashion-cpu",
        args=((1, 28, 28), 256),
        data_args=("fashion_mnist",),
        steps=3500,
        **ON_CPU,
    ),
    Recipe(
        name="diffusion/ddpm-cifar10-cpu",
        args=((3, 32, 32), 256),
        data_args=("cifar10",),
        steps=4000,
        **(ON_CPU | {"metrics": (BOUND, JUMPS[-1])}),
    ),
    Recipe(
        name="diffusion/ddpm-mnist",
        args=((1, 28, 28), 256),
        kwargs={"width": 48, "mult": (1, 2, 2), "blocks": 2, "dropout": 0.05},
        data_args=("mnist",),
        steps=30_000,
        batch=256,
        lr=1e-3,
        warmup=500,
        ema=0.999,
        every=3000,
        goal=0.85,
        stretch=0.80,
        public=Public("0.808", "PixelCNN, 852,000 parameters, up to 150 epochs (uvadlc)"),
        priority=16,
        **ON_GPU,
        **PICTURES,
    ),
    Recipe(
        name="diffusion/ddpm-cifar10",
        args=((3, 32, 32), 256),
        kwargs={"width": 96, "mult": (1, 2, 2), "blocks": 2, "dropout": 0.1},
        data_args=("cifar10",),
        steps=20_000,
        batch=128,
        lr=5e-4,
        warmup=1000,
        ema=0.9995,
        every=2000,
        goal=3.5,
        stretch=3.3,
        public=Public("3.75", "DDPM, 35.7 million parameters, 10.6 hours of a TPU v3-8"),
        priority=17,
        keep=False,
        **ON_GPU,
        **PICTURES,
    ),
)
