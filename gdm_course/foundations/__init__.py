"""Foundations: densities, samples, divergences, and a first model trained by likelihood."""

from torch import Tensor, nn


def fit_plane(x: Tensor, steps: int, seed: int = 0) -> nn.Module:
    """Fit this family's model of the plane to points (N, 2), for the gallery."""
    import torch

    from gdm_course.chance import own_chance
    from gdm_course.foundations.densities import GaussianMixture
    from gdm_course.training import batches, forever, shifted, train

    with own_chance(shifted(seed)):
        model = GaussianMixture(2, K=32)
        with torch.no_grad():  # start on data points: no component is lost from the outset
            model.mu.copy_(next(batches(x, 32)))
        rate = lambda step: 0.02 * (1 - step / steps)  # noqa: E731
        for _ in train(model, forever(x, 512), steps, lr=rate):
            pass
    return model
