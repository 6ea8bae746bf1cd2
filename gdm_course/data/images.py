"""Image data sets as tensors: uint8, (N, C, H, W), with labels and three fixed splits.

    digits = images.load("digits")      # needs no download
    digits.x_train                      # (1285, 1, 8, 8), values 0 to 16

| name | images | training, validation, test | validation split |
|---|---|---|---|
| digits | 1x8x8, values 0..16 | 1,285 / 256 / 256 | rows 5 modulo 7; test: 6 |
| mnist, fashion_mnist | 1x28x28 | 50,000 / 10,000 / 10,000 | last 10,000 for training |
| binarized_mnist | 1x28x28, 0 or 1 | 50,000 / 10,000 / 10,000 | Larochelle's own |
| cifar10 | 3x32x32 | 45,000 / 5,000 / 10,000 | last 5,000 for training |
| usps | 1x16x16 | 6,291 / 1,000 / 2,007 | last 1,000 for training |
| path/to/any.npz | as found | its own | its x_valid, else the last tenth |

Test splits are the official ones; the digits of scikit-learn have none, so theirs is ours.
The fixed binarised MNIST comes without labels, and its test split is sorted by digit: a
figure on its first rows only is wrong by nats.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gdm_course.data import decode, download

TEN = tuple("0123456789")
CLOTHES = ("T-shirt", "trouser", "pullover", "dress", "coat")
CLOTHES += ("sandal", "shirt", "sneaker", "bag", "ankle boot")
THINGS = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)


@dataclass(frozen=True)
class Images:
    """One image data set.

    Attributes:
        name: under which it was loaded.
        x_train, x_valid, x_test: uint8 (N, C, H, W), values 0 to `levels` - 1.
        y_train, y_valid, y_test: int64 (N,), or None where there are no labels.
        classes: what the labels mean.
        source: what to call it beside a measured figure.
        levels: how many values a pixel can have.
    """

    name: str
    x_train: Tensor
    y_train: Tensor | None
    x_valid: Tensor
    y_valid: Tensor | None
    x_test: Tensor
    y_test: Tensor | None
    classes: tuple[str, ...]
    source: str
    levels: int = 256


def load(name: str | Path = "digits") -> Images:
    """Load a data set by name, or from the path of an `.npz` file; download it if need be.

    Args:
        name: one of `names()`, or a file with arrays x_train, y_train, x_test, y_test
            (and perhaps x_valid, y_valid) of uint8 images, (N, H, W) or (N, C, H, W).

    Raises:
        ValueError: unknown name, or a file with other contents.
        Missing: the data set is not here and may not be downloaded; the message says what
            to do.
    """
    if name in LOADERS:
        return LOADERS[name](name)
    if str(name).lower().endswith(".npz"):
        return _npz(Path(name), Path(name).stem)
    raise ValueError(
        f"no image data set is called {str(name)!r}: choose from {', '.join(LOADERS)}, or "
        "give the path of an .npz file with x_train, y_train, x_test and y_test"
    )


def names() -> list[str]:
    """Return the names of all image data sets."""
    return list(LOADERS)


def binarize(
    x: Tensor, levels: int = 256, generator: torch.Generator | None = None
) -> Tensor:
    """Draw black or white with the pixel's value as the probability: uint8 0 or 1.

    A new draw every epoch is the literature's "resampled" binarised MNIST, not the
    fixed one: never compare figures on the two.
    """
    p = x.float() / (levels - 1)
    draw = torch.rand(
        x.shape, generator=generator, device=generator.device if generator else "cpu"
    )
    return (draw.to(x.device) < p).to(torch.uint8)


def threshold(x: Tensor, levels: int = 256) -> Tensor:
    """Make the upper half of the values 1 and the rest 0 (uint8)."""
    return (x.float() > (levels - 1) / 2).to(torch.uint8)


def _split(name: str, train: tuple, test: tuple, n_valid: int, *rest, **more) -> Images:
    """Hold out the last `n_valid` training rows."""
    (x, y), n = train, len(train[0]) - n_valid
    return Images(name, x[:n], y[:n], x[n:], y[n:], *test, *rest, **more)


def _digits(name: str) -> Images:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise download.Missing(
            "the digits come with scikit-learn, which is missing: pip install scikit-learn"
        ) from error
    bunch = load_digits()
    x = torch.from_numpy(bunch.images).to(torch.uint8)[:, None]
    y, row = torch.from_numpy(bunch.target).long(), torch.arange(len(x)) % 7
    parts = [part for keep in (row < 5, row == 5, row == 6) for part in (x[keep], y[keep])]
    return Images(name, *parts, TEN, "scikit-learn's digits (8x8)", 17)


def _mnist(name: str) -> Images:
    arrays = [decode.idx(path) for path in download.need(name)]
    x, y, x_test, y_test = (torch.from_numpy(a) for a in arrays)
    train, test = (x[:, None], y.long()), (x_test[:, None], y_test.long())
    fashion = name == "fashion_mnist"
    classes, source = (CLOTHES, "Fashion-MNIST") if fashion else (TEN, "MNIST")
    return _split(name, train, test, 10_000, classes, source)


def _binarized_mnist(name: str) -> Images:
    parts = []
    for array in decode.bits(download.need(name)):
        parts += [torch.from_numpy(array).view(-1, 1, 28, 28), None]
    return Images(name, *parts, (), "fixed binarised MNIST", 2)


def _cifar10(name: str) -> Images:
    paths = download.need(name)
    if paths[0].name.endswith(".tar.gz"):
        arrays = decode.cifar_archive(paths[0])
    elif paths[0].name.endswith(".xz"):
        arrays = decode.cifar_parts(paths)
    else:
        arrays = decode.npz(paths[0])
    x, y, x_test, y_test = (torch.from_numpy(a) for a in arrays[:4])
    n = len(x) + len(x_test)
    source = "CIFAR-10" + ("" if n == 60_000 else f" ({n:,} of 60,000 images)")
    return _split(name, (x, y.long()), (x_test, y_test.long()), 5_000, THINGS, source)


def _usps(name: str) -> Images:
    x, y, x_test, y_test = decode.npz(download.need(name)[0])[:4]
    x, x_test = (  # 2,001 grey values are stored; 256 of them are kept
        torch.from_numpy((a * (255 / 2000)).round().astype("uint8"))[:, None]
        for a in (x, x_test)
    )
    y, y_test = torch.from_numpy(y).long(), torch.from_numpy(y_test).long()
    return _split(name, (x, y), (x_test, y_test), 1_000, TEN, "USPS (16x16)")


def _npz(path: Path, name: str) -> Images:
    x, y, x_test, y_test, *valid = decode.npz(path)
    tensors = [torch.from_numpy(a) for a in (x, y, x_test, y_test, *valid)]
    for i in range(0, len(tensors), 2):
        if tensors[i].dtype != torch.uint8 or tensors[i].ndim not in (3, 4):
            raise ValueError(
                f"{path}: expected uint8 images (N, H, W) or (N, C, H, W), got "
                f"{tensors[i].dtype} of shape {tuple(tensors[i].shape)}"
            )
        tensors[i] = tensors[i][:, None] if tensors[i].ndim == 3 else tensors[i]
        tensors[i + 1] = tensors[i + 1].long()
    classes = tuple(str(c) for c in range(int(tensors[1].max()) + 1))
    if valid:
        x, y, x_test, y_test, x_valid, y_valid = tensors
        return Images(name, x, y, x_valid, y_valid, x_test, y_test, classes, name)
    x, y, x_test, y_test = tensors
    return _split(name, (x, y), (x_test, y_test), len(x) // 10, classes, name)


LOADERS: dict[str, Callable[[str], Images]] = {
    "digits": _digits,
    "mnist": _mnist,
    "fashion_mnist": _mnist,
    "binarized_mnist": _binarized_mnist,
    "cifar10": _cifar10,
    "usps": _usps,
}
