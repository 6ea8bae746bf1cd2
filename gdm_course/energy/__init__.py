"""Energy-based models: likely is what is low, and the constant is left out."""

from functools import partial

import torch
from torch import nn

from gdm_course.examples import Example

PARTS: dict[str, str] = {
    "Normalised": "an energy and its exact log Z: tests/test_energy.py",
    "OnGrid": "an energy trained with log Z from a grid: tests/test_boltzmann.py",
    "Causes": "a belief net that nobody trains: tests/test_belief_net.py",
    "Noise": "a protocol: what NCE tells data from",
}


def models() -> dict[str, Example]:
    """Return a small one of every model, for the sweep of tests and the taxonomy."""
    return {
        **bits_and_experts(),
        **beliefs(),
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
    from gdm_course.energy.dbn import DBN

    return {
        "SigmoidBeliefNet": Example(partial(SigmoidBeliefNet, 6, H=3), (6,), K=2),
        "DBN": Example(partial(DBN, 6, H=3), (6,), K=2, draw={"k": 2}),
    }


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
