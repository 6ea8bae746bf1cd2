"""Energy-based models: likely is what is low, and the constant is left out."""

from functools import partial

import torch
from torch import nn

from gdm_course.examples import Example

PARTS: dict[str, str] = {
    "Normalised": "an energy and its exact log Z: tests/test_energy.py",
    "Noise": "a protocol: what NCE tells data from",
}


def models() -> dict[str, Example]:
    """Return a small one of every model, for the sweep of tests and the taxonomy."""
    return {
        **chains(),
        **scores(),
    }


def chains() -> dict[str, Example]:
    """Return the deep energies of the unit langevin."""
    from gdm_course.energy import energy_matching as em
    from gdm_course.energy import langevin as lg
    from gdm_course.energy.network import Bowl, FittedBowl

    small, steps = {"waves": 4, "hidden": (8,)}, {"steps": 3}
    many, box = {**small, "places": 20, "k": 2}, ((-4.0, 4.0),) * 2

    def tilted() -> nn.Module:
        bowl = FittedBowl(torch.randn(20, 3), noise=0.1)
        return lg.PersistentEnergyModel(3, bowl=bowl, **many)

    return {
        "Bowl": Example(partial(Bowl, 3, 2.0), (3,)),
        "FittedBowl": Example(lambda: FittedBowl(torch.randn(20, 3)), (3,)),
        "ExactEnergyModel": Example(
            partial(lg.ExactEnergyModel, 2, box, cells=8, **small), (2,)
        ),
        "EnergyModel": Example(partial(lg.EnergyModel, 3, k=2, **small), (3,), draw=steps),
        "PersistentEnergyModel": Example(
            partial(lg.PersistentEnergyModel, 3, **many), (3,), draw=steps
        ),
        "PersistentEnergyModel around data": Example(tilted, (3,), draw=steps),
        "FlowPotential": Example(partial(em.FlowPotential, 3, **small), (3,)),
        "EnergyMatching": Example(partial(em.EnergyMatching, 3, dt=0.3, **small), (3,)),
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
