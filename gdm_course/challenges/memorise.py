"""Whether samples are copies of the training data, and what an exact denoiser does.

Numbered equations are those of the lecture challenges/responsibility.

References:
    Carlini, Hayes, Nasr, Jagielski, Sehwag, Tramer, Balle, Ippolito, Wallace (2023).
        Extracting training data from diffusion models. arXiv:2301.13188.
    Somepalli, Singla, Goldblum, Geiping, Goldstein (2022). Diffusion art or digital
        forgery? arXiv:2212.03860.
    Biroli, Bonnaire, de Bortoli, Mezard (2024). Dynamical regimes of diffusion models.
        arXiv:2402.18491.
"""

import torch
from torch import Tensor

from gdm_course import validate
from gdm_course.diffusion.mixture import NoisyMixture
from gdm_course.evaluation.likelihood import Estimate, estimate
from gdm_course.evaluation.neighbours import ROWS, distances


def distance_ratio(x: Tensor, train: Tensor) -> Tensor:
    """Return d_1 / d_2 of every row, equation (2): (B, *D), (N, *D) -> (B,).

    d_1 and d_2 are its distances to the nearest and the second nearest training example.
    Equal examples count once. A copy has 0, a point between two examples 1.

    Args:
        x: samples.
        train: what was learned from, with 2 different rows or more.
    """
    train = validate.points(train, ..., name="train").flatten(1).unique(dim=0)
    x = validate.points(x, x.shape[1:], train).flatten(1)
    if len(train) < 2 or x.shape[1] != train.shape[1]:
        raise ValueError(
            f"x has {x.shape[1]} numbers a row, train {train.shape[1]} in {len(train)} "
            "different rows: expected equally many, and 2 different rows or more"
        )
    parts = [distances(rows, train).topk(2, 1, False).values for rows in x.split(ROWS)]
    first, second = torch.cat(parts).unbind(1)
    return first / second


def copied_share(x: Tensor, train: Tensor, below: float = 0.5) -> Estimate:
    """Return the share of rows whose `distance_ratio` is below a threshold, and its error.

    The error is that of independent rows, (B,).
    """
    return estimate((distance_ratio(x, train) < below).double())


def copies_of(x: Tensor, train: Tensor, i: int, below: float = 0.5) -> Estimate:
    """Return the share of rows that are copies of training example i, and its error."""
    nearest = distances(x.flatten(1), train.flatten(1)).argmin(1)
    same = (train[nearest].flatten(1) == train[i].flatten()).all(1)
    return estimate((same & (distance_ratio(x, train) < below)).double())


def candidates(data: NoisyMixture, x_t: Tensor, log_snr: Tensor | float) -> Tensor:
    """Return how many examples x_t may have come from, exp of an entropy: (B, *D) -> (B,).

    From N, where noise hides all, to 1, where a single one is left; in between the
    exponential of the entropy of the weights in equation (1).

    Args:
        data: the examples under noise.
        x_t: noisy points.
        log_snr: of the noise.
    """
    parts = data.log_parts(x_t, torch.as_tensor(log_snr))
    w = parts.softmax(1)
    return torch.special.entr(w).sum(1).exp()
