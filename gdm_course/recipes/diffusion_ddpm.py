"""Recipes of the unit diffusion/ddpm. The bound is an upper one for -log p.

Times of recipes for a GPU are estimates by `python -m gdm_course.scale.cost`.
"""

from gdm_course.recipes.settings import Metric, Recipe

BOUND = Metric("bound", "evaluation.chains.chain_bits", "bits/dim")
PICTURES = {
    "unit": "diffusion/ddpm",
    "model": "diffusion.unet.ImageDDPM",
    "data": "scale.pictures.labelled_codes",
    "metrics": (BOUND,),
    "clip": 1.0,
}

RECIPES = (
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
)
