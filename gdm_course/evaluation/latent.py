"""Bounds of latent variable models as metrics of a recipe, in nats per example."""

from torch import Tensor, nn

from gdm_course.evaluation.bounds import elbos
from gdm_course.evaluation.likelihood import Estimate, estimate


def nelbo_estimate(model: nn.Module, x: Tensor, batch: int = 1000) -> Estimate:
    """Return the mean of -elbo, one draw of z per example, and its standard error.

    One draw is unbiased for the bound, and the mean over a split averages its noise away.
    """
    return estimate(-elbos(model, x, batch))


def iwae_estimate(model: nn.Module, x: Tensor, k: int, batch: int = 128) -> Estimate:
    """Return the mean of -iwae(x, k), an upper bound of the negative log-likelihood."""
    return estimate(-elbos(model, x, batch, k))


def iwae_500(model: nn.Module, x: Tensor) -> Estimate:
    """`iwae_estimate` with 500 draws per example."""
    return iwae_estimate(model, x, 500)
