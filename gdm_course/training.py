"""The training loop of the course, as a generator, and the few tools around it."""

import math
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import torch
from torch import Tensor, nn

from gdm_course.chance import set_seeds
from gdm_course.environment import on

Batch = Tensor | tuple[Tensor, ...]


def seed_shift() -> int:
    """Return the whole number in `GDM_SEED_SHIFT` (0 without one), for lectures.

    Raises:
        ValueError: it is no whole number.
    """
    text = os.environ.get("GDM_SEED_SHIFT", "").strip() or "0"
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"GDM_SEED_SHIFT={text!r}: expected a whole number") from None


def shifted(seed: int) -> int:
    """Return a lecture's seed, or another one where `GDM_SEED_SHIFT` asks for it."""
    return seed + 1000 * seed_shift()


def seed_everything(seed: int) -> None:
    """`set_seeds`, for lectures: `GDM_SEED_SHIFT=k` runs one with all its seeds shifted."""
    set_seeds(shifted(seed))


def generator(seed: int) -> torch.Generator:
    """Return a generator of its own for draws, shifted like `seed_everything`."""
    return torch.Generator().manual_seed(shifted(seed))


def budget(full: int, smoke: int) -> int:
    """Return `full`, or `smoke` if the environment says `GDM_SMOKE=1` (CI's quick run)."""
    return smoke if on("GDM_SMOKE") else full


def batches(x: Batch, B: int, generator: torch.Generator | None = None) -> Iterator[Batch]:
    """Go once through data that fits in memory, in random order, `B` rows at a time.

    Every row appears exactly once per call; the last batch may be smaller. A tuple of
    tensors with equally many rows, such as images and labels, is shuffled together.

    Args:
        x: data (N, *D), or a tuple of tensors with N rows each.
        B: rows in a batch.
        generator: draws the order; the global one if None.
    """
    rows = x[0] if isinstance(x, tuple) else x
    order = torch.randperm(len(rows), generator=generator).to(rows.device)
    for chosen in order.split(B):
        yield tuple(t[chosen] for t in x) if isinstance(x, tuple) else x[chosen]


def forever(x: Batch, B: int, generator: torch.Generator | None = None) -> Iterator[Batch]:
    """Repeat `batches` without end, in a new order every epoch."""
    if len(x[0] if isinstance(x, tuple) else x) == 0:
        raise ValueError("the data has no rows: nothing to train on")
    while True:
        yield from batches(x, B, generator)


@torch.no_grad()
def ema(average: nn.Module, model: nn.Module, decay: float = 0.999) -> None:
    """Move `average`, a deep copy of `model`, one step: a <- decay * a + (1 - decay) * m.

    Buffers (such as running statistics) are copied.
    """
    for a, m in zip(average.parameters(), model.parameters()):
        a.lerp_(m.to(a.dtype), 1 - decay)
    for a, m in zip(average.buffers(), model.buffers()):
        a.copy_(m)


def adam(parameters: Iterable[Tensor], lr: float, weight_decay: float = 0.0):
    """AdamW, in torch's fused form, which is faster, where torch has it."""
    parameters = [p for p in parameters if p.requires_grad]
    fused = all(
        p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in parameters
    )
    return torch.optim.AdamW(parameters, lr, weight_decay=weight_decay, fused=fused or None)


def adamw(model: nn.Module, lr: float, weight_decay: float = 0.0):
    """`adam` for all parameters of a model: what recipes use unless they say otherwise."""
    return adam(model.parameters(), lr, weight_decay)


def finite(loss: Tensor, model: nn.Module, step: int, last: float) -> float:
    """Return the loss as a number, or raise FloatingPointError and say at which step."""
    if math.isfinite(value := loss.item()):
        return value
    raise FloatingPointError(
        f"{type(model).__name__}: the loss is {value} at step {step} (the last finite one "
        f"was {last:.4g}): lower the learning rate or clip the gradient"
    )


def train(
    model: nn.Module,
    batches: Iterable[Batch],
    steps: int,
    lr: float | Callable[[int], float] = 1e-3,
    optimizer: torch.optim.Optimizer | None = None,
    clip: float | None = None,
    backward: Callable[[Tensor], None] = Tensor.backward,
) -> Iterator[tuple[int, float]]:
    """Minimise `model.loss` with Adam, handing every step back to the caller's `for` loop.

    Args:
        model: anything Trainable.
        batches: an iterable of batches; training ends with it if it ends before `steps`.
        steps: how many optimiser steps to take.
        lr: the learning rate, or a function from the step (0, 1, ...) to it.
        optimizer: used instead of Adam, with its own rate unless `lr` is a function.
        clip: largest norm of the gradient, or None.
        backward: computes the gradients; large runs hand in their own.

    Yields:
        (step, loss): the step just taken, counted from 1, and its loss in the model's unit.
    """
    schedule = lr if callable(lr) else lambda step: lr
    optimizer = optimizer or adam(model.parameters(), schedule(0))
    loss = math.nan
    for step, batch in enumerate(islice(batches, steps), start=1):
        model.train()
        batch = batch if isinstance(batch, tuple) else (batch,)
        now = model.loss(*batch)
        loss = finite(now, model, step, last=loss)  # raises before it can spoil the weights
        optimizer.zero_grad(set_to_none=True)
        backward(now)
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        for group in optimizer.param_groups if callable(lr) else []:
            group["lr"] = schedule(step - 1)
        optimizer.step()
        yield step, loss
