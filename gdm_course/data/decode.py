"""From the files of data sets to numpy arrays, one function per format."""

import gzip
import io
import lzma
import pickle
import tarfile
from pathlib import Path

import numpy as np

from gdm_course.data.registry import dataset
from gdm_course.data.transfer import checksum

SPLITS = ("x_train", "y_train", "x_test", "y_test")


def idx(path: Path) -> np.ndarray:
    """Read a gzipped IDX file (MNIST's format) of unsigned bytes.

    Raises:
        ValueError: the file is not one.
    """
    raw = bytearray(gzip.decompress(path.read_bytes()))  # a bytearray: torch wants to write
    D = raw[3]
    shape = np.frombuffer(raw, ">u4", D, offset=4).astype(int)
    if raw[:3] != b"\0\0\x08" or len(raw) != 4 + 4 * D + shape.prod():
        raise ValueError(f"{path} is not an IDX file of bytes: run 'gdm data verify'")
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * D).reshape(shape)


def bits(paths: list[Path]) -> list[np.ndarray]:
    """Read Larochelle's binarised MNIST: training, validation, test, (N, 784) of 0 and 1.

    The files are either the three original texts ("0 1 0 ...", one image a line) or one
    archive with eight pixels to a byte.
    """
    if paths[0].suffix.lower() == ".npz":
        with np.load(paths[0]) as packed:
            return [np.unpackbits(packed[k], axis=1) for k in ("train", "valid", "test")]
    texts = [np.fromfile(path, np.uint8).reshape(-1, 2 * 784) for path in paths]
    return [np.ascontiguousarray(text[:, ::2]) - ord("0") for text in texts]


def npz(path: Path) -> list[np.ndarray]:
    """Read x_train, y_train, x_test, y_test from an archive, and x_valid, y_valid if there.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an array is missing, or images and labels differ in number.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    with np.load(path) as arrays:
        if lacking := [key for key in SPLITS if key not in arrays]:
            raise ValueError(
                f"{path.name} lacks {', '.join(lacking)}; it has {', '.join(arrays) or '-'}"
            )
        keys = [*SPLITS, *(k for k in ("x_valid", "y_valid") if k in arrays)]
        found = [arrays[key] for key in keys]
    for key, x, y in zip(keys[::2], found[::2], found[1::2]):
        if len(x) != len(y):
            raise ValueError(f"{path}: {key} has {len(x)} images but {len(y)} labels")
    return found


def cifar_archive(path: Path) -> list[np.ndarray]:
    """Read the canonical `cifar-10-python.tar.gz`: images (N, 3, 32, 32) and labels.

    Its batches are pickles, which can run code: only the known file is ever opened.

    Raises:
        ValueError: the file has another checksum.
    """
    if checksum(path) != dataset("cifar10").downloads[0].sha256:
        raise ValueError(
            f"{path} has a wrong sha256: delete it and run 'gdm data get cifar10'"
        )
    x, y = {}, {}
    with tarfile.open(path) as archive:
        for member in archive:
            name = Path(member.name).name
            if "_batch" in name:
                batch = pickle.load(archive.extractfile(member), encoding="bytes")
                x[name] = batch[b"data"].reshape(-1, 3, 32, 32)
                y[name] = np.asarray(batch[b"labels"])
    train = sorted(name for name in x if name.startswith("data"))
    joined = [np.concatenate([part[name] for name in train]) for part in (x, y)]
    return [*joined, x["test_batch"], y["test_batch"]]


def cifar_parts(paths: list[Path]) -> list[np.ndarray]:
    """Read CIFAR-10 from parts, the last one the test, whose pixels are differences."""
    parts = [_undo_differences(path) for path in paths]
    train = [np.concatenate(arrays) for arrays in zip(*parts[:-1])]
    return [*train, *parts[-1]]


def _undo_differences(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Sum up a part: all arithmetic is modulo 256, which uint8 does by itself."""
    with np.load(io.BytesIO(lzma.decompress(path.read_bytes()))) as part:
        x, y = part["x"], part["y"]
    x[..., 0] = x[..., 0].cumsum(2, dtype=np.uint8)  # the left edge runs downwards
    x = x.cumsum(3, dtype=np.uint8)  # every row runs to the right from it
    x[:, ::2] += x[:, 1:2]  # red and blue are stored minus green
    return x, y
