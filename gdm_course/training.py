"""The training loop of the course, as a generator, and the few tools around it."""

import math
import os
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from gdm_course.batching import Batch, columns, numbered, whole
from gdm_course.chance import set_seeds
from gdm_course.environment import on
from gdm_course.learning import Attempt, copy_all


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


def full_run() -> bool:
    """Say whether a lecture trains in full, so that its figures can be held to a number.

    False if the environment says `GDM_SMOKE=1`: CI's quick run of a few steps.
    """
    return not on("GDM_SMOKE")


def budget(full: int, smoke: int) -> int:
    """Return `full`, or `smoke` steps where it is not a `full_run`."""
    return full if full_run() else smoke


def batches(x: Batch, B: int, generator: torch.Generator | None = None) -> Iterator[Batch]:
    """Go once through data that fits in memory, in random order, `B` rows at a time.

    Every row appears exactly once per call; the last batch may be smaller. A tuple of
    tensors with equally many rows, such as images and labels, is shuffled together.

    Args:
        x: data (N, *D), or a tuple of tensors with N rows each.
        B: rows in a batch.
        generator: draws the order; the global one if None.
    """
    parts, B = columns(x), whole("B", B, 1)
    device = None if generator is None else generator.device
    order = torch.randperm(len(parts[0]), generator=generator, device=device)
    for chosen in order.to(parts[0].device).split(B):
        yield x[chosen] if isinstance(x, Tensor) else tuple(t[chosen] for t in parts)


def forever(x: Batch, B: int, generator: torch.Generator | None = None) -> Iterator[Batch]:
    """Repeat `batches` without end, in a new order every epoch."""
    if len(columns(x)[0]) == 0:
        raise ValueError("the data has no rows: nothing to train on")
    while True:
        yield from batches(x, B, generator)


@torch.no_grad()
def ema(average: nn.Module, model: nn.Module, decay: float = 0.999) -> None:
    """Move `average`, a deep copy of `model`, one step: a <- decay * a + (1 - decay) * m.

    Buffers (such as running statistics) are copied.
    """
    to, new = [*average.parameters()], [*model.parameters()]
    if to:  # all in one call
        torch._foreach_lerp_(to, [m.to(a.dtype) for a, m in zip(to, new)], 1 - decay)
    copy_all([*average.buffers()], [*model.buffers()])


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


def for_players(model: nn.Module, lr: float, weight_decay: float = 0.0):
    """One AdamW for two players, for recipes: beta_1 = 0, for the other one moves too.

    A player that has no gradient in a move stays where it is, with all that Adam remembers
    of it: one optimiser for both takes the same steps as one for each.
    """
    weights, betas = model.parameters(), (0.0, 0.99)
    return torch.optim.AdamW(weights, lr, betas, weight_decay=weight_decay, fused=True)


def sgd(model: nn.Module, lr: float, weight_decay: float = 0.0):
    """Plain stochastic gradient descent, in torch's fused form, for recipes."""
    return torch.optim.SGD(model.parameters(), lr, weight_decay=weight_decay, fused=True)


def finite(value: Tensor, what: str, model: nn.Module, step: int, last: float) -> float:
    """Return a number, or raise FloatingPointError and say what is not finite and where."""
    if math.isfinite(number := value.item()):
        return number
    slopes = ((name, p.grad) for name, p in model.named_parameters())
    bad = [name for name, g in slopes if g is not None and not g.isfinite().all()]
    what += f" of {bad[0]}" if bad else ""
    raise FloatingPointError(
        f"{type(model).__name__}: the {what} is {number} at step {step} (last good loss: "
        f"{last:.4g}): look at the batch, lower the learning rate or clip the gradient"
    )


def gradient_norm(weights: Iterable[Tensor], clip: float | None = None) -> Tensor:
    """Return the norm of the whole gradient, after cutting it down to `clip` at most."""
    weights = [p for p in weights if p.grad is not None]
    slopes = [p.grad.coalesce().values() if p.grad.is_sparse else p.grad for p in weights]
    norms = torch._foreach_norm(slopes) if slopes else [torch.zeros(())]  # in one call
    norm = torch.stack([n.to(norms[0].device) for n in norms]).norm()
    if clip is not None:
        nn.utils.clip_grads_with_norm_(weights, clip, norm)
    return norm


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

    A loss or a gradient that is not finite raises before it can spoil anything.

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
    loss, attempt = math.nan, Attempt(model)
    for step, batch in numbered(batches, steps):
        model.train()
        optimizer.zero_grad(set_to_none=True)
        with attempt:  # what is not finite raises, and leaves the model as it was
            now = model.loss(*batch)
            loss = finite(now, "loss", model, step, last=loss)
            backward(now)
            finite(gradient_norm(attempt.weights, clip), "gradient", model, step, last=loss)
            for group in optimizer.param_groups if callable(lr) else []:
                group["lr"] = schedule(step - 1)
            optimizer.step()
        yield step, loss
