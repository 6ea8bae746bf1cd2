"""A U-Net's steps, and what samplers compute around a network, against diffusers.

`pip install diffusers` brings the peer; without it nothing is compared. Run alone:
`python -m tests.benchmarks.diffusion`.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from gdm_course.diffusion.ddim import ddim_step
from gdm_course.diffusion.schedule import linear_schedule
from gdm_course.diffusion.solvers import dpm_solver_2m, heun
from gdm_course.diffusion.unet import UNet
from tests.benchmarks.harness import Ratio, Work, compare, table

BETAS = (1000, 1e-4, 0.02, "linear")
STEPS = 50


def training_step(net: nn.Module, call: Callable[[], Tensor]) -> Work:
    """Forward and backward; the gradients are thrown away."""

    def step() -> None:
        net.zero_grad(set_to_none=True)
        call().square().mean().backward()

    return step


def megaflops(net: nn.Module, x: Tensor, log_snr: Tensor) -> float:
    """Count what a network computes for a picture."""
    with FlopCounterMode(display=False) as count, torch.no_grad():
        net(x[:1], log_snr[:1])
    return count.get_total_flops() / 1e6


def size_of(net: nn.Module, *inputs: Tensor) -> str:
    """Say how large a network is, and how much it computes for a picture."""
    parameters = sum(p.numel() for p in net.parameters())
    return f"{parameters:,} parameters, {megaflops(net, *inputs):.0f} MFLOP"


def rival(size: int) -> nn.Module:
    """Return their U-Net: 32 and 64 channels, attention in the middle, log_snr told."""
    from diffusers import UNet2DModel

    return UNet2DModel(
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


# The same channels as theirs, who have a block more on the way up: ours computes a fifth
# less. With two blocks each way it computes a tenth more. The goal is for equal arithmetic.
SHAPES = {"width": 32, "mult": (1, 2)}, {"width": 16, "mult": (2, 4), "blocks": 2}


def fair(found: Ratio, share: float) -> Ratio:
    """Scale our time to their amount of arithmetic, of which ours does that share."""
    return replace(found, name="as much arithmetic", ours=found.ours / share, goal=1)


def unets(B: int = 16, size: int = 28) -> Iterator[Ratio]:
    """Steps of training and of sampling, of networks of about the same size."""
    theirs, x, log_snr = rival(size), torch.randn(B, 1, size, size), torch.randn(B)
    against = f"diffusers, {size_of(theirs, x, log_snr)}"
    for shape in SHAPES:
        ours = UNet(1, **shape)
        share = megaflops(ours, x, log_snr) / megaflops(theirs, x, log_snr)
        mine, its = lambda net=ours: net(x, log_snr), lambda: theirs(x, log_snr).sample
        name = f"U-Net, {size_of(ours, x, log_snr)}, step of {B}"
        steps = training_step(ours, mine), training_step(theirs, its)
        yield (found := compare(name, *steps, against, repeat=7))
        yield fair(found, share)
        with torch.no_grad():
            found = compare("sampling step", mine, its, against, repeat=7)
        yield found
        yield fair(found, share)


# Samplers, with a network that costs nothing: the exact denoiser of N(0, I). --------------


def ddim_jumps(x: Tensor) -> tuple[Work, Work]:
    """DDIM without noise through the same times: what we do, and what they do."""
    from diffusers import DDIMScheduler

    chain = linear_schedule(1000)
    peer = DDIMScheduler(*BETAS, clip_sample=False, prediction_type="sample")
    peer.set_timesteps(STEPS)
    times = [*(t + 1 for t in peer.timesteps.tolist()), 0]  # theirs count from 0
    alphas = chain.alpha(torch.tensor(times)).tolist()

    def ours() -> Tensor:
        here = x
        for (t, s), alpha in zip(pairwise(times), alphas):
            here = ddim_step(here, alpha * here, s, t, chain)
        return here

    def theirs() -> Tensor:
        here = x
        for t, alpha in zip(peer.timesteps, alphas):
            here = peer.step(alpha * here, t, here).prev_sample
        return here

    return ours, theirs


def guess(z: Tensor, s: float) -> Tensor:
    """Return E[x0 | z = x0 + s eps] of standard normal data."""
    return z / (1 + s * s)


def heun_steps(x: Tensor) -> tuple[Work, Work]:
    """Heun from their largest noise to none, two evaluations a step."""
    from diffusers import HeunDiscreteScheduler

    peer = HeunDiscreteScheduler(*BETAS, prediction_type="sample")
    peer.set_timesteps(STEPS)
    told = peer.sigmas.tolist()[:-1]  # what each evaluation is at, all but two come twice
    levels = [told[0], *told[1::2], 0.0]

    def theirs() -> Tensor:
        peer.set_timesteps(STEPS)  # it counts its own steps
        z = levels[0] * x
        for t, s in zip(peer.timesteps, told):
            z = peer.step(guess(z, s), t, z).prev_sample
        return z

    return lambda: heun(guess, levels[0] * x, levels), theirs


def dpm_steps(x: Tensor) -> tuple[Work, Work]:
    """DPM-Solver++ (2M) from their largest noise to none."""
    from diffusers import DPMSolverMultistepScheduler

    peer = DPMSolverMultistepScheduler(*BETAS, prediction_type="sample", solver_order=2)
    peer.set_timesteps(STEPS)
    levels = peer.sigmas.tolist()
    alphas = [(1 + s * s) ** -0.5 for s in levels]

    def theirs() -> Tensor:
        peer.set_timesteps(STEPS)
        here = x
        for t, alpha in zip(peer.timesteps, alphas):
            here = peer.step(alpha * here, t, here).prev_sample
        return here

    return lambda: dpm_solver_2m(guess, x / alphas[0], levels), theirs


SAMPLERS = {"DDIM": ddim_jumps, "Heun": heun_steps, "DPM-Solver++": dpm_steps}


def samplers(n: int = 1000) -> Iterator[Ratio]:
    """The same numbers to 1e-5, and the time."""
    x = torch.randn(n, 2)
    for name, make in SAMPLERS.items():
        ours, theirs = make(x)
        far = (ours() - theirs()).abs().max().item()
        assert far < 1e-5, f"{name}: {far}"
        what = f"{name}, {STEPS} steps of {n:,} points, at most {far:.0e} apart"
        yield compare(what, ours, theirs, "diffusers", goal=1, repeat=15)


def ratios() -> Iterator[Ratio]:
    """Everything that the peer has, too."""
    if not find_spec("diffusers"):
        print("not installed, so not compared: diffusers")
        return
    torch.manual_seed(0)
    yield from samplers()
    yield from unets()


if __name__ == "__main__":
    print(table(list(ratios())))
