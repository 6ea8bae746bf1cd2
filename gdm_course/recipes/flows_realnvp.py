"""Recipes of the unit flows/realnvp: Glow on images. Figures are bounds, in bits/dim."""

from gdm_course.recipes.settings import Metric, Recipe

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
    Recipe(  # settings for a GPU are first guesses until their cards exist
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
        steps=150_000,
        batch=128,
        lr=1e-3,
        warmup=1000,
        ema=0.9995,
        every=5000,
        patience=8,
        goal=1.02,
        device="gpu",
        minutes=120,
        metrics=(TIGHT,),
        **IMAGES,
    ),
    Recipe(
        name="flows/glow-cifar10",
        args=((3, 32, 32), 256),
        kwargs={
            "scales": 3,
            "steps": 16,
            "checkers": 4,
            "hidden": 128,
            "blocks": 2,
            "noise_layers": 4,
            "noise_hidden": 64,
        },
        data_args=("cifar10",),
        steps=300_000,
        batch=64,
        lr=5e-4,
        warmup=2000,
        ema=0.9995,
        every=10_000,
        goal=3.49,
        device="gpu",
        minutes=1200,
        metrics=(TIGHT,),
        **IMAGES,
    ),
)
