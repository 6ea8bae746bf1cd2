"""What a round of two players costs: each loss and each penalty against the plain game.

The plain game is `GAN`: softplus of logits, no penalty. A ratio below 1 is what is paid.
"""

import time
from collections.abc import Iterator

import torch

from gdm_course.gan import gan as g
from gdm_course.gan.spectral import SpectralGAN
from gdm_course.gan.unrolled import UnrolledGAN
from gdm_course.gan.wgan import WGAN, WGANGP
from gdm_course.training import forever
from tests.benchmarks.harness import Ratio, compare, table

ROUNDS, B, NET = 20, 256, {"depth": 3, "hidden": 64}
WAYS = {
    "R1": (g.GAN, {"r1": 0.1}),
    "R1 and R2": (g.GAN, {"r1": 0.1, "r2": 0.1}),
    "relativistic": (g.RelativisticGAN, {}),
    "relativistic, R1 and R2": (g.RelativisticGAN, {"r1": 0.1, "r2": 0.1}),
    "Wasserstein, clipped": (WGAN, {}),
    "Wasserstein, slopes of 1 on lines": (WGANGP, {}),
    "Wasserstein, slopes to 1 on lines": (WGANGP, {"one_sided": True}),
    "Wasserstein, spectral and GroupSort": (SpectralGAN, {}),
    "packs of 2": (g.GAN, {"pack": 2}),
    "unrolled by 5 steps": (UnrolledGAN, {"k": 5}),
}


def rounds(gan: g.GAN, x: torch.Tensor) -> None:
    """Play some rounds of the course's own loop."""
    for _ in g.train_gan(gan, forever(x, B), ROUNDS):
        pass


def ratios() -> Iterator[Ratio]:
    """Each way against the plain game, in turn."""
    x = torch.randn(ROUNDS * B, 2)
    plain = g.GAN(2, **NET)
    for name, (kind, more) in WAYS.items():
        gan = kind(2, **NET, **more)
        what = f"{ROUNDS} rounds of 3x64, B = {B}: {name}"
        yield compare(
            what, lambda m=gan: rounds(m, x), lambda: rounds(plain, x), "no penalty"
        )


def cpu_milliseconds() -> Iterator[tuple[str, float]]:
    """Processor time of a round, which other programs on the machine hardly change."""
    x = torch.randn(ROUNDS * B, 2)
    for name, (kind, more) in {"no penalty": (g.GAN, {}), **WAYS}.items():
        gan = kind(2, **NET, **more)
        rounds(gan, x)
        start = time.process_time()
        for _ in range(3):
            rounds(gan, x)
        yield name, (time.process_time() - start) / (3 * ROUNDS) * 1e3


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    for name, milliseconds in cpu_milliseconds():
        print(f"{name:38}{milliseconds:7.2f} CPU ms a round")
    print(table(list(ratios())))
