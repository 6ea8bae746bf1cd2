"""Energy-based models: likely is what is low, and the constant is left out."""

from functools import partial

import torch
from torch import Tensor, nn

from gdm_course.examples import Example


def fit_plane(x: Tensor, steps: int, seed: int = 0) -> nn.Module:
    """Fit this family's model of the plane to points x (N, 2), for the gallery.

    By maximum likelihood with log Z from a grid around the data; at the end log Z is taken
    from a finer and wider one.
    """
    from gdm_course.chance import own_chance
    from gdm_course.energy.langevin import ExactEnergyModel
    from gdm_course.energy.network import FittedBowl
    from gdm_course.energy.normalise import Normalised, log_z_grid
    from gdm_course.training import forever, shifted, train

    low, high, wide = x.amin(0), x.amax(0), x.std(0)
    boxes = ([*zip((low - k * wide).tolist(), (high + k * wide).tolist())] for k in (1, 3))
    near, far = (tuple(box) for box in boxes)
    rate = lambda step: 1e-2 * (1 - step / steps)  # noqa: E731
    with own_chance(shifted(seed)):
        bowl = FittedBowl(x, noise=wide.mean().item())
        model = ExactEnergyModel(2, near, bowl=bowl)
        for _ in train(model, forever(x, 256), steps, lr=rate):
            pass
    return Normalised(model, log_z_grid(model.energy, far, 400)).eval()


PARTS: dict[str, str] = {
    "Normalised": "an energy and its exact log Z: tests/test_energy.py",
    "Causes": "a belief net that nobody trains: tests/test_belief_net.py",
    "Noise": "a protocol: what NCE tells data from",
}


def models() -> dict[str, Example]:
    """Return a small one of every model, for the sweep of tests and the taxonomy."""
    return {
        **bits_and_experts(),
        **beliefs(),
        **chains(),
        **of_pictures(),
        **scores(),
    }


def bits_and_experts() -> dict[str, Example]:
    """Return the models of the unit boltzmann."""
    from gdm_course.energy.boltzmann import BoltzmannMachine, Ising
    from gdm_course.energy.experts import ProductOfExperts
    from gdm_course.energy.gaussian_rbm import GaussianRBM
    from gdm_course.energy.rbm import RBM, PersistentRBM

    short = {"k": 2}
    return {
        "Ising": Example(partial(Ising, 4), (4, 4), K=2, draw={"sweeps": 2}),
        "BoltzmannMachine": Example(partial(BoltzmannMachine, 5), (5,), K=2, draw=short),
        "RBM": Example(partial(RBM, 6, H=3), (6,), K=2, draw=short),
        "PersistentRBM": Example(partial(PersistentRBM, 6, H=3), (6,), K=2, draw=short),
        "GaussianRBM": Example(partial(GaussianRBM, 3, H=2), (3,)),
        "ProductOfExperts": Example(partial(ProductOfExperts, 3, K=4), (3,), draw=short),
    }


def beliefs() -> dict[str, Example]:
    """Return the models of the unit belief_net."""
    from gdm_course.energy.belief_net import SigmoidBeliefNet
    from gdm_course.energy.dbn import DBN, TwoLayers

    return {
        "SigmoidBeliefNet": Example(partial(SigmoidBeliefNet, 6, H=3), (6,), K=2),
        "DBN": Example(partial(DBN, 6, H=3), (6,), K=2, draw={"k": 2}),
        "TwoLayers": Example(partial(TwoLayers, 6, H=3), (6,), K=2, draw={"k": 2}),
    }


def chains() -> dict[str, Example]:
    """Return the deep energies of the unit langevin."""
    from gdm_course.energy import energy_matching as em
    from gdm_course.energy import langevin as lg
    from gdm_course.energy.network import Bowl, FittedBowl

    small, steps = {"waves": 4, "hidden": (8,)}, {"steps": 3}
    many, box = {**small, "places": 20, "k": 2}, ((-4.0, 4.0),) * 2
    persistent = partial(lg.PersistentEnergyModel, 3, **many)
    fitted = lambda: FittedBowl(torch.randn(20, 3), noise=0.1)  # noqa: E731
    exact = partial(lg.ExactEnergyModel, 2, box, cells=8, **small)
    return {
        "Bowl": Example(partial(Bowl, 3, 2.0), (3,)),
        "FittedBowl": Example(fitted, (3,)),
        "ExactEnergyModel": Example(exact, (2,)),
        "EnergyModel": Example(partial(lg.EnergyModel, 3, k=2, **small), (3,), draw=steps),
        "PersistentEnergyModel": Example(persistent, (3,), draw=steps),
        "PersistentEnergyModel around data": Example(
            lambda: persistent(bowl=fitted()), (3,), draw=steps
        ),
        "FlowPotential": Example(partial(em.FlowPotential, 3, **small), (3,)),
        "EnergyMatching": Example(partial(em.EnergyMatching, 3, dt=0.3, **small), (3,)),
    }


def of_pictures() -> dict[str, Example]:
    """Return the deep energy of pictures."""
    from gdm_course.energy.pictures import ConvEnergyModel

    small = partial(ConvEnergyModel, 16, channels=2, places=20, k=2)
    return {"ConvEnergyModel": Example(small, (16,), draw={"steps": 3})}


def scores() -> dict[str, Example]:
    """Return the models of the score, and the one that learns from noise."""
    from gdm_course.energy import score_matching as sm
    from gdm_course.energy.nce import NCE, GaussianNoise
    from gdm_course.energy.network import EnergyNet

    small = {"waves": 4, "hidden": (8,)}

    def bell() -> nn.Module:
        return GaussianNoise(torch.randn(20, 3))

    def contrast() -> nn.Module:
        return NCE(EnergyNet(3, **small), bell())

    kinds = [sm.ScoreModel, sm.SlicedScoreModel, sm.DenoisingScoreModel]
    return {
        **{
            k.__name__: Example(partial(k, 3, **small), (3,), draw={"steps": 3})
            for k in kinds
        },
        "NoiseConditionalModel": Example(
            partial(sm.NoiseConditionalModel, 3, **small), (3,), draw={"steps": 2}
        ),
        "GaussianNoise": Example(bell, (3,)),
        "NCE": Example(contrast, (3,)),
    }
