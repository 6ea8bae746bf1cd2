"""Recipes of the unit flows/realnvp: Glow on images. Figures are bounds, in bits/dim.

Times of recipes for a GPU are estimates by `python -m gdm_course.scale.cost`.
"""

from gdm_course.recipes.settings import Metric, Public, Recipe

BOUND = Metric("bound, 1 draw", "evaluation.bounds.bound_bits", "bits/dim")
TIGHT = Metric("bound, 8 draws", "evaluation.bounds.tight_bits", "bits/dim")
IMAGES = {
    "unit": "flows/realnvp",
    "model": "flows.dequantisation.DequantisedGlow",
    "data": "scale.data.image_codes",
    "clip": 100.0,
}

RECIPES = (
    Recipe(
        name="flows/glow-mnist-cpu",
        args=((1, 28, 28), 256),
        kwargs={"steps": 4, "hidden": 32, "blocks": 1, "alpha": 1e-5},
        data_args=("mnist",),
        steps=2000,
        batch=32,
        lr=3e-3,
        warmup=50,
        ema=0.995,
        every=1000,
        minutes=4,
        metrics=(BOUND,),
        **IMAGES,
    ),
    # 1,871 operations: 13.1 ms to send, 10 to do (346 GFLOP in float32, for half
    # precision would round the density). 210 s are 14,000 steps of 128 images, 36 epochs.
    Recipe(
        name="flows/glow-mnist",
        args=((1, 28, 28), 256),
        kwargs={
            "steps": 8,
            "checkers": 4,
            "hidden": 64,
            "blocks": 1,
            "noise_layers": 4,
            "alpha": 1e-5,
        },
        data_args=("mnist",),
        steps=14_000,
        batch=128,
        lr=1e-3,
        warmup=500,
        ema=0.999,
        every=1400,
        channels_last=True,
        goal=1.06,
        stretch=1.02,
        public=Public("1.020", "1.7 million parameters, up to 200 epochs (uvadlc)"),
        device="gpu",
        minutes=4,
        priority=6,
        metrics=(TIGHT,),
        **IMAGES,
    ),
    # 2,365 operations: 16.6 ms to send, 13 to do. 200 s are 10,000 steps of 64 images, 14
    # epochs.
    Recipe(
        name="flows/glow-cifar10",
        args=((3, 32, 32), 256),
        kwargs={
            "scales": 3,
            "steps": 8,
            "checkers": 2,
            "hidden": 128,
            "blocks": 1,
            "noise_layers": 2,
            "noise_hidden": 32,
        },
        data_args=("cifar10",),
        steps=10_000,
        batch=64,
        lr=1e-3,
        warmup=500,
        ema=0.999,
        every=1500,
        channels_last=True,
        augment="scale.augment.mirrored",
        goal=3.75,
        stretch=3.6,
        public=Public(
            "3.35", "Glow, 44 million parameters; 3.63, 3.49 after 10, 80 epochs"
        ),
        device="gpu",
        minutes=4,
        priority=10,
        keep=False,
        metrics=(TIGHT,),
        **IMAGES,
    ),
)
