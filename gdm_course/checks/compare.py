"""What comes back from a student's object, as tensors, and whether two answers agree."""

import torch

from gdm_course.checks.ask import Arrays


def same(a: Arrays, b: Arrays, rtol: float = 1e-4, atol: float = 1e-5) -> bool:
    """Say whether two answers agree in number, shape and value (NaN never agrees)."""
    return len(a) == len(b) and all(
        s.shape == t.shape and torch.allclose(s.double(), t.double(), rtol, atol)
        for s, t in zip(a, b)
    )


def describe(given: Arrays, wanted: Arrays, rtol: float, atol: float) -> str | None:
    """Name the first property that differs, or None: number, shape, values."""
    if len(given) != len(wanted):
        return f"it returns {len(given)} values, expected {len(wanted)}"
    for i, (g, w) in enumerate(zip(given, wanted)):
        which = f"value {i + 1} of the result" if len(wanted) > 1 else "the result"
        if g.shape != w.shape:
            return f"{which} has shape {tuple(g.shape)}, expected {tuple(w.shape)}"
        if not g.double().isfinite().all() and w.double().isfinite().all():
            return f"{which} is not finite"
        if not torch.allclose(g.double(), w.double(), rtol, atol):
            return f"{which} has the right shape but wrong values"
    return None
