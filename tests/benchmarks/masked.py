"""Masked diffusion against a GPT's cached generation: tokens per second, and nats.

`python -m tests.benchmarks.masked` compares the speed of equal networks, then prints what
both checkpoints reach. What a judge says of samples is no likelihood of the model: few
steps can look likely and be monotonous.

A step of masked sampling computes all tokens, as much as the whole of a cached generation.
So it can only be the quicker one in very few steps, or where time is not arithmetic.
"""

import time
from collections.abc import Iterator

import torch
from torch import Tensor

from gdm_course import checkpoints
from gdm_course.autoregressive.gpt import GPT
from gdm_course.diffusion.masked_models import MaskedText
from tests.benchmarks import harness
from tests.benchmarks.harness import Ratio, compare

K, T, N = 65, 128, 16
SHAPE = {"layers": 4, "heads": 4, "width": 128}
STEPS = (8, 32, None)  # None: one by one
NAMES = {
    "GPT": "autoregressive/gpt-shakespeare-cpu",
    "masked": "diffusion/masked-shakespeare",
}


def ratios() -> Iterator[Ratio]:
    """Equal networks, equal length: how many times as fast masked sampling is."""
    torch.manual_seed(0)
    gpt, masked = GPT(K, T, **SHAPE).eval(), MaskedText(K, T, **SHAPE).eval()
    for steps in STEPS:
        yield compare(
            f"masked diffusion, {N} x {T} tokens, {steps or T} steps",
            lambda steps=steps: masked.sample(N, steps),
            lambda: gpt.sample(N),
            "GPT of the same size, with its cache",
            repeat=3,
        )


def spread(x: Tensor) -> float:
    """Entropy of the single tokens in nats: low where samples are monotonous."""
    p = x.flatten().bincount(minlength=K) / x.numel()
    return -torch.special.xlogy(p, p).sum().item()


def nats(name: str) -> str:
    """What a card says of the test split, in nats per character."""
    told = checkpoints.card(name)
    first = next(f for f in told["figures"] if f["split"] == "test")
    return f"{first['metric']} {first['value']:.2f}, {told['parameters']:,} parameters"


def table() -> Iterator[str]:
    """One line for each way to sample from the checkpoints."""
    gpt, masked = (checkpoints.load(name).eval() for name in NAMES.values())
    ways = {"GPT, with its cache": lambda: gpt.sample(N, length=T)}
    for steps in STEPS:
        ways[f"masked, {steps or T} steps"] = lambda s=steps: masked.sample(N, s)
    for name, draw in ways.items():
        torch.manual_seed(0)
        start = time.process_time()
        x = draw()
        speed = x.numel() / (time.process_time() - start)
        with torch.no_grad():
            judged = -gpt.log_prob(x).mean().item() / T
        judge = f"the GPT says {judged:.2f} nats per character"
        variety = f"entropy of characters {spread(x):.2f}"
        yield f"{name:22s} {speed:6.0f} tokens per CPU second; {judge}; {variety}"


if __name__ == "__main__":
    print(harness.table([*ratios()]))
    for kind, name in NAMES.items():
        print(f"{kind}: {nats(name)}")
    print("\n".join(table()))
