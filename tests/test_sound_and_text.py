"""Sound and text: what they are said to be, how they are split, and what errors say."""

import io
import tarfile
import wave

import numpy as np
import pytest
import torch

from gdm_course.data import audio, download, text


@pytest.fixture
def no_data(tmp_path, monkeypatch):
    """An empty data folder and no network."""
    monkeypatch.setenv("GDM_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("GDM_OFFLINE", "1")
    return tmp_path


def test_tones_are_what_they_say():
    """The spectrum of every sound has its third in the right place, by the discrete FT."""
    sounds = audio.tones(60, seconds=1.0)
    assert [len(x) for x in (sounds.x_train, sounds.x_valid, sounds.x_test)] == [40, 10, 10]
    again = audio.tones(60, seconds=1.0)
    assert torch.equal(again.x_test[0], sounds.x_test[0])
    for samples, label in zip(sounds.x_train, sounds.y_train):
        assert samples.shape == (8000,)
        assert samples.dtype == torch.float32
        assert 0.4 < samples.abs().max() <= 1
        spectrum = torch.fft.rfft(samples * torch.hann_window(8000)).abs()
        root = int(spectrum[100:460].gt(0.3 * spectrum.max()).nonzero()[0]) + 100
        root += int(spectrum[root : root + 4].argmax())
        minor, major = (
            spectrum[round(root * 2 ** (k / 12)) + torch.arange(-2, 3)].max()
            for k in (3, 4)
        )
        heard = (
            max((minor, 2), (major, 1))
            if max(minor, major) > 0.2 * spectrum.max()
            else (0, 0)
        )
        assert heard[1] == label


@pytest.mark.data
def test_spoken_digits():
    """400, 50 and 50 recordings, five of each digit in the test split, in [-1, 1]."""
    sounds = audio.spoken_digits()
    assert [len(x) for x in (sounds.x_train, sounds.x_valid, sounds.x_test)] == [
        400,
        50,
        50,
    ]
    assert sounds.y_test.bincount().tolist() == [5] * 10
    assert all(0 < x.abs().max() <= 1 and x.dtype == torch.float32 for x in sounds.x_test)
    assert audio.pad(sounds.x_test, 3000).shape == (50, 3000)
    with pytest.raises(ValueError, match="no recording by 'nobody'"):
        audio.spoken_digits("nobody")


def test_spoken_digits_from_the_full_archive(no_data, monkeypatch):
    """Catches a split by the wrong number, a scale that is off, and mixed-up speakers."""
    path = no_data / "fsdd.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for who, level in (("theo", 8192), ("jackson", -16384)):
            for number in (3, 7, 12):
                raw = io.BytesIO()
                with wave.open(raw, "wb") as out:
                    out.setparams((1, 2, 8000, 0, "NONE", ""))
                    out.writeframes(np.full(100 + number, level, "<i2").tobytes())
                info = tarfile.TarInfo(
                    f"free-spoken-digit-dataset-1.0.9/recordings/9_{who}_{number}.wav"
                )
                info.size = len(raw.getvalue())
                tar.addfile(info, io.BytesIO(raw.getvalue()))
    monkeypatch.setattr(download, "need", lambda name: [path])
    sounds = audio.spoken_digits()
    assert [len(x[0]) for x in (sounds.x_test, sounds.x_valid, sounds.x_train)] == [
        103,
        107,
        112,
    ]
    assert sounds.x_train[0].unique().tolist() == [-0.5]
    assert sounds.y_test.tolist() == [9]
    assert len(audio.spoken_digits(None).x_train) == 2
    padded = audio.pad([torch.ones(2), torch.ones(4)], 3)
    assert padded.tolist() == [[1, 1, 0], [1, 1, 1]]


@pytest.mark.data
def test_shakespeare_and_names():
    """Published sizes: 65 characters; 90 percent are 1,003,854; 32,033 names."""
    plays = text.shakespeare()
    assert len(plays.alphabet) == 65
    whole = download.need("shakespeare")[0].read_text()
    assert len(plays.train + plays.valid) == 1_003_854
    assert len(plays.valid) == 50_000
    assert plays.test == whole[1_003_854:]
    assert plays.train.startswith(whole[:19_000])
    assert plays.valid.startswith(whole[19_000:20_000] + whole[39_000:40_000])
    assert whole[20_000:39_000] in plays.train
    names = text.names()
    parts = [part.split() for part in (names.train, names.valid, names.test)]
    assert [len(part) for part in parts] == [25_626, 3_203, 3_204]
    whole = download.need("names")[0].read_text().split()
    assert sorted([name for part in parts for name in part]) == sorted(whole)
    assert len(names.alphabet) == 27


def test_the_courses_own_text(no_data):
    """Needs no data; decoding undoes encoding."""
    own = text.course()
    assert len(own.train) > 8_000
    assert own.decode(own.encode(own.test)) == own.test
    assert own.encode("e").dtype == torch.int64
    with pytest.raises(ValueError, match="does not contain '\u2603'"):
        own.encode("a\u2603")


def test_prose_takes_the_markdown_cells_only():
    script = "# %% [markdown]\n# # Title\n#\n# Words.\n\n# %% tags=['a']\nx = 1  # no\n"
    script = "# header\n" + script + "\n# %% [markdown]\n# More.\n"
    assert text.prose(script) == "# Title\n\nWords.\n\nMore."
