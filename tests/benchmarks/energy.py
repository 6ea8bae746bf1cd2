"""Boltzmann machines: an epoch of an RBM against scikit-learn's, and annealed chains.

scikit-learn's `BernoulliRBM` trains by PCD-1, as ours here, in float32 as well.
"""

import time
from collections.abc import Iterator

import torch
from torch import Tensor

from gdm_course.energy.ais import annealed_log_weights
from gdm_course.energy.rbm import PersistentRBM
from gdm_course.training import batches, sgd
from tests.benchmarks.harness import Ratio, compare, table

ROWS, D, H = 2000, 784, 256


def epoch(model: PersistentRBM, x: Tensor, B: int) -> None:
    """Go through the data once, as the lecture does."""
    optimiser = sgd(model, 0.01)
    for v in batches(x, B):
        optimiser.zero_grad(set_to_none=True)
        model.loss(v).backward()
        optimiser.step()


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


if __name__ == "__main__":
    torch.manual_seed(0)
    print(table(list(ratios())))
    for H in (16, 500):
        print(
            f"AIS, {D}-{H}, 1,000 temperatures: {chains_per_second(H):.0f} chains a second"
        )
