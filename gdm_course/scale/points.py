"""Splits of the toy densities: points to learn from, and points with their true density."""

import torch

from gdm_course.scale.data import Splits


def toy_points(name: str, N: int, seed: int = 0) -> Splits:
    """Draw points of a toy density: N for training, so many that no step sees one twice.

    Validation and test are pairs for `kl_to_truth`: points (n, 2) and the true log p (n,).
    """
    from gdm_course.data import toy

    truth, g = toy.get(name), torch.Generator().manual_seed(seed)
    draw = lambda n: truth.sample(n, g).float()  # noqa: E731
    valid, test = draw(20_000), draw(100_000)
    known = [(x, truth.log_prob(x.double()).float()) for x in (valid, test)]
    return Splits(draw(N), *known, f"{name}, drawn by gdm_course.data.toy")
