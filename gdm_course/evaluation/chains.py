"""How good a diffusion is: its bound, and its distance from the best possible one."""

import torch
from torch import Tensor, nn

from gdm_course.batching import columns
from gdm_course.data import toy
from gdm_course.diffusion.mixture import MixtureDenoiser
from gdm_course.evaluation.bounds import elbos
from gdm_course.evaluation.likelihood import Estimate, bits_per_dim, estimate
from gdm_course.learning import evaluating


def chain_bits(model: nn.Module, x: Tensor, least: int = 10_000) -> Estimate:
    """Return the mean of -elbo of codes in bits per dimension, with standard error.

    One draw looks at one step of the chain, so that few examples are drawn often.

    Args:
        model: anything with `elbo(x) -> (B,)`.
        x: codes (N, *D).
        least: draws over all examples, at least.
    """
    times = -(-least // len(columns(x)[0]))
    rows = torch.stack([elbos(model, x) for _ in range(times)]).mean(0)
    return estimate(bits_per_dim(-rows, columns(x)[0][0].numel()))


@torch.no_grad()
def excess(model: nn.Module, x: Tensor, name: str) -> Estimate:
    """Return how far the bound of a chain without end is above that of the best denoiser.

    Half the integral over log_snr, from -8 to 12, of the squared distance of both guesses
    of the noise, in nats: at least KL(truth || model), and 0 for the best. Every point is
    looked at once, at a level of its own.

    Args:
        model: a `PointDDPM`, or any with `denoise` and a `RealDecoder`.
        x: points (N, 2) of the toy density of that name, a mixture.
    """
    law, shift = toy.get(name).law, model.decoder.shift.cpu()
    means, std = (law.means - shift) / model.decoder.scale, law.sigma / model.decoder.scale
    best = MixtureDenoiser(means, std, law.weights).to(x)
    log_snr = torch.linspace(-8, 12, len(x)).to(x)[torch.randperm(len(x), device=x.device)]
    alpha, sigma = (v.sigmoid().sqrt()[:, None] for v in (log_snr, -log_snr))
    noisy = alpha * model.embed(x) + sigma * torch.randn_like(x)
    with evaluating(model):
        gap = alpha / sigma * (model.denoise(noisy, log_snr) - best(noisy, log_snr))
    return estimate(20 / 2 * gap.double().square().sum(1).cpu())


def moons_excess(model: nn.Module, known: tuple[Tensor, Tensor]) -> Estimate:
    """`excess` on the two moons; of pairs of points and log p, the points count."""
    return excess(model, known[0], "two_moons")


def bells_excess(model: nn.Module, known: tuple[Tensor, Tensor]) -> Estimate:
    """`excess` on the eight bells; of pairs of points and log p, the points count."""
    return excess(model, known[0], "eight_gaussians")


def bound_nats(model: nn.Module, x: Tensor, least: int = 10_000) -> Estimate:
    """Return the mean of -elbo in nats per example, drawn `least` times over all of them.

    Args:
        model: anything with `elbo(x) -> (B,)`.
        x: examples (N, *D).
        least: draws over all examples, at least.
    """
    times = -(-least // len(columns(x)[0]))
    return estimate(-torch.stack([elbos(model, x, 100) for _ in range(times)]).mean(0))


def bound_per_token(model: nn.Module, x: Tensor, least: int = 4000) -> Estimate:
    """Return `bound_nats` of sequences (N, T) divided by T: nats per token."""
    value, error = bound_nats(model, x, least)
    return Estimate(value / x.shape[1], error / x.shape[1])
