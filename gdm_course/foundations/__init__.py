"""Foundations: densities, samples, divergences, and a first model trained by likelihood."""

from functools import partial

from torch import Tensor, nn

from gdm_course.examples import Example


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


PARTS: dict[str, str] = {}


def models() -> dict[str, Example]:
    """Return a small one of every model, for the sweep of tests and the taxonomy."""
    from gdm_course.foundations.densities import GaussianMixture, IndependentPixels

    return {
        "GaussianMixture": Example(partial(GaussianMixture, 2, K=3), (2,)),
        "IndependentPixels": Example(partial(IndependentPixels, 4), (4,), K=2),
    }
