"""What flows of recipes learn from: pairs of another model's ODE, and codes of a VAE."""

import torch

from gdm_course import checkpoints
from gdm_course.chance import own_chance
from gdm_course.diffusion.flow_matching import NormalSource
from gdm_course.diffusion.latent_flow import LatentFlow
from gdm_course.diffusion.score_sde import Stream
from gdm_course.divergences.samples import energy_distance
from gdm_course.evaluation.bounds import elbos
from gdm_course.evaluation.likelihood import Estimate, estimate, log_probs
from gdm_course.flows.continuous import NeuralODE
from gdm_course.flows.ode import Fixed, rk4_step
from gdm_course.learning import evaluating
from gdm_course.scale.data import Splits, binary_images


def reflowed(teacher: str, toy: str, N: int, seed: int = 0) -> Splits:
    """Return N pairs (x0, x1) of a `PlaneSDE`'s ODE, and points of the truth to measure.

    Args:
        teacher: name of the checkpoint.
        toy: the density that it learned, whose points are validation and test.
        N: number of pairs; x1 is noise, x0 where the ODE takes it.
        seed: of the noise and of the points.
    """
    from gdm_course.data import toy as toys

    model, truth = checkpoints.load(teacher), toys.get(toy)
    ode = NeuralODE(Stream(model.net), solver=Fixed(rk4_step, 24))
    with own_chance(seed), torch.no_grad():
        x1 = NormalSource(model.shape).sample(N)
        x0 = torch.cat([ode.path(part, (1.0, 0.0))[-1] for part in x1.split(5000)])
    g = torch.Generator().manual_seed(seed)
    valid, test = (truth.sample(n, g).float() for n in (10_000, 40_000))
    return Splits((model.scale * x0, x1), valid, test, f"{toy}, by the ODE of {teacher}")


def one_step_energy(model: torch.nn.Module, x: torch.Tensor) -> Estimate:
    """Return the energy distance x 1000 of one Euler step's samples from the truth.

    Both are divided by `scale`, so that the data have mean square 1. Five parts of the
    points give a mean and its standard error.

    Args:
        model: a `PlaneFlow`.
        x: points of the truth (N, D).
    """
    with own_chance(0), evaluating(model):
        y = model.sample(len(x), 1).to(x)
    parts = zip((x / model.scale).chunk(5), (y / model.scale).chunk(5))
    return estimate(torch.stack([1000 * energy_distance(a, b) for a, b in parts]))


def encoded(vae: str, data: str, draws: int = 3, seed: int = 0) -> Splits:
    """Return z ~ q(z | x) of all training pictures, and pictures to measure.

    Args:
        vae: name of the checkpoint.
        data: the name of its data, bits.
        draws: of z for every picture.
        seed: of the draws.
    """
    model, bits = checkpoints.load(vae), binary_images(data)
    with own_chance(seed), torch.no_grad():
        z = model.encode(bits.train).sample((draws,)).flatten(0, 1)
    source = f"codes of {vae}, {bits.source}"
    return Splits(
        z, bits.valid[::10], bits.test[::5], source
    )  # the test's first half is easy


@torch.no_grad()
def latent_gain(model: torch.nn.Module, x: torch.Tensor) -> Estimate:
    """Return by how many nats this flow raises the bound of the VAE on MNIST.

    Of the bound only log p(z) changes, from that of N(0, I) to the flow's: its mean over
    one z ~ q(z | x) of every picture.

    Args:
        model: a flow of z, such as a `PlaneFlow`.
        x: pictures, bits (N, 784).
    """
    vae = checkpoints.load("vae/vae-mnist-cpu").to(x.device)
    with own_chance(0), evaluating(model):
        z = vae.encode(x).sample()
        return estimate(log_probs(model, z) - vae.prior.log_prob(z).double().cpu())


def latent_nelbo(model: torch.nn.Module, x: torch.Tensor) -> Estimate:
    """Return the mean of -elbo in nats of the VAE on MNIST with this flow as its prior.

    Args: model and pictures as of `latent_gain`.
    """
    vae = checkpoints.load("vae/vae-mnist-cpu").to(x.device)
    with own_chance(0):
        return estimate(-elbos(LatentFlow(vae, model), x))
