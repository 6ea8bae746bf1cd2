"""A U-Net's training step, and DDIM's arithmetic, against diffusers at equal size.

`pip install diffusers` brings the peer; without it nothing is compared. Run alone:
`python -m tests.benchmarks.diffusion`.
"""

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import pairwise

import torch
from torch import Tensor, nn

from gdm_course.diffusion.ddim import ddim_step
from gdm_course.diffusion.schedule import linear_schedule
from gdm_course.diffusion.unet import UNet
from tests.benchmarks.harness import Ratio, Work, compare, table


def training_step(net: nn.Module, call: Callable[[], Tensor]) -> Work:
    """Forward and backward; the gradients are thrown away."""

    def step() -> None:
        net.zero_grad(set_to_none=True)
        call().square().mean().backward()

    return step


def unets(B: int = 16, size: int = 28) -> Iterator[Ratio]:
    """Two sizes of 32 and 64 channels, one block each way, attention in the middle."""
    from diffusers import UNet2DModel

    ours = UNet(1, width=32, mult=(1, 2))
    theirs = UNet2DModel(
        sample_size=size,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
        attention_head_dim=64,
    )
    x, log_snr = torch.randn(B, 1, size, size), torch.randn(B)
    sizes = [sum(p.numel() for p in net.parameters()) for net in (ours, theirs)]
    steps = (
        training_step(ours, lambda: ours(x, log_snr)),
        training_step(theirs, lambda: theirs(x, log_snr).sample),
    )
    name = f"U-Net, {sizes[0]:,} parameters, {B} pictures, step"
    yield compare(name, *steps, f"diffusers, {sizes[1]:,}", goal=1, repeat=5)
    with torch.no_grad():
        both = (lambda: ours(x, log_snr)), (lambda: theirs(x, log_snr).sample)
        yield compare("the same, sampling step", *both, "diffusers", goal=1, repeat=5)


def jumps(n: int = 1000, steps: int = 50) -> Iterator[Ratio]:
    """DDIM's steps with a network that costs nothing: the same numbers, and the time."""
    from diffusers import DDIMScheduler

    chain = linear_schedule(1000)
    peer = DDIMScheduler(1000, 1e-4, 0.02, "linear", clip_sample=False)
    peer.set_timesteps(steps)
    times = [*(t + 1 for t in peer.timesteps.tolist()), 0]  # theirs count from 0
    x = torch.randn(n, 2)

    def ours() -> Tensor:
        here = x
        for t, s in pairwise(times):
            alpha, sigma = chain.alpha(t), chain.sigma(t)
            here = ddim_step(here, (here - sigma * 0.5 * here) / alpha, s, t, chain)
        return here

    def theirs() -> Tensor:
        here = x
        for t in peer.timesteps:
            here = peer.step(0.5 * here, t, here).prev_sample
        return here

    torch.testing.assert_close(ours(), theirs(), rtol=1e-4, atol=1e-5)
    yield compare(f"DDIM, {steps} steps of {n:,} points", ours, theirs, "diffusers", goal=1)


def ratios() -> Iterator[Ratio]:
    """Everything that the peer has, too."""
    if not find_spec("diffusers"):
        print("not installed, so not compared: diffusers")
        return
    torch.manual_seed(0)
    yield from jumps()
    yield from unets()


if __name__ == "__main__":
    print(table(list(ratios())))
