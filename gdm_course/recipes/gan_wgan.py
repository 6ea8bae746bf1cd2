"""Recipes of the unit gan/wgan: pictures by two players.

Figures are Frechet distances in features of the course's own classifier, whose sha256 is in
the card: they compare with each other, not with figures in features of Inception. Those are
divided by one number, see `evaluation.features`: of MNIST 4,000 training pictures are 0.35
from the test set, `vae/vqvae-mnist-cpu` 2.77, `vae/vae-mnist-cpu` 4.85, uniform noise 94.

Times of recipes for a GPU are estimates by `python -m gdm_course.scale.cost`.
"""

from gdm_course.recipes.settings import Metric, Public, Recipe

FRECHET = Metric("Frechet distance", "evaluation.features.frechet_estimate", "1")
ASKED = Metric("drawn as asked", "evaluation.features.label_estimate", "share", lower=False)
SCORE = Metric(
    "inception score", "evaluation.features.inception_estimate", "1", lower=False
)
PLAYERS = {
    "unit": "gan/wgan",
    "loop": "gan.gan.train_gan",
    "optimizer": "training.for_players",
}
GPU = {
    "precision": "bf16-mixed",
    "channels_last": True,
    "ema": 0.999,
    "device": "gpu",
    "minutes": 4,
    "metrics": (FRECHET, SCORE),
}

RECIPES = (
    Recipe(
        name="gan/digits",
        model="gan.conditional.ConditionalGAN",
        args=((1, 8, 8), 10),
        kwargs={"width": 32, "r1": 0.03, "r2": 0.03},
        data="scale.pictures.labelled_against_training",
        data_args=("digits",),
        steps=1800,
        batch=32,
        lr=3e-3,
        ema=0.995,
        every=600,
        metrics=(FRECHET, ASKED),
        goal=1.2,
        minutes=0.5,
        **PLAYERS,
    ),
    # Without `hidden`, where only the last, linear layer sees the whole: 5.01, of it 4.6 in
    # the covariances, precision 0.56, good strokes that are no digit. Twice the steps with
    # prices of 0.1 and a slower average: 5.06. With hidden=128, 5,000 steps: 0.8.
    Recipe(
        name="gan/dcgan-mnist-cpu",
        model="gan.dcgan.DCGAN",
        args=((1, 28, 28),),
        kwargs={"width": 16, "hidden": 64, "r1": 0.3, "r2": 0.3},
        data="scale.pictures.pictures",
        data_args=("mnist",),
        steps=6000,
        batch=32,
        lr=2e-3,
        ema=0.998,
        every=2000,
        metrics=(FRECHET, SCORE),
        goal=2.8,  # as good as our VQ-VAE
        minutes=6,
        **PLAYERS,
    ),
    Recipe(
        name="gan/dcgan-mnist",
        model="gan.dcgan.DCGAN",
        args=((1, 28, 28),),
        kwargs={"width": 64, "blocks": 1, "hidden": 128, "r1": 0.1, "r2": 0.1},
        data="scale.pictures.pictures",
        data_args=("mnist",),
        steps=10_000,
        batch=256,
        lr=1e-3,
        warmup=200,
        every=2500,
        goal=2.0,
        stretch=1.0,
        priority=14,
        **GPU,
        **PLAYERS,
    ),
    # 5,000 test pictures, as many as are drawn of a model, have an inception score of 5.00
    # with evaluation/features-cifar10: the goal is 0.80 of that.
    Recipe(
        name="gan/r3gan-cifar10",
        model="gan.dcgan.DCGAN",
        args=((3, 32, 32),),
        kwargs={
            "Z": 128,
            "width": 96,
            "halvings": 3,
            "blocks": 1,
            "hidden": 256,
            "r1": 0.1,
            "r2": 0.1,
        },
        data="scale.pictures.pictures",
        data_args=("cifar10",),
        augment="scale.augment.mirrored",
        steps=8000,
        batch=256,
        lr=5e-4,
        warmup=200,
        every=2000,
        aim=1,
        goal=4.0,
        public=Public("1.96", "R3GAN, in Inception features: another scale; GPU-days"),
        priority=15,
        keep=False,
        **GPU,
        **PLAYERS,
    ),
)
