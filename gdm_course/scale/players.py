"""The steps of two players on a GPU: `train_gan`, looked at every fifty steps."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gdm_course.batching import Batch, numbered
from gdm_course.learning import teaching
from gdm_course.training import gradient_norm


def unwatched_players(
    objective: nn.Module,
    moves: Sequence[str],
    constrain: Callable[[], None],
    batches: Iterable[Batch],
    rate: Callable[[int], float],
    optimizer: torch.optim.Optimizer,
    clip: float | None,
    backward: Callable[[Tensor], Any],
) -> Iterator[tuple[Tensor, Tensor]]:
    """Take the steps of `gan.gan.train_gan` without looking at any.

    Args:
        objective: returns the loss of that name for a batch.
        moves: names of the losses of a step; the last one is the generator's, and takes
            the batch of the move before.
        constrain: called after every move of the discriminator.
        batches: one for every move of the discriminator.
        rate, optimizer, clip, backward: as in `fast.unwatched`.

    Yields:
        The loss of the discriminator in its last move, and the gradient's norms of all.
    """
    *critics, generator = moves
    weights = [p for p in objective.parameters() if p.requires_grad]

    def move(name: str, batch: tuple) -> tuple[Tensor, Tensor]:
        optimizer.zero_grad(set_to_none=True)
        with teaching():
            loss = objective(*batch, of=name)
        backward(loss)
        norm = gradient_norm(weights, clip)
        optimizer.step()
        return loss, norm

    total: Tensor | float = 0.0
    for turn, batch in numbered(batches, sys.maxsize):
        step, last = (turn - 1) // len(critics), turn % len(critics) == 0
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        objective.train()
        loss, norm = move(critics[0], batch)
        constrain()
        total = total + norm
        if last:
            total = total + move(generator, batch)[1]
            yield loss, total
            total = 0.0
