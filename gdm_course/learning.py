"""What a model remembers beside its weights: when it learns that, from whom, and for good.

Some layers learn without a gradient: ActNorm its start, a codebook its codes. The rules, in
one place: only what is backpropagated teaches, never a measurement; every process teaches,
so that all remember the same; and a training step that fails leaves nothing behind.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parameter import is_lazy


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """Measure in evaluation mode; then every part is in the mode it was in, come what may.

    Args:
        model: also what `with evaluating(model) as model` gives.
    """
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        yield model
    finally:
        for part, training in modes:  # a part comes before its own parts
            if part.training != training:
                part.train(training)


_losses: list[None] = []  # one for every loss that is being computed


@contextmanager
def teaching() -> Iterator[None]:
    """Mark a loss, as a decorator or around its call: layers may start from what it shows.

    Outside, a layer that has not started yet computes with the weights that it has.
    """
    _losses.append(None)
    try:
        yield
    finally:
        _losses.pop()


def taught(layer: nn.Module) -> bool:
    """Say whether a layer is shown what it may start from: a loss, to be trained on."""
    return layer.training and bool(_losses) and torch.is_grad_enabled()


def on_backward(x: Tensor, learn: Callable[[], None]) -> Tensor:
    """Return x; `learn` is called once, when a loss that x went into is backpropagated.

    So a batch teaches a layer exactly when it teaches the weights. Without gradients, and
    by `autograd.grad` in some input, nothing is learned: that is measuring.
    """
    if not torch.is_grad_enabled():
        return x
    tap = x.new_zeros((), requires_grad=True)  # a leaf, as weights are

    def arrived(_: Tensor) -> None:
        handle.remove()
        learn()

    handle = tap.register_hook(arrived)
    return x + tap


def started(
    weights: Sequence[nn.Parameter], values: Sequence[Tensor], ready: Tensor
) -> Sequence[Tensor]:
    """Let weights start from data: return the values, with the gradients of the weights.

    A backward pass makes them the weights' own and sets `ready`, in place. Values that are
    not all finite are no start: then the weights themselves come back.
    """
    if not all(value.isfinite().all() for value in values):
        return weights
    pairs = [(weight, value.to(weight.dtype)) for weight, value in zip(weights, values)]

    @torch.no_grad()
    def keep() -> None:
        for weight, value in pairs:
            weight.copy_(value)
        ready.fill_(True)

    first, *others = (weight + (value - weight).detach() for weight, value in pairs)
    return on_backward(first, keep), *others


def processes() -> tuple[int, int]:
    """Return which process this is, and how many train together: (0, 1) for one alone."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def pooled(x: Tensor) -> Tensor:
    """Return the sum of x over all processes that train together: the same in each."""
    if processes()[1] > 1:
        x = x.contiguous().clone()
        dist.all_reduce(x)
    return x


def dealt(x: Tensor) -> Tensor:
    """Return rows (K, ...), the same in all processes, each of which gives its share."""
    rank, count = processes()
    mine = torch.arange(len(x), device=x.device) % count == rank
    return pooled(torch.where(mine.view(-1, *[1] * (x.ndim - 1)), x, 0))


@torch.no_grad()
def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation per channel of all processes' batches together.

    Args:
        x: (B, C, ...), any floating-point type; B may differ from process to process.

    Returns:
        Both (C,), float32 at least. The deviation of a single number is nan.
    """
    flat = x.transpose(0, 1).flatten(1)  # (C, B times pixels)
    flat = flat.to(torch.promote_types(x.dtype, torch.float32))
    n = pooled(flat.new_tensor(flat.shape[1]))
    mean = pooled(flat.sum(1)) / n
    return mean, (pooled((flat - mean[:, None]).square().sum(1)) / (n - 1)).sqrt()


class Attempt:
    """A step of training, `teaching`: a failure leaves weights and buffers as they were.

    Args:
        model: whose parameters are kept, and its buffers, also those that are bound anew.
    """

    def __init__(self, model: nn.Module):
        self.weights, self.copies = list(model.parameters()), []
        named = ((part, part.named_buffers(recurse=False)) for part in model.modules())
        self.places = [(part, name) for part, buffers in named for name, _ in buffers]

    @torch.no_grad()
    def __enter__(self) -> None:
        self.kept = [p for p in self.weights if not is_lazy(p)]  # those that have a shape
        if len(self.copies) != len(self.kept):
            self.copies = [torch.empty_like(p) for p in self.kept]
        copy_all(self.copies, self.kept)
        buffers = [getattr(part, name) for part, name in self.places]
        self.buffers = [(buffer, buffer.clone()) for buffer in buffers]
        _losses.append(None)

    @torch.no_grad()
    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        _losses.pop()
        if failed:
            copy_all(self.kept, self.copies)
            for (part, name), (buffer, copy) in zip(self.places, self.buffers):
                setattr(part, name, buffer.copy_(copy))


def copy_all(targets: list[Tensor], sources: list[Tensor]) -> None:
    """Copy tensors in place, all of them in one call, which costs little."""
    if targets:
        torch._foreach_copy_(targets, sources)
