"""Recipes of the unit vae/beta_vae: five VAEs and five beta-VAEs, a seed each.

    for s in 0 1 2 3 4; do gdm train vae/vae-shapes-$s vae/betavae-shapes-$s; done

The first figure is the mutual information gap. Nothing is chosen by it: there is one
evaluation, at the end, because to choose by factors would not be unsupervised.
"""

from gdm_course.recipes.settings import Metric, Recipe

MIG = Metric(
    "mutual information gap",
    "evaluation.disentanglement.mig_estimate",
    "of 1",
    lower=False,
)
NELBO = Metric("negative evidence lower bound", "scale.factors.nelbo_estimate", "nats")


def seeds(kind: str, beta: float) -> list[Recipe]:
    """Return the five recipes of one price."""
    return [
        Recipe(
            name=f"vae/{kind}-shapes-{seed}",
            unit="vae/beta_vae",
            model="vae.beta_vae.BetaVAE",
            args=(768,),
            kwargs={"beta": beta, "latent": 10, "hidden": (128, 64)},
            data="scale.factors.shape_bits",
            metrics=(MIG, NELBO),
            steps=8000,
            batch=64,
            lr=3e-3,
            warmup=100,
            every=8000,
            minutes=0.7,
            seed=seed,
        )
        for seed in range(5)
    ]


RECIPES = (*seeds("vae", 1.0), *seeds("betavae", 2.0))
