"""Recipes of the unit vae/vqvae. The bound is an upper one for -log p: lower is better.

Autoencoder and prior are trained at once: codes pass no gradient, so neither disturbs the
other.

Times of recipes for a GPU are estimates by `python -m gdm_course.scale.cost`.
"""

from gdm_course.recipes.settings import Metric, Public, Recipe

BOUND = "negative bound, distortion and rate"
NATS = (
    Metric(BOUND, "scale.codes.bound_nats", "nats"),
    Metric("rate of the codes", "scale.codes.rate_nats", "nats"),
    Metric(BOUND, "scale.codes.bound_bits", "bits/dim"),
)
BITS = (
    Metric(BOUND, "scale.codes.bound_bits", "bits/dim"),
    Metric("rate of the codes", "scale.codes.rate_bits", "bits/dim"),
)
CODES = {"unit": "vae/vqvae", "data": "scale.data.image_codes"}
CIFAR = {
    "lr": 1e-3,
    "weight_decay": 0.05,
    "ema": 0.999,
    "every": 1000,
    "precision": "bf16-mixed",
    "channels_last": True,
    "augment": "scale.augment.mirrored",
    "public": Public("4.51", "VAE of the paper on VQ-VAE; its VQ-VAE 4.67; time not told"),
    "device": "gpu",
    "minutes": 4,
    "metrics": BITS,
    "keep": False,
}

RECIPES = (
    # On a CPU perceptrons take many more steps in the same time than convolutions do.
    Recipe(
        name="vae/vqvae-mnist-cpu",
        model="scale.codes.DenseSentenceModel",
        args=((1, 28, 28), 2),
        kwargs={"words": 16, "K": 64, "D": 16, "hidden": (500,)},
        data_args=("binarized_mnist",),
        steps=4500,
        batch=128,
        lr=2e-3,
        warmup=100,
        weight_decay=0.01,
        every=1500,
        minutes=4,
        metrics=NATS,
        **CODES,
    ),
    # 830 operations: 5.8 ms. 160 s are 24,000 steps of 256 images, 123 epochs.
    Recipe(
        name="vae/vqvae-mnist",
        model="scale.codes.SentenceModel",
        args=((1, 28, 28), 256),
        kwargs={
            "K": 256,
            "features": 64,
            "blocks": 2,
            "layers": 4,
            "heads": 4,
            "width": 128,
            "dropout": 0.1,
        },
        data_args=("mnist",),
        steps=24_000,
        batch=256,
        lr=1e-3,
        warmup=500,
        weight_decay=0.05,
        ema=0.999,
        every=2000,
        precision="bf16-mixed",
        channels_last=True,
        goal=1.3,
        stretch=1.15,
        device="gpu",
        minutes=4,
        priority=8,
        metrics=BITS,
        **CODES,
    ),
    # 1,455 GFLOP and 25 GB written, by the attention between 256 codes: 38 ms. 220 s are
    # 5,000 steps of 128 images, 14 epochs.
    Recipe(
        name="vae/vqvae-cifar10",
        model="scale.codes.SentenceModel",
        args=((3, 32, 32), 256),
        kwargs={
            "K": 512,
            "features": 128,
            "blocks": 2,
            "halvings": 1,
            "layers": 6,
            "heads": 8,
            "width": 256,
            "dropout": 0.1,
        },
        data_args=("cifar10",),
        steps=5000,
        batch=128,
        warmup=300,
        goal=4.9,
        stretch=4.67,
        priority=11,
        **CIFAR,
        **CODES,
    ),
    # 651 GFLOP and 3.3 GB written: 7.2 ms. 170 s are 20,000 steps of 128 images, 57 epochs.
    Recipe(
        name="vae/fsq-cifar10",
        model="scale.codes.DigitModel",
        args=((3, 32, 32), 256),
        kwargs={
            "digits": 4,
            "values": 5,
            "features": 128,
            "blocks": 2,
            "halvings": 1,
            "channels": 96,
            "dilations": (1, 2, 1, 4, 1, 2, 1, 4),
            "dropout": 0.1,
        },
        data_args=("cifar10",),
        steps=20_000,
        batch=128,
        warmup=500,
        goal=4.9,
        stretch=4.67,
        priority=12,
        **CIFAR,
        **CODES,
    ),
)
