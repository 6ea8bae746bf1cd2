"""Steps that never make a GPU wait: what is looked at is looked at every fifty steps.

A GPU works through a queue that the processor fills. Whoever reads a number (`.item()`)
waits until the queue is empty, and then the GPU waits for new work. So losses are summed
where they are, rows are chosen there, and only the sums are read.
"""

import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gdm_course.batching import Batch, numbered
from gdm_course.chance import own_chance
from gdm_course.learning import Attempt, teaching
from gdm_course.training import gradient_norm

LOOK = 50  # steps between two readings on a GPU
PAUSE = 5  # seconds


class Watch:
    """The sums of losses and of gradient norms since they were last read."""

    def __init__(self, device: torch.device):
        self.zero = torch.zeros(2, device=device)
        self.sums, self.n, self.last = self.zero, 0, math.nan

    def note(self, loss: Tensor, norm: Tensor) -> None:
        """Add a step: whatever is not finite stays so in the sums."""
        now = torch.stack([loss.detach(), norm.detach().to(loss.device)]).float()
        self.sums, self.n = self.sums + now, self.n + 1

    def read(self) -> float:
        """Return the mean loss since the last time.

        Raises:
            FloatingPointError: a loss or a gradient was not finite.
        """
        loss, norm = self.sums.tolist()
        if not math.isfinite(loss + norm):
            what, number = ("gradient", norm) if math.isfinite(loss) else ("loss", loss)
            raise FloatingPointError(
                f"watch: the {what} is {number} within the last {self.n} steps (mean loss "
                f"before: {self.last:.4g}): look at the data, lower the learning rate or "
                "clip the gradient"
            )
        self.last = loss / max(self.n, 1)
        self.sums, self.n = self.zero, 0
        return self.last


def unwatched(
    objective: nn.Module,
    batches: Iterable[Batch],
    rate: Callable[[int], float],
    optimizer: torch.optim.Optimizer,
    clip: float | None,
    backward: Callable[[Tensor], Any],
) -> Iterator[tuple[Tensor, Tensor]]:
    """Take the steps of `training.train` without looking at any; yield loss and norm.

    Args:
        objective: returns a loss for a batch.
        rate: from the step (0, 1, ...) to the learning rate.
        batches, optimizer, clip, backward: as in `train`.
    """
    weights = [p for p in objective.parameters() if p.requires_grad]
    for step, batch in numbered(batches, sys.maxsize):
        objective.train()
        optimizer.zero_grad(set_to_none=True)
        with teaching():
            loss = objective(*batch)
        backward(loss)
        norm = gradient_norm(weights, clip)
        for group in optimizer.param_groups:
            group["lr"] = rate(step - 1)
        optimizer.step()
        yield loss, norm


def compiled(
    objective: nn.Module, inner: nn.Module, batch: tuple, backward: Callable, say: Callable
) -> None:
    """Compile the forward of `inner`, or say in one line why it stays as it is.

    One loss is tried, forwards and backwards; the model and chance remain as they were.

    Args:
        objective: what is called in training: `inner`, wrapped.
        inner: whose forward returns the loss.
    """
    plain = inner.forward
    inner.forward = torch.compile(plain)
    try:
        with own_chance(), Undone(inner):
            backward(objective(*batch))
    except (torch.OutOfMemoryError, FloatingPointError):
        raise
    except Exception as error:  # of any kind: a compiler has many ways to fail
        inner.forward = plain
        why = (str(error).strip() or type(error).__name__).split("\n")[0]
        say(f"not compiled, and slower for it: {why[:100]}")
    inner.zero_grad(set_to_none=True)


class Undone(Attempt):
    """An attempt that always leaves weights and buffers as they were."""

    def __exit__(self, failed: type[BaseException] | None, *rest: object) -> None:
        """Put everything back."""
        super().__exit__(failed or RuntimeError, *rest)


def release(optimizer: torch.optim.Optimizer) -> None:
    """Give memory back to the device: gradients, and what torch holds without need."""
    optimizer.zero_grad(set_to_none=True)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def patient(measure: Callable[[], Any], say: Callable[[str], Any], tries: int = 4) -> Any:
    """Measure; where memory is short, wait for those who run beside, and try again."""
    for left in range(tries - 1, -1, -1):
        try:
            return measure()
        except torch.OutOfMemoryError:
            if not left:
                raise
        say(f"out of memory while measuring: waiting {PAUSE} s for the others")
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        time.sleep(PAUSE)


@contextmanager
def exactly() -> Iterator[None]:
    """Compute in true float32 in a block; elsewhere a GPU may round products to TF32."""
    convolutions, products = torch.backends.cudnn, torch.get_float32_matmul_precision()
    rounded, convolutions.allow_tf32 = convolutions.allow_tf32, False
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        convolutions.allow_tf32 = rounded
