"""Recipes of the networks whose features samples are compared by: `evaluation.features`."""

from gdm_course.recipes.settings import Metric, Recipe

BY_SHAPE = {  # which of them sees pictures (C, H, W)
    (1, 28, 28): "evaluation/features-mnist",
    (1, 8, 8): "evaluation/features-digits",
    (3, 32, 32): "evaluation/features-cifar10",
}
CLASSIFIER = {
    "unit": "energy/langevin",
    "model": "evaluation.features.PictureClassifier",
    "data": "scale.pictures.labelled",
    "augment": "scale.pictures.shifted",
    "metrics": (
        Metric("accuracy", "evaluation.features.accuracy_estimate", "1", lower=False),
    ),
    "weight_decay": 0.01,
    "warmup": 50,
}

RECIPES = (
    Recipe(
        name="evaluation/features-mnist",
        args=((1, 28, 28),),
        data_args=("mnist",),
        steps=2000,
        batch=100,
        lr=3e-3,
        every=500,
        goal=0.98,
        minutes=1.5,
        **CLASSIFIER,
    ),
    Recipe(
        name="evaluation/features-fashion",
        args=((1, 28, 28),),
        data_args=("fashion_mnist",),
        steps=3000,
        batch=100,
        lr=3e-3,
        every=500,
        goal=0.9,
        minutes=2,
        **CLASSIFIER,
    ),
    Recipe(
        name="evaluation/features-digits",
        args=((1, 8, 8),),
        kwargs={"levels": 17},
        data_args=("digits",),
        steps=1500,
        batch=64,
        lr=3e-3,
        every=250,
        goal=0.97,
        minutes=0.5,
        **CLASSIFIER,
    ),
    Recipe(
        name="evaluation/features-cifar10",
        args=((3, 32, 32),),
        kwargs={"width": 32},
        data_args=("cifar10",),
        steps=3000,
        batch=100,
        lr=2e-3,
        every=1000,
        goal=0.7,
        minutes=5,
        **CLASSIFIER,
    ),
)
