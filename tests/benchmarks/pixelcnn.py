"""PixelCNNs: cached sampling against a full pass per pixel, log_prob in one pass."""

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

from gdm_course.autoregressive.gated_pixelcnn import GatedPixelCNN
from gdm_course.autoregressive.pixelcnn import PixelCNN, RasterDensity
from tests.benchmarks.harness import Ratio, compare

SHAPE = (1, 28, 28)


def sample_by_pixel(model: RasterDensity, n: int) -> Tensor:
    """Draw n grey images with one full forward pass per pixel."""
    x = torch.zeros(n, *model.shape, dtype=torch.long)
    for i, j in itertools.product(*map(range, model.shape[1:])):
        pixel = model.conditionals(x).logits[:, 0, i, j]
        x[:, 0, i, j] = torch.distributions.Categorical(logits=pixel).sample()
    return x


def log_prob_by_pixel(model: RasterDensity, x: Tensor) -> Tensor:
    """Log p(x) with one forward pass per pixel, which sees earlier pixels only."""
    log_p = torch.zeros(len(x))
    at = torch.arange(x[0].numel()).view(model.shape)
    for d in range(x[0].numel()):
        seen = model.conditionals(x * (at < d))
        log_p += seen.log_prob(x).flatten(1)[:, d]
    return log_p


@torch.no_grad()
def ratios() -> Iterator[Ratio]:
    """Both architectures, on binary images of 28x28; the first has its default sizes."""
    for name, model in {
        "PixelCNN 64, 5 blocks": PixelCNN(SHAPE, 2),
        "gated PixelCNN 32, 4 layers": GatedPixelCNN(
            SHAPE, 2, features=32, dilations=(1, 2, 1, 4)
        ),
    }.items():
        x = model.sample(1)
        full, by_pixel = model.log_prob(x), log_prob_by_pixel(model, x)
        assert torch.allclose(full, by_pixel, atol=1e-2)
        yield compare(
            f"{name}, sample 1 of 28x28",
            lambda model=model: model.sample(1),
            lambda model=model: sample_by_pixel(model, 1),
            "a forward pass per pixel",
            goal=10,  # the issue asks for 10, the anchors for 12
            repeat=5,
        )
        yield compare(
            f"{name}, log_prob of 1",
            lambda model=model, x=x: model.log_prob(x),
            lambda model=model, x=x: log_prob_by_pixel(model, x),
            "a forward pass per pixel",
            repeat=1,
        )
