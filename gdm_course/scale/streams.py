"""Points of a toy density, fewer of them to measure: each costs a path of the ODE."""

from gdm_course.scale.data import Splits
from gdm_course.scale.points import toy_points


def stream_points(name: str, N: int, seed: int = 0) -> Splits:
    """Return the splits of `toy_points`: 2,000 points to validate, 20,000 to test."""
    splits = toy_points(name, N, seed)
    valid, test = (
        tuple(t[:n] for t in part)
        for part, n in ((splits.valid, 2000), (splits.test, 20_000))
    )
    return Splits(splits.train, valid, test, splits.source)
