"""Recordings for recipes: windows to train on, whole sounds to be measured on."""

import math

import torch
from torch import Tensor, nn

from gdm_course.evaluation.likelihood import Estimate, bits_per_dim, log_probs
from gdm_course.recipes import resolve
from gdm_course.scale.data import Splits


def spoken_codes(encode: str, window: int, labels: bool) -> Splits:
    """Load one speaker's digits as codes.

    Training windows (N, window) begin every quarter of a window; validation and test are
    whole recordings, filled up at the end, with their lengths: (codes, [digits,] lengths).

    Args:
        encode: dotted path of the function from waveforms to codes.
        window: samples in a training row.
        labels: whether to hand out the digits, for a model built with `classes=10`.
    """
    from gdm_course.data import audio

    sounds, to_codes = audio.spoken_digits(), resolve(encode)
    rows = [_windows(wave, window) for wave in sounds.x_train]
    y = sounds.y_train.repeat_interleave(torch.tensor([len(r) for r in rows]))
    train = to_codes(torch.cat(rows))
    whole = []
    for waves, digits in ((sounds.x_valid, sounds.y_valid), (sounds.x_test, sounds.y_test)):
        lengths = torch.tensor([len(wave) for wave in waves])
        codes = to_codes(audio.pad(waves))
        whole.append((codes, digits, lengths) if labels else (codes, lengths))
    return Splits((train, y) if labels else train, *whole, sounds.source)


def _windows(wave: Tensor, window: int) -> Tensor:
    """Cut a sound, followed by silence, into overlapping windows: (T,) -> (n, window)."""
    hop = window // 4
    steps = max(math.ceil((len(wave) - window) / hop), 0)
    whole = torch.nn.functional.pad(wave, (0, window + steps * hop - len(wave)))
    return whole.unfold(0, window, hop)


def bits_per_sample(model: nn.Module, x: tuple[Tensor, ...]) -> Estimate:
    """Return bits per sample of sound over whole recordings of different lengths.

    The value is all bits by all samples; its standard error is that of a ratio.

    Args:
        model: a Density of codes (B, T), or of codes and labels.
        x: codes (N, T), perhaps labels (N,), and the lengths (N,).
    """
    codes, *labels, lengths = x
    nats = []
    for i, T in enumerate(lengths.tolist()):
        row = (codes[i : i + 1, :T], *(y[i : i + 1] for y in labels))
        nats.append(-log_probs(model, row))
    nats, T = torch.cat(nats), lengths.double().cpu()
    value = (nats.sum() / T.sum()).item()
    error = (nats - value * T).std().item() / (T.mean().item() * math.sqrt(len(T)))
    return Estimate(bits_per_dim(value, 1), bits_per_dim(error, 1))
