"""Recipes of the unit diffusion/guidance: pictures from damaged pictures.

Times of recipes for a GPU are estimates by `python -m gdm_course.scale.cost`.
"""

from gdm_course.recipes.settings import Metric, Recipe

ERROR = Metric("loss", "scale.restoring.denoising_error", "squared, per number")
RATIO = Metric(
    "calibration of 8 draws", "scale.restoring.calibration", "ratio", lower=False
)
MEAN = Metric("error of 8 draws' mean", "scale.restoring.mean_error", "squared, per number")
WRONG = Metric("wrong colours", "scale.restoring.wrong_colours", "share")
COIN = Metric("red, away from 1/2", "scale.restoring.uneven_coin", "share")
SMALL = {
    "unit": "diffusion/guidance",
    "batch": 128,
    "lr": 2e-3,
    "warmup": 50,
    "clip": 1.0,
    "ema": 0.99,
}

RECIPES = (
    # A perceptron of four times the weights: 1.63 on what it learned from, 1.43 on others.
    Recipe(
        name="diffusion/palette-digits",
        model="scale.restoring.UNetPalette",
        args=((1, 8, 8), 17),
        kwargs={"width": 16, "mult": (1, 2), "dropout": 0.1},
        data="scale.data.image_codes",
        data_args=("digits",),
        steps=1000,
        every=500,
        metrics=(ERROR, RATIO, MEAN),
        goal=1.5,
        aim=1,
        minutes=2,
        **SMALL,
    ),
    Recipe(
        name="diffusion/palette-colour-digits",
        model="scale.restoring.PixelPalette",
        args=((3, 8, 8), 17),
        kwargs={"ways": ("to_grey",), "hidden": 256, "depth": 3},
        data="scale.restoring.coloured",
        data_args=("digits",),
        steps=2000,
        every=1000,
        metrics=(ERROR, WRONG, COIN),
        goal=0.05,
        stretch=0.03,
        aim=1,
        minutes=1,
        **SMALL,
    ),
    # 1,836 GFLOP, 5.1 GB written: 15 ms. 200 s are 13,000 steps of 128 images, 37 epochs.
    Recipe(
        name="diffusion/palette-cifar10",
        unit="diffusion/guidance",
        model="scale.restoring.UNetPalette",
        args=((3, 32, 32), 256),
        kwargs={
            "ways": ("inpaint_box", "uncrop_frame", "to_grey"),
            "width": 96,
            "mult": (1, 2, 2),
            "blocks": 2,
            "dropout": 0.1,
        },
        data="scale.data.image_codes",
        data_args=("cifar10",),
        steps=13_000,
        batch=128,
        augment="scale.augment.mirrored",
        lr=5e-4,
        warmup=1000,
        clip=1.0,
        ema=0.9995,
        every=4000,
        precision="bf16-mixed",
        channels_last=True,
        metrics=(ERROR, RATIO, MEAN),
        goal=1.5,
        stretch=1.7,
        aim=1,
        device="gpu",
        minutes=4,
        priority=19,
        keep=False,
    ),
)
