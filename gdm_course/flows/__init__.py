"""Normalizing flows: an invertible map from data to noise, and the density it gives."""

from torch import Tensor, nn


def fit_plane(x: Tensor, steps: int, seed: int = 0) -> nn.Module:
    """Fit this family's model of the plane to points x (N, 2), for the gallery."""
    from gdm_course.chance import own_chance
    from gdm_course.flows.spline import SplineFlow
    from gdm_course.training import forever, shifted, train

    rate = lambda step: 5e-3 * (1 - step / steps)  # noqa: E731
    with own_chance(shifted(seed)):
        model = SplineFlow(2)
        for _ in train(model, forever(x, 512), steps, lr=rate):
            pass
    return model.eval()
