"""An RBM's epoch against scikit-learn's; chains and score losses against torchebm's.

scikit-learn's `BernoulliRBM` trains by PCD-1, as ours here, in float32 as well. torchebm's
score losses are those of an energy: ours get the slope of the same energy as their score.
Run with the peer installed: `python -m tests.benchmarks.energy`.
"""

import importlib.util
import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from gdm_course.energy import score_matching as sm
from gdm_course.energy.ais import annealed_log_weights
from gdm_course.energy.langevin import run
from gdm_course.energy.network import EnergyNet
from gdm_course.energy.rbm import PersistentRBM
from gdm_course.training import batches
from tests.benchmarks.harness import Ratio, compare, table

ROWS, D, H = 2000, 784, 256


def epoch(model: PersistentRBM, x: Tensor, B: int) -> None:
    """Go through the data once, as the lecture does."""
    for v in batches(x, B):
        model.ascend(v, 0.01)


def against_sklearn(B: int, goal: float) -> Ratio:
    """One epoch, batches of B, with as many chains."""
    import sklearn
    from sklearn.neural_network import BernoulliRBM

    x = torch.bernoulli(torch.full((ROWS, D), 0.2))
    ours = PersistentRBM(D, H=H, chains=B)
    other = BernoulliRBM(n_components=H, learning_rate=0.01, batch_size=B, n_iter=1)
    return compare(
        f"RBM {D}-{H}, PCD-1, epoch of {ROWS:,} in batches of {B}",
        lambda: epoch(ours, x, B),
        lambda: other.fit(x.numpy()),
        f"scikit-learn {sklearn.__version__}",
        goal=goal,
        repeat=5,
    )


def net() -> EnergyNet:
    """An energy of the plane, by a perceptron with two hidden layers of 64."""
    return EnergyNet(2, waves=0, hidden=(64, 64))


def theirs(energy: nn.Module) -> nn.Module:
    """The same energy as torchebm takes it."""
    from torchebm.core import BaseModel

    class Wrapped(BaseModel):
        def __init__(self):
            super().__init__()
            self.inner = energy

        def forward(self, x: Tensor) -> Tensor:
            return self.inner.energy(x)

    return Wrapped()


def taught(loss: nn.Module, x: Tensor) -> None:
    """A loss and its slopes."""
    value = loss.loss(x) if hasattr(loss, "loss") else loss(x)
    value.backward()


def scored(kind: type, energy: EnergyNet, **more) -> nn.Module:
    """A loss for scores whose score is the slope of an energy."""
    model = kind(2, **more)
    model.net = energy
    model.score = energy.score
    return model


def against_torchebm() -> Iterator[Ratio]:
    """Langevin chains, and three losses with their slopes."""
    import torchebm
    from torchebm import losses
    from torchebm.samplers import LangevinDynamics

    version, energy = f"torchebm {torchebm.__version__}", net()
    other = theirs(energy)
    sampler, x = LangevinDynamics(other, step_size=0.005), torch.randn(1000, 2)
    yield compare(
        "Langevin, 1,000 chains x 100 steps in the plane",
        lambda: run(energy.energy, x, 0.01, 100),
        lambda: sampler.sample(x=x, n_steps=100),
        version,
    )
    sliced = {"n_projections": 1, "projection_type": "rademacher"}
    for name, kind, more, loss in (
        ("explicit", sm.ScoreModel, {}, losses.ScoreMatching(other)),
        ("sliced", sm.SlicedScoreModel, {}, losses.SlicedScoreMatching(other, **sliced)),
        (
            "denoising",
            sm.DenoisingScoreModel,
            {"sigma": 0.1},
            losses.DenoisingScoreMatching(other, noise_scale=0.1),
        ),
    ):
        mine = scored(kind, energy, **more)
        yield compare(
            f"{name} score matching of an energy, a batch of 256, with slopes",
            lambda m=mine: taught(m, x[:256]),
            lambda o=loss: taught(o, x[:256]),
            version,
        )


def chains_per_second(H: int, n: int = 100, K: int = 1000) -> float:
    """How many chains a second go through K temperatures."""
    model, betas = PersistentRBM(D, H=H), torch.linspace(0, 1, K + 1).tolist()
    start = time.perf_counter()
    annealed_log_weights(model, torch.zeros(D), betas, n)
    return n / (time.perf_counter() - start)


def ratios() -> Iterator[Ratio]:
    """All comparisons of this file, one after the other."""
    yield against_sklearn(100, 1.1)
    yield against_sklearn(10, 2.5)
    if importlib.util.find_spec("torchebm"):
        yield from against_torchebm()


if __name__ == "__main__":
    torch.manual_seed(0)
    print(table(list(ratios())))
    for H in (16, 500):
        print(
            f"AIS, {D}-{H}, 1,000 temperatures: {chains_per_second(H):.0f} chains a second"
        )
