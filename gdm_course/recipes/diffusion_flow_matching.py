"""Recipes of the unit diffusion/flow_matching.

The time of the recipe for a GPU is an estimate by `python -m gdm_course.scale.cost`.
"""

from gdm_course.recipes.settings import Metric, Public, Recipe

ENERGY = "scale.flow_pairs.one_step_energy"
LATENT = "scale.flow_pairs.latent"
BOUND = Metric("bound", "evaluation.chains.chain_bits", "bits/dim")

RECIPES = (
    Recipe(
        name="diffusion/reflow-eight-gaussians",
        unit="diffusion/flow_matching",
        model="diffusion.reflow.PlaneFlow",
        args=(2,),
        kwargs={"scale": 1.43},
        data="scale.flow_pairs.reflowed",
        data_args=("diffusion/stream-eight-gaussians", "eight_gaussians", 20_000),
        metrics=(Metric("energy distance x 1000, one step", ENERGY, "1"),),
        steps=6000,
        batch=512,
        lr=4e-3,
        clip=1.0,
        ema=0.998,
        every=3000,
        goal=2.0,
        minutes=2,
    ),
    Recipe(
        name="diffusion/latent-mnist",
        unit="diffusion/flow_matching",
        model="diffusion.reflow.PlaneFlow",
        args=(32,),
        kwargs={"waves": 0, "steps": 12, "hidden": 160},
        data="scale.flow_pairs.encoded",
        data_args=("vae/vae-mnist-cpu", "binarized_mnist"),
        metrics=(
            Metric("gain over the prior N(0, I)", f"{LATENT}_gain", "nats", lower=False),
            Metric("negative evidence lower bound", f"{LATENT}_nelbo", "nats"),
        ),
        steps=6000,
        batch=512,
        lr=3e-3,
        clip=1.0,
        ema=0.998,
        every=6000,
        goal=0.3,
        minutes=3,
    ),
    # 49 tokens of 256 numbers, 8 blocks.
    Recipe(
        name="diffusion/dit-mnist",
        unit="diffusion/flow_matching",
        model="diffusion.dit.PictureFlow",
        args=((1, 28, 28), 256),
        kwargs={"classes": 10, "width": 256, "depth": 8, "heads": 4},
        data="scale.pictures.labelled_codes",
        data_args=("mnist",),
        metrics=(BOUND,),
        steps=30_000,
        batch=256,
        lr=5e-4,
        warmup=1000,
        clip=1.0,
        ema=0.9995,
        every=10_000,
        precision="bf16-mixed",
        goal=2.0,
        stretch=1.4,
        public=Public("FID 2.27 on ImageNet 256", "DiT-XL/2, 675 million, 7 million steps"),
        device="gpu",
        minutes=4,
        priority=20,
        keep=False,
    ),
)
