"""Variational autoencoders: a latent variable, a bound on the evidence, two networks."""

from torch import Tensor, nn


def fit_plane(x: Tensor, steps: int, seed: int = 0) -> nn.Module:
    """Fit this family's model of the plane to points x (N, 2), for the gallery."""
    from gdm_course.chance import own_chance
    from gdm_course.training import forever, shifted, train
    from gdm_course.vae.decoders import GaussianPixels
    from gdm_course.vae.vae import VAE

    steps *= 2  # they are cheap; and at a lower rate, one latent number may stay silent
    rate = lambda step: 1e-2 * (1 - step / steps)  # noqa: E731
    with own_chance(shifted(seed)):
        model = VAE(2, latent=2, hidden=(128, 128), observation=GaussianPixels(0.5))
        for _ in train(model, forever(x, 256), steps, rate):
            pass
    return model.eval()
