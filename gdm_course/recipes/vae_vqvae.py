"""Recipes of the unit vae/vqvae. The bound is an upper one for -log p: lower is better.

Autoencoder and prior are trained at once: codes pass no gradient, so neither disturbs the
other.
"""

from gdm_course.recipes.settings import Metric, Recipe

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
    Recipe(  # settings for a GPU are first guesses until their cards exist
        name="vae/vqvae-mnist",
        model="scale.codes.SentenceModel",
        args=((1, 28, 28), 256),
        kwargs={
            "K": 256,
            "features": 96,
            "blocks": 2,
            "layers": 6,
            "heads": 6,
            "width": 192,
            "dropout": 0.1,
        },
        data_args=("mnist",),
        steps=60_000,
        batch=256,
        lr=1e-3,
        warmup=1000,
        weight_decay=0.05,
        ema=0.999,
        every=2000,
        patience=10,
        device="gpu",
        minutes=30,
        metrics=BITS,
        **CODES,
    ),
    Recipe(  # 4.67 is what the paper on VQ-VAE reports
        name="vae/vqvae-cifar10",
        model="scale.codes.SentenceModel",
        args=((3, 32, 32), 256),
        kwargs={
            "K": 512,
            "features": 192,
            "blocks": 3,
            "halvings": 1,
            "layers": 8,
            "heads": 8,
            "width": 384,
            "dropout": 0.1,
        },
        data_args=("cifar10",),
        steps=100_000,
        batch=128,
        lr=5e-4,
        warmup=2000,
        weight_decay=0.05,
        ema=0.9995,
        every=2500,
        patience=10,
        goal=4.67,
        device="gpu",
        minutes=180,
        metrics=BITS,
        **CODES,
    ),
    Recipe(
        name="vae/fsq-cifar10",
        model="scale.codes.DigitModel",
        args=((3, 32, 32), 256),
        kwargs={
            "digits": 4,
            "values": 5,
            "features": 192,
            "blocks": 3,
            "halvings": 1,
            "channels": 128,
            "dilations": (1, 2, 1, 4, 1, 2, 1, 4),
            "dropout": 0.1,
        },
        data_args=("cifar10",),
        steps=100_000,
        batch=128,
        lr=5e-4,
        warmup=2000,
        weight_decay=0.05,
        ema=0.9995,
        every=2500,
        patience=10,
        precision="bf16-mixed",
        goal=4.67,
        device="gpu",
        minutes=180,
        metrics=BITS,
        **CODES,
    ),
)
