"""What is trained at scale, with which settings: plain data, importable without torch.

A recipe names its model, its data and its metrics by dotted paths below `gdm_course`;
`gdm train NAME` runs it and `gdm_course.checkpoints` keeps what came out.
"""

from gdm_course.recipes import (
    autoregressive,
    diffusion_ddpm,
    diffusion_few_step,
    diffusion_flow_matching,
    diffusion_guidance,
    diffusion_masked,
    diffusion_score_sde,
    energy_boltzmann,
    energy_langevin,
    features,
    flows_continuous,
    flows_maf,
    flows_planar,
    flows_realnvp,
    gan_cyclegan,
    gan_gan,
    gan_wgan,
    gpt,
    vae,
    vae_beta,
    vae_vqvae,
)
from gdm_course.recipes.settings import (
    NLL,
    ONE_LOSS,
    Metric,
    Optimisation,
    Recipe,
    differs,
    resolve,
)

__all__ = ["NLL", "ONE_LOSS", "RECIPES", "Metric", "Optimisation", "Recipe"]
__all__ += ["differs", "get", "names", "resolve"]

RECIPES = (  # in the course's order
    *autoregressive.RECIPES,
    *gpt.RECIPES,
    *flows_planar.RECIPES,
    *flows_realnvp.RECIPES,
    *flows_maf.RECIPES,
    *flows_continuous.RECIPES,
    *vae.RECIPES,
    *vae_beta.RECIPES,
    *vae_vqvae.RECIPES,
    *energy_boltzmann.RECIPES,
    *energy_langevin.RECIPES,
    *gan_gan.RECIPES,
    *gan_wgan.RECIPES,
    *gan_cyclegan.RECIPES,
    *diffusion_ddpm.RECIPES,
    *diffusion_score_sde.RECIPES,
    *diffusion_flow_matching.RECIPES,
    *diffusion_guidance.RECIPES,
    *diffusion_masked.RECIPES,
    *diffusion_few_step.RECIPES,
    *features.RECIPES,
)


def names() -> list[str]:
    """List the names of all recipes, in the course's order."""
    return [recipe.name for recipe in RECIPES]


def get(name: str) -> Recipe:
    """Look a recipe up by its name.

    Raises:
        LookupError: there is none of that name; the sentence lists those there are.
    """
    for recipe in RECIPES:
        if recipe.name == name:
            return recipe
    raise LookupError(f"no recipe '{name}'; there are: {', '.join(names())}")
