"""Recipes of the unit vae/vae. The bound is an upper one for -log p: lower is better.

Times of recipes for a GPU are estimates by `python -m gdm_course.scale.cost`.
"""

from gdm_course.recipes.settings import Metric, Public, Recipe

NELBO = Metric("negative evidence lower bound", "evaluation.latent.nelbo_estimate", "nats")
IWAE_500 = Metric("IWAE bound, 500 draws", "evaluation.latent.iwae_500", "nats")

VECTORS = {
    "unit": "vae/vae",
    "model": "vae.vae.VAE",
    "args": (784,),
    "data": "scale.data.binary_images",
    "metrics": (NELBO, IWAE_500),
}

RECIPES = (
    Recipe(  # in short trials, dropout of pixels and weight decay gained nothing
        name="vae/vae-mnist-cpu",
        data_args=("binarized_mnist",),
        kwargs={"hidden": (500, 500), "latent": 32},
        steps=7500,
        batch=200,
        lr=2e-3,
        warmup=100,
        ema=0.999,
        every=2500,
        goal=96.1,
        minutes=3,
        **VECTORS,
    ),
    Recipe(  # the data and the number of steps of a well-known problem set: CS236, 2
        name="vae/vae-cs236",
        data_args=("mnist",),
        kwargs={"hidden": (400, 400), "latent": 10},
        steps=20_000,
        batch=100,
        lr=1e-3,
        ema=0.999,
        every=5000,
        goal=97.0,
        minutes=6,
        **VECTORS,
    ),
    # 142 GFLOP and 0.5 GB written: 291 operations, 2.0 ms. 40,000 steps of 256 images are
    # 205 epochs in 90 s. The tight bound decodes ten million pictures: half a minute.
    Recipe(
        name="vae/conv-mnist",
        unit="vae/vae",
        model="vae.conv.ConvVAE",
        args=((1, 28, 28),),
        kwargs={"latent": 40, "features": 32, "blocks": 2},
        data="scale.data.image_codes",
        data_args=("binarized_mnist",),
        metrics=(NELBO, IWAE_500),
        steps=40_000,
        batch=256,
        lr=1e-3,
        warmup=1000,
        weight_decay=0.05,
        clip=10.0,
        ema=0.9995,
        every=3000,
        precision="bf16-mixed",
        channels_last=True,
        goal=85.5,
        stretch=84.5,
        aim=1,
        public=Public("79.9", "IAF-VAE; planar flows 85.1; training time not told"),
        device="gpu",
        minutes=3,
        priority=7,
    ),
)
