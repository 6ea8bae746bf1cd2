"""Sound as waveforms: float32 in [-1, 1], mono, 8,000 samples a second.

sounds = audio.tones()              # made on the spot
spoken = audio.spoken_digits()      # recordings, downloaded once
"""

import io
import math
import tarfile
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gdm_course.data import download

RATE = 8000
SEMITONE = 2 ** (1 / 12)
CHORDS = {"tone": (0,), "major": (0, 4, 7), "minor": (0, 3, 7)}  # in semitones


@dataclass(frozen=True)
class Sounds:
    """One set of sounds; `pad` makes a matrix of waveforms of different lengths.

    Attributes:
        name: what they are.
        x_train, x_valid, x_test: waveforms, each float32 (T_i,) in [-1, 1].
        y_train, y_valid, y_test: int64 (N,).
        classes: what the labels mean.
        source: what to call it beside a measured figure.
        rate: samples per second.
    """

    name: str
    x_train: list[Tensor]
    y_train: Tensor
    x_valid: list[Tensor]
    y_valid: Tensor
    x_test: list[Tensor]
    y_test: Tensor
    classes: tuple[str, ...]
    source: str
    rate: int = RATE


def pad(waves: list[Tensor], T: int | None = None) -> Tensor:
    """Cut or fill with silence at the end to `T` samples (the longest if None): (N, T)."""
    T = max(len(wave) for wave in waves) if T is None else T
    matrix = torch.zeros(len(waves), T)
    for row, samples in zip(matrix, waves):
        row[: len(samples)] = samples[:T]
    return matrix


def tones(n: int = 600, seconds: float = 0.5, seed: int = 0) -> Sounds:
    """Make plucked tones, major and minor chords: the data that needs no download.

    Every sound has a random pitch (110 to 440 Hz), loudness, phases and decay, and four
    overtones. The last sixth is the test split, the sixth before it the validation split.

    Args:
        n: how many, at least 6.
        seconds: of each.
        seed: of the generator; the same seed gives the same sounds.
    """
    if n < 6:
        raise ValueError(f"tones makes three splits: expected n of at least 6, got {n}")
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(len(CHORDS), (n,), generator=g)
    chords = list(CHORDS.values())
    x = [_pluck(chords[label], int(seconds * RATE), g) for label in y]
    a, b = n - 2 * (n // 6), n - n // 6
    return Sounds(
        "tones",
        x[:a],
        y[:a],
        x[a:b],
        y[a:b],
        x[b:],
        y[b:],
        tuple(CHORDS),
        "synthesised tones",
    )


def _pluck(semitones: tuple[int, ...], T: int, g: torch.Generator) -> Tensor:
    """Add decaying sines: fundamentals at these intervals and their overtones, (T,)."""
    pitch, loudness, decay = torch.rand(3, generator=g).tolist()
    t, wave = torch.arange(T) / RATE, torch.zeros(T)
    for step in semitones:
        f = 110 * 4**pitch * SEMITONE**step
        for k, phase in enumerate(torch.rand(5, generator=g).tolist(), start=1):
            sine = torch.sin(2 * math.pi * (k * f * t + phase))
            wave += sine * torch.exp(-(2 + 4 * decay) * k * t) / k**2
    return (0.5 + 0.5 * loudness) * wave / wave.abs().max()


def spoken_digits(speaker: str | None = "jackson") -> Sounds:
    """Load spoken digits 0 to 9 (FSDD): 50 recordings per digit and speaker.

    Recordings 0 to 4 of each are the official test split; 5 to 9 are the validation split.

    Args:
        speaker: one speaker's name, or None for all that are here.

    Raises:
        Missing: the recordings are not here and may not be downloaded.
        ValueError: no recording is by that speaker.
    """
    path = download.need("fsdd")[0]
    splits: dict[str, list] = {"train": [], "valid": [], "test": []}
    for digit, number, samples in _recordings(path, speaker):
        split = "test" if number < 5 else "valid" if number < 10 else "train"
        splits[split].append((samples, digit))
    if not splits["train"]:
        raise ValueError(f"{path} has no recording by {speaker!r}: use 'jackson' or None")
    parts = []
    for pairs in splits.values():
        waves, digits = zip(*pairs)
        parts += [list(waves), torch.tensor(digits)]
    source = "FSDD spoken digits" + (f" ({speaker})" if speaker else "")
    return Sounds("spoken_digits", *parts, tuple("0123456789"), source)


def _recordings(path: Path, speaker: str | None) -> list[tuple[int, int, Tensor]]:
    """Read (digit, number, waveform) from files `recordings/7_jackson_32.wav`, in order."""
    found = []
    with tarfile.open(path) as archive:
        for member in archive:
            name = Path(member.name)
            if name.suffix != ".wav" or name.parent.name != "recordings":
                continue
            digit, who, number = name.stem.split("_")
            if speaker in (None, who):
                samples = _samples(archive.extractfile(member).read(), member.name)
                found.append((int(digit), who, int(number), samples))
    found.sort(key=lambda row: row[:3])
    return [(digit, number, samples) for digit, _, number, samples in found]


def _samples(raw: bytes, name: str) -> Tensor:
    with wave.open(io.BytesIO(raw)) as sound:
        form = (sound.getnchannels(), sound.getsampwidth(), sound.getframerate())
        if form != (1, 2, RATE):
            raise ValueError(
                f"{name}: expected one channel of 2-byte samples at {RATE} Hz, got {form}"
            )
        integers = np.frombuffer(sound.readframes(sound.getnframes()), "<i2")
    return torch.from_numpy(integers.astype(np.float32) / 32768)
