"""Images: known facts of the data sets, formats, splits and errors."""

import hashlib
import io
import pickle
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import torch

from gdm_course.data import audio, decode, download, images, registry, text


@pytest.fixture
def no_data(tmp_path, monkeypatch):
    """An empty data folder and no network."""
    monkeypatch.setenv("GDM_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("GDM_OFFLINE", "1")
    return tmp_path


def check_splits(data, C, H, W):
    """The contract of `Images`."""
    for split in ("train", "valid", "test"):
        x, y = getattr(data, f"x_{split}"), getattr(data, f"y_{split}")
        assert x.dtype == torch.uint8
        assert x.shape == (len(x), C, H, W)
        assert int(x.max()) < data.levels
        if y is not None:
            assert y.dtype == torch.int64
            assert y.shape == (len(x),)
            assert set(y.tolist()) == set(range(len(data.classes)))


def test_digits_need_no_data_folder(no_data):
    """All 1,797 images, each once; scikit-learn's array is the oracle."""
    from sklearn.datasets import load_digits

    data = images.load("digits")
    check_splits(data, 1, 8, 8)
    assert data.levels == 17
    assert [len(x) for x in (data.x_train, data.x_valid, data.x_test)] == [1285, 256, 256]
    bunch = load_digits()
    x = torch.cat([data.x_train, data.x_valid, data.x_test]).double().flatten(1).numpy()
    y = torch.cat([data.y_train, data.y_valid, data.y_test]).numpy()
    ours = sorted((label, *row) for label, row in zip(y, x))
    theirs = sorted((label, *row) for label, row in zip(bunch.target, bunch.data))
    assert ours == theirs
    assert torch.equal(images.load().x_test, data.x_test)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "mean", "std", "first", "first_test"),
    [
        ("mnist", 0.1307, 0.3081, [5, 0, 4, 1, 9], [7, 2, 1, 0, 4]),
        ("fashion_mnist", 0.2860, 0.3530, [9, 0, 0, 3, 0], [9, 2, 1, 1, 6]),
    ],
)
def test_mnist_and_fashion(name, mean, std, first, first_test):
    """The published mean and deviation of the training pixels, and the first labels."""
    data = images.load(name)
    check_splits(data, 1, 28, 28)
    pixels = torch.cat([data.x_train, data.x_valid]).numpy()
    assert len(pixels) == 60_000
    assert len(data.x_valid) == len(data.x_test) == 10_000
    assert pixels.mean() / 255 == pytest.approx(mean, abs=1e-4)
    assert pixels.std() / 255 == pytest.approx(std, abs=1e-4)
    assert data.y_train[:5].tolist() == first
    assert data.y_test[:5].tolist() == first_test


@pytest.mark.data
def test_binarized_mnist_gives_back_the_original_text():
    """Written out as text, the pixels have the sha256 of Larochelle's file."""
    data = images.load("binarized_mnist")
    check_splits(data, 1, 28, 28)
    assert [len(x) for x in (data.x_train, data.x_valid, data.x_test)] == [
        50_000,
        10_000,
        10_000,
    ]
    assert data.y_train is data.y_test is None
    lines = np.full((10_000, 2 * 784), ord(" "), np.uint8)
    lines[:, ::2] = data.x_test.view(-1, 784).numpy() + ord("0")
    lines[:, -1] = ord("\n")
    known = registry.dataset("binarized_mnist").downloads[2]
    assert lines.size == known.size
    assert hashlib.sha256(lines.tobytes()).hexdigest() == known.sha256


@pytest.mark.data
def test_cifar10_shows_its_known_pixels():
    """The first pixels that every tutorial prints, and a source that is true."""
    data = images.load("cifar10")
    check_splits(data, 3, 32, 32)
    assert data.x_train[0, :, 0, :2].T.tolist() == [[59, 62, 63], [43, 46, 45]]
    n = len(data.x_train) + len(data.x_valid) + len(data.x_test)
    assert len(data.x_valid) == 5_000
    assert data.classes[data.y_train[0]] == "frog"
    assert data.source == (
        "CIFAR-10" if n == 60_000 else f"CIFAR-10 ({n:,} of 60,000 images)"
    )


@pytest.mark.data
def test_usps_counts():
    data = images.load("usps")
    check_splits(data, 1, 16, 16)
    assert [len(x) for x in (data.x_train, data.x_valid, data.x_test)] == [6291, 1000, 2007]
    both = torch.cat([data.y_train, data.y_valid]).bincount()
    assert both.tolist() == [1194, 1005, 731, 658, 652, 556, 664, 645, 542, 644]


def save(path, **change):
    """A small npz with four splits of random images, changed as told."""
    g = np.random.default_rng(0)
    arrays = {
        "x_train": g.integers(0, 256, (40, 6, 5), dtype=np.uint8),
        "y_train": np.arange(40, dtype=np.uint8) % 2,
        "x_test": g.integers(0, 256, (8, 6, 5), dtype=np.uint8),
        "y_test": np.arange(8) % 2,
    } | change
    np.savez(path, **{key: a for key, a in arrays.items() if a is not None})
    return arrays


def test_a_local_npz(tmp_path):
    """Catches a lost channel axis and validation rows that are also trained on."""
    path = tmp_path / "mine.npz"
    arrays = save(path)
    data = images.load(path)
    assert [len(x) for x in (data.x_train, data.x_valid, data.x_test)] == [36, 4, 8]
    assert data.x_train.shape == (36, 1, 6, 5)
    x = torch.cat([data.x_train, data.x_valid])
    assert np.array_equal(x[:, 0].numpy(), arrays["x_train"])
    assert data.classes == ("0", "1")
    own = np.zeros((3, 6, 5), np.uint8)
    save(path, x_valid=own, y_valid=np.zeros(3))
    assert [len(x) for x in (images.load(path).x_train, images.load(path).x_valid)] == [
        40,
        3,
    ]


@pytest.mark.parametrize("name", ["MINE.NPZ", "mine.Npz", "mine.npz"])
def test_capitals_in_the_name_of_an_npz(name, tmp_path):
    """A camera, a disk of Windows or a colleague may write the ending in capitals."""
    save(tmp_path / "plain.npz")
    (tmp_path / "plain.npz").rename(tmp_path / name)
    for path in (tmp_path / name, str(tmp_path / name)):
        assert len(images.load(path).x_test) == 8


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"y_test": None}, "lacks y_test; it has x_train, y_train, x_test"),
        ({"y_train": np.zeros(7)}, "x_train has 40 images but 7 labels"),
        ({"x_train": np.zeros((40, 6, 5))}, "expected uint8 images .* got torch.float64"),
    ],
)
def test_a_wrong_npz_is_refused(change, words, tmp_path):
    save(tmp_path / "bad.npz", **change)
    with pytest.raises(ValueError, match=words):
        images.load(tmp_path / "bad.npz")


def test_missing_data_and_unknown_names_say_what_to_do(no_data):
    with pytest.raises(download.Missing) as caught:
        images.load("mnist")
    assert str(caught.value) == (
        "GDM_DATA_DIR has no MNIST and downloads are off (GDM_OFFLINE=1): run 'gdm data "
        "get mnist' once with a network, or use dataset='digits'"
    )
    with pytest.raises(
        ValueError, match="no image data set is called 'mnits': choose from dig"
    ):
        images.load("mnits")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        images.load(no_data / "nowhere.npz")
    with pytest.raises(download.Missing, match=r"or use audio.tones\(\)"):
        audio.spoken_digits()
    with pytest.raises(download.Missing, match=r"or use text.course\(\)"):
        text.shakespeare()


def test_binarize_and_threshold():
    """Catches a reversed comparison and a wrong scale: the mean is the grey value."""
    grey = torch.full((200, 1, 10, 10), 4, dtype=torch.uint8)
    drawn = images.binarize(grey, levels=17, generator=torch.Generator().manual_seed(0))
    assert drawn.dtype == torch.uint8
    assert drawn.float().mean().item() == pytest.approx(
        0.25, abs=6 * (0.1875 / 20_000) ** 0.5
    )
    ends = torch.tensor([0, 8, 9, 16], dtype=torch.uint8)
    assert images.threshold(ends, levels=17).tolist() == [0, 0, 1, 1]
    for seed in range(20):
        g = torch.Generator().manual_seed(seed)
        assert images.binarize(ends[[0, 3]], 17, g).tolist() == [0, 1]


def test_idx_refuses_other_files(tmp_path):
    import gzip

    path = tmp_path / "x.gz"
    path.write_bytes(
        gzip.compress(b"\0\0\x08\x02" + bytes([0, 0, 0, 2, 0, 0, 0, 3]) + b"abcdef")
    )
    assert decode.idx(path).tolist() == [[97, 98, 99], [100, 101, 102]]
    path.write_bytes(
        gzip.compress(b"\0\0\x08\x02" + bytes([0, 0, 0, 2, 0, 0, 0, 3]) + b"abc")
    )
    with pytest.raises(ValueError, match="is not an IDX file"):
        decode.idx(path)


def test_binarized_text_files(tmp_path):
    """The format of the download: digits between blanks, one image a line."""
    pixels = np.random.default_rng(0).integers(0, 2, (3, 784))
    path = tmp_path / "a.amat"
    path.write_text("".join(" ".join(map(str, row)) + "\n" for row in pixels))
    assert np.array_equal(decode.bits([path])[0], pixels)


def archive(path, monkeypatch=None):
    """A tiny archive in CIFAR's layout, and its arrays in order."""
    g = np.random.default_rng(0)
    with tarfile.open(path, "w:gz") as tar:
        made = {}
        for name in ("test_batch", "data_batch_2", "data_batch_1"):
            x = g.integers(0, 256, (4, 3072), dtype=np.uint8)
            made[name] = x
            raw = pickle.dumps({b"data": x, b"labels": [1, 2, 3, 4]})
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))
    return made


def test_cifar_archive(tmp_path, monkeypatch):
    """Catches batches in the wrong order; and an unknown pickle is never opened."""
    path = tmp_path / "cifar-10-python.tar.gz"
    made = archive(path)
    with pytest.raises(ValueError, match="wrong sha256"):
        decode.cifar_archive(path)
    known = registry.dataset("cifar10").downloads[0].sha256
    monkeypatch.setattr(decode, "checksum", lambda path: known)
    x, y, x_test, _ = decode.cifar_archive(path)
    assert np.array_equal(
        x.reshape(8, -1), np.concatenate([made["data_batch_1"], made["data_batch_2"]])
    )
    assert np.array_equal(x_test.reshape(4, -1), made["test_batch"])
    assert y.tolist() == [1, 2, 3, 4] * 2


@pytest.mark.parametrize("place", ["cifar10.npz", "cifar10/cifar10.npz"])
def test_cifar10_from_a_plain_npz(place, no_data):
    """Catches a place that is not looked at, and a source that hides missing images."""
    x, y = np.zeros((5_010, 3, 32, 32), np.uint8), np.arange(5_010) % 10
    (no_data / place).parent.mkdir(exist_ok=True)
    np.savez(no_data / place, x_train=x, y_train=y, x_test=x[:4], y_test=y[:4])
    data = images.load("cifar10")
    assert data.x_train.shape == (10, 3, 32, 32)
    assert data.y_valid[:2].tolist() == [0, 1]
    assert data.source == "CIFAR-10 (5,014 of 60,000 images)"


def test_the_data_package_and_its_command_are_light():
    """Catches an import of torch or pooch at the top of what every `gdm` command loads."""
    code = "import sys, gdm_course.data.cli, gdm_course.data.download\n"
    code += (
        "print([m for m in ('torch', 'pooch', 'requests', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
