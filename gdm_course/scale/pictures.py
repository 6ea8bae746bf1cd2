"""Pictures as numbers from -1 to 1, as two players want them, with labels or without."""

import torch
from torch import Tensor, nn

from gdm_course.batching import Batch, columns
from gdm_course.scale.data import Splits


def signed(x: Tensor, levels: int) -> Tensor:
    """Return codes 0 to levels - 1 as float32 numbers from -1 to 1."""
    return x.float() * (2 / (levels - 1)) - 1


def pictures(name: str) -> Splits:
    """Load images as float32 (N, C, H, W), -1 to 1."""
    from gdm_course.data import images

    data = images.load(name)
    parts = (data.x_train, data.x_valid, data.x_test)
    return Splits(*(signed(x, data.levels) for x in parts), data.source)


def labelled(name: str) -> Splits:
    """Load `pictures` with their labels: pairs of (N, C, H, W) and (N,) int64."""
    from gdm_course.data import images

    x, data = pictures(name), images.load(name)
    labels = (data.y_train, data.y_valid, data.y_test)
    return Splits(*zip((x.train, x.valid, x.test), labels), x.source)


def against_training(name: str) -> Splits:
    """Load `pictures` of a small data set, compared with those that were learned from.

    Where validation and test have a few hundred rows, most of a Frechet distance to them
    would be their own chance. Both are the training pictures here.
    """
    x = pictures(name)
    return Splits(x.train, x.train, x.train, x.source)


def labelled_against_training(name: str) -> Splits:
    """`against_training` with labels."""
    x = labelled(name)
    return Splits(x.train, x.train, x.train, x.source)


def shifted(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Move a batch of pictures by up to a pixel each way; what comes in is -1."""
    x, y = batch
    down, right = torch.randint(-1, 2, (2,)).tolist()
    H, W = x.shape[-2:]
    wide = torch.nn.functional.pad(x, (1, 1, 1, 1), value=-1.0)
    return wide[..., 1 + down : 1 + down + H, 1 + right : 1 + right + W], y


def labelled_codes(name: str) -> Splits:
    """Load images as codes with labels to train on: (x, y), and x alone to measure.

    Codes 0 to levels - 1, uint8 (N, C, H, W); labels (N,).
    """
    from gdm_course.data import images

    data = images.load(name)
    train = (data.x_train, data.y_train)
    return Splits(train, data.x_valid, data.x_test, data.source)


def equalised(model: nn.Module, x: Batch) -> None:
    """Give the `cells` of a model the shares of the values in its training data."""
    model.cells.fit(columns(x)[0])
