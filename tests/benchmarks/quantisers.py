"""Quantisers against vector-quantize-pytorch, in training and in evaluation.

`pip install vector-quantize-pytorch` brings the other; without it, only the plain way to
find the nearest code is compared. Run alone: `python -m tests.benchmarks.quantisers`.
"""

import importlib.util
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from gdm_course.vae.fsq import FiniteScalarQuantiser
from gdm_course.vae.quantise import VectorQuantiser, nearest
from tests.benchmarks.harness import Ratio, compare, table

K, D, GRID = 512, 64, 64  # codes, numbers per vector, vectors per picture


def training_step(quantiser: nn.Module, z: Tensor) -> Callable[[], None]:
    """Forward with the codebook's update, and backward to z."""

    def step() -> None:
        z.grad = None
        q, _, penalty = quantiser(z)
        (q.sum() + penalty.sum()).backward()

    return step


def codebooks(B: int) -> Iterator[Ratio]:
    """Running means, commitment and revival, on both sides, for B grids of vectors."""
    from vector_quantize_pytorch import VectorQuantize

    torch.manual_seed(0)
    z, ours = torch.randn(B, GRID, D, requires_grad=True), VectorQuantiser(K, D)
    options = {"decay": 0.99, "commitment_weight": 0.25, "threshold_ema_dead_code": 2}
    theirs = VectorQuantize(dim=D, codebook_size=K, **options)
    name = f"vector quantiser {K}x{D}, {B * GRID:,} vectors"
    steps = training_step(ours, z), training_step(theirs, z)
    yield compare(f"{name}, step", *steps, "vector-quantize-pytorch", goal=4)
    ours.eval(), theirs.eval()
    ours.codebook.normal_()  # revived codes can be twice the same vector: a tie
    theirs._codebook.embed.data.copy_(ours.codebook[None])
    with torch.no_grad():
        assert torch.equal(ours(z)[1], theirs(z)[1])  # the same codes
        both = (lambda: ours(z)), (lambda: theirs(z))
        yield compare(f"{name}, codes", *both, "vector-quantize-pytorch", goal=1)


def grids(B: int) -> Iterator[Ratio]:
    """Finite scalar quantisation with levels 8, 5, 5, 5."""
    from vector_quantize_pytorch import FSQ

    z, levels = torch.randn(B, GRID, 4, requires_grad=True), (8, 5, 5, 5)
    ours, theirs = FiniteScalarQuantiser(levels), FSQ(list(levels))

    def step(quantiser: nn.Module) -> Callable[[], None]:
        def run() -> None:
            z.grad = None
            quantiser(z)[0].sum().backward()

        return run

    name = f"FSQ {levels}, {B * GRID:,} vectors, step"
    yield compare(name, step(ours), step(theirs), "vector-quantize-pytorch", goal=1)


def ratios() -> Iterator[Ratio]:
    """The nearest code against all distances, and both quantisers against the peer."""
    torch.manual_seed(0)
    z, book = torch.randn(2048, D), torch.randn(K, D)
    assert nearest(z, book).equal(torch.cdist(z, book).argmin(1))
    ways = (
        (lambda: nearest(z, book)),
        (lambda: (z[:, None] - book).square().sum(-1).argmin(1)),
    )
    yield compare("nearest of 512 codes, 2,048 vectors", *ways, "all differences", repeat=3)
    if not importlib.util.find_spec("vector_quantize_pytorch"):
        print("not installed, so not compared: vector-quantize-pytorch")
        return
    for B in (8, 32, 128):
        yield from codebooks(B)
    yield from grids(32)


if __name__ == "__main__":
    print(table(list(ratios())))
