"""What a model may be given: each function returns its argument, or raises one sentence.

    x = points(x, self.D, self)     # floating-point (B, D) in the model's own dtype
    x = bits(x, self.shape, self)   # zeros and ones (B, *shape), made floating-point
    x = codes(x, self.K, "T")       # whole numbers 0..K-1, (B, T) for any T, made int64

Rank, shape and dtype are looked at on every call, for a few microseconds. Values are looked
at where that is cheap: on a CPU always; on a GPU, which would have to stop, only where no
gradient is recorded.

An empty batch is refused: its mean is not a number. `sample(0)` is none, so what leads from
noise or codes to data takes `least=0`.

Raises (all of them):
    TypeError: what should be a tensor is none.
    ValueError: another rank, shape, dtype or value than expected.
"""

import operator
from collections.abc import Sequence
from types import EllipsisType

import torch
from torch import Tensor, nn

Size = int | str  # a name stands for any size
Shape = Size | Sequence[Size] | EllipsisType  # ...: any shape, but a batch


def points(
    x: Tensor, shape: Shape, like: Tensor | nn.Module | None = None, *, name="x", least=1
) -> Tensor:
    """Return x if it is a batch of real numbers (B, *shape).

    Args:
        x: what was given.
        shape: of one example: sizes, or names where any size will do.
        like: a tensor or module whose dtype x has to have; None: any real numbers.
        name: of x, for the sentence.
        least: fewest rows; 0 also lets the size under a name be 0.
    """
    shaped(x, shape, name, least)
    if not x.is_floating_point():
        raise ValueError(
            f"{name} is {_word(x.dtype)}: expected floating-point numbers; give "
            f"{name}.float(), or take a model of whole numbers"
        )
    wanted = x.dtype if like is None else dtype_of(like)
    if x.dtype != wanted and not torch.is_autocast_enabled(x.device.type):
        raise ValueError(
            f"{name} is {_word(x.dtype)}: expected {_word(wanted)}, as the model is; give "
            f"{name}.to({wanted}), or convert the model with .to({x.dtype})"
        )
    return x


def vectors(z: Tensor, D: Size, like: Tensor | nn.Module | None = None, *, name="z"):
    """Return z if it holds real numbers (*B, D), with at least one dimension before D."""
    before = ["*B"] * (shaped(z, None, name).ndim - 2)  # any number of them
    return points(z, (*before, D), like, name=name, least=0)


def one_each(values: Tensor, B: int, name: str) -> Tensor:
    """Return values if they are real numbers (B,), one for every row.

    (B, 1) would broadcast with (B,) to all pairs, without a word.
    """
    if shaped(values, None, name).shape != (B,) or not values.is_floating_point():
        raise ValueError(
            f"{name} is {_word(values.dtype)} of shape {tuple(values.shape)}: expected "
            f"floating-point numbers ({B},), one for every row"
        )
    return values


def bits(
    x: Tensor, shape: Shape | None, like: Tensor | nn.Module | None = None, *, name="x"
) -> Tensor:
    """Return zeros and ones (B, *shape) of any dtype as real numbers, in that of `like`."""
    shaped(x, shape, name)
    if _cheap(x) and not ((x == 0) | (x == 1)).all():
        raise ValueError(
            f"{name} has values other than 0 and 1 ({_range(x)}): expected bits; binarise "
            f"it, such as ({name} > {name}.max() / 2).float(), or model grey values"
        )
    usual = x.dtype if x.is_floating_point() else torch.get_default_dtype()
    return x.to(usual if like is None else dtype_of(like))


def between(x: Tensor, low: float, high: float | Tensor, name="x", do="rescale it"):
    """Return x if all its numbers lie in [low, high], or say what to `do`."""
    if _cheap(x) and not ((x >= low) & (x <= high)).all():
        up_to = high.tolist() if isinstance(high, Tensor) else high
        raise ValueError(f"{name} has values {_range(x)}: expected {low} to {up_to}; {do}")
    return x


def codes(
    x: Tensor, K: int, shape: Shape | None = None, *, name: str = "x", least: int = 1
) -> Tensor:
    """Return whole numbers 0..K-1, (B, *shape) or of any shape if None, as int64.

    Any dtype will do, bytes and floating point too, if the numbers are whole.
    """
    shaped(x, shape, name, least)
    if x.dtype != torch.bool and x.numel() and _cheap(x):
        low, high = x.aminmax()
        if not (low >= 0 and high <= K - 1):
            raise ValueError(
                f"{name} has values {_range(x)}: expected codes 0 to {K - 1}; quantise the "
                "data first, or build the model for as many values as there are"
            )
        if x.is_floating_point() and (x != x.floor()).any():
            raise ValueError(
                f"{name} has fractions ({_range(x)}): expected whole numbers 0 to {K - 1}; "
                "quantise the data first"
            )
    return x.long()


def labels(y: Tensor | None, classes: int, B: int) -> Tensor | None:
    """Return labels (B,), 0 to classes - 1, as int64, or None if there are no classes."""
    if y is None and not classes:
        return None
    if y is None:
        raise ValueError(
            f"got no labels for a model with classes={classes}: give it y ({B},), labels "
            f"0 to {classes - 1}"
        )
    if not classes:
        raise ValueError(
            "got labels y for a model without classes: build it with classes=, or leave "
            "them out"
        )
    if shaped(y, None, "y").shape != (B,):
        raise ValueError(
            f"labels y have shape {tuple(y.shape)}: expected ({B},), one for every row"
        )
    return codes(y, classes, name="labels y", least=0)


def count(n: int, name: str = "n", least: int = 0) -> int:
    """Return a whole number that is at least so large, such as how many to sample."""
    try:
        whole = -1 if isinstance(n, bool) else operator.index(n)
    except TypeError:
        whole = -1
    if whole < least:
        raise ValueError(f"{name} is {n}: expected a whole number, {least} or more")
    return whole


def at_least(least: int, **sizes: int | Sequence[int]) -> None:
    """Refuse sizes, or sequences of sizes, that are smaller or no whole numbers."""
    for name, size in sizes.items():
        for n in size if isinstance(size, list | tuple) else [size]:
            count(n, name, least)


def shaped(x: Tensor, shape: Shape | None, name: str = "x", least: int = 1) -> Tensor:
    """Return x if it is a tensor (B, *shape) with B rows or more; any shape if None."""
    if not isinstance(x, Tensor):
        raise TypeError(
            f"{name} is of type {type(x).__name__}: expected a tensor; give "
            f"torch.as_tensor({name})"
        )
    if shape is None:
        return x
    shape = x.shape[1:] if shape is ... else shape
    sizes = (shape,) if isinstance(shape, int | str) else tuple(shape)
    if x.shape[1:] != sizes and not _fits(x, sizes, least):
        raise ValueError(
            f"{name} has shape {tuple(x.shape)}: expected {_tuple('B', *sizes)}"
            f"{_advice(x, sizes, name)}"
        )
    if x.ndim == len(sizes) or len(x) < least:
        rows = len(x) if x.ndim else "no"
        raise ValueError(f"{name} has length {rows}: expected {least} or more rows")
    return x


def dtype_of(like: Tensor | nn.Module) -> torch.dtype:
    """Return the dtype of a tensor, or of the first numbers of a module."""
    if isinstance(like, Tensor):
        return like.dtype
    for held in (like.parameters(), like.buffers()):
        for tensor in held:
            if tensor.is_floating_point():
                return tensor.dtype
    return torch.get_default_dtype()


def _fits(x: Tensor, sizes: tuple[Size, ...], least: int) -> bool:
    pairs = zip(sizes, x.shape[1:])
    fits = (n == s if isinstance(s, int) else n >= min(least, 1) for s, n in pairs)
    return x.ndim == 1 + len(sizes) and all(fits)


def _advice(x: Tensor, sizes: tuple[Size, ...], name: str) -> str:
    if x.ndim == len(sizes):
        return f"; a single example is a batch of one, {name}[None]"
    return "; reshape it, or build the model for its shape"


def _tuple(*sizes: Size) -> str:
    return f"({', '.join(map(str, sizes))}{',' if len(sizes) == 1 else ''})"


def _cheap(x: Tensor) -> bool:
    return x.device.type == "cpu" or not torch.is_grad_enabled()


def _range(x: Tensor) -> str:
    return f"from {x.min():.4g} to {x.max():.4g}" if x.numel() else "none"


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
