"""What a recipe trains on: three splits, and an order of rows that any step can compute."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from gdm_course.batching import Batch


@dataclass(frozen=True)
class Splits:
    """Training, validation and test data as the model wants them, and their source."""

    train: Batch
    valid: Batch
    test: Batch
    source: str

    def to(self, device: torch.device) -> "Splits":
        """Move all splits to a device."""
        moved = [
            x.to(device) if isinstance(x, Tensor) else tuple(t.to(device) for t in x)
            for x in (self.train, self.valid, self.test)
        ]
        return Splits(*moved, self.source)


def binary_images(name: str) -> Splits:
    """Load images as vectors of zeros and ones, float32 (N, D).

    A data set that is not binary yet is cut at half of its levels.
    """
    from gdm_course.data import images

    data = images.load(name)
    splits = [
        images.threshold(x, data.levels).flatten(1).float()
        for x in (data.x_train, data.x_valid, data.x_test)
    ]
    return Splits(*splits, data.source)


def image_codes(name: str) -> Splits:
    """Load images as they are: codes 0 to levels - 1, uint8 (N, C, H, W)."""
    from gdm_course.data import images

    data = images.load(name)
    return Splits(data.x_train, data.x_valid, data.x_test, data.source)


def pixel_codes(name: str) -> Splits:
    """Load images as vectors of codes, 0 to levels - 1, uint8 (N, D)."""
    data = image_codes(name)
    return Splits(*(x.flatten(1) for x in (data.train, data.valid, data.test)), data.source)


def text_windows(name: str, T: int) -> Splits:
    """Load a text by the name of its function in `data.text`, as windows of T characters.

    Training windows (N, T) begin at every character (they share memory); validation and
    test are cut into consecutive blocks (N, T), the last incomplete one left out.
    """
    from gdm_course.data import text

    words = getattr(text, name)()
    train, valid, test = map(words.encode, (words.train, words.valid, words.test))
    blocks = [codes[: len(codes) // T * T].view(-1, T) for codes in (valid, test)]
    return Splits(train.unfold(0, T, 1), *blocks, words.source)


@lru_cache(maxsize=2)
def permutation(N: int, seed: int, epoch: int) -> Tensor:
    """Return the order of N rows in one epoch, the same on every process."""
    return torch.randperm(N, generator=torch.Generator().manual_seed(seed * 2**20 + epoch))


@dataclass(frozen=True)
class Order:
    """Which rows belong to which step, as a function of the step alone.

    The permutations of all epochs lie end to end and are cut every B rows, so each batch
    is full, each epoch shows every row once, and a resumed run needs no position in it.

    Args:
        N, B: rows in the data, and in a batch over all processes together.
        seed: draws the permutations.
        rank, world: this process, and how many there are; B is a multiple of `world`.
    """

    N: int
    B: int
    seed: int
    rank: int = 0
    world: int = 1

    def __post_init__(self):
        if self.N == 0:
            raise ValueError("the data has no rows: nothing to train on")
        if self.B % self.world:
            shared = f"{self.B} rows cannot be shared equally by {self.world} processes"
            raise ValueError(f"{shared}: take a number of devices that divides the batch")

    def batch(self, step: int) -> Tensor:
        """Return all rows of step 0, 1, ...: (B,)."""
        rows, at, end = [], step * self.B, (step + 1) * self.B
        while at < end:
            epoch, start = divmod(at, self.N)
            rows.append(permutation(self.N, self.seed, epoch)[start : start + end - at])
            at += len(rows[-1])
        return torch.cat(rows)

    def shard(self, step: int) -> Tensor:
        """Return this process's rows of a step: (B / world,)."""
        return self.batch(step)[self.rank :: self.world]


def rows_of(x: Batch, rows: Tensor) -> Batch:
    """Pick rows from a tensor, or from every tensor of a tuple."""
    return x[rows] if isinstance(x, Tensor) else tuple(t[rows] for t in x)
