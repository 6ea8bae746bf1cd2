"""The steps of two players on a GPU: `train_gan`, looked at every fifty steps."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gdm_course.batching import Batch, numbered
from gdm_course.learning import teaching
from gdm_course.training import gradient_norm


def unwatched_players(
    players: nn.Module,
    moves: Sequence[str],
    batches: Iterable[Batch],
    rate: Callable[[int], float],
    optimizer: torch.optim.Optimizer,
    clip: float | None,
    backward: Callable[[Tensor], Any],
) -> Iterator[tuple[Tensor, Tensor]]:
    """Take the steps of `gan.gan.train_gan` without looking at any.

    Args:
        players: the model, as Fabric wants it called.
        moves: names of the losses of a step; the last one is the generator's, and takes
            the batch of the move before.
        batches: one for every move of the discriminator.
        rate, optimizer, clip, backward: as in `fast.unwatched`.

    Yields:
        The loss of the discriminator in its last move, and the sum of all gradients' norms.
    """
    *critics, generator = moves
    move = partial(moved, players, optimizer, clip, backward)
    norms: list[Tensor] = []
    for turn, batch in numbered(batches, sys.maxsize):
        step, pause = (turn - 1) // len(critics), turn % len(critics)
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        players.train()
        loss = move(critics[0], batch, norms)
        if not pause:
            move(generator, batch, norms)
            yield loss, torch.stack(norms).sum()
            norms.clear()


def moved(
    players: nn.Module,
    optimizer: torch.optim.Optimizer,
    clip: float | None,
    backward: Callable[[Tensor], Any],
    name: str,
    batch: tuple,
    norms: list[Tensor],
) -> Tensor:
    """Take one step down the loss of that name and return it; note the gradient's norm."""
    optimizer.zero_grad(set_to_none=True)
    with teaching():
        loss = getattr(players, name)(*batch)
    backward(loss)
    norms.append(gradient_norm(list(players.parameters()), clip))
    optimizer.step()
    if name == "discriminator_loss":
        players.constrain()
    return loss
