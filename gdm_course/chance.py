"""Chance: seeding all generators of random numbers, and leaving them as they were.

Nothing seeds the global generators but `seed_everything` in a lecture's own cell and
`set_seeds` in a recipe; whatever else needs chance draws it under `own_chance`.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def set_seeds(seed: int) -> None:
    """Seed Python's, NumPy's and torch's global generators (CPU and GPU)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def chance() -> dict[str, Any]:
    """Return the state of Python's, NumPy's and torch's generators, as tensors and numbers.

    A file of plain tensors, numbers and strings can hold it: `scale.state`.
    """
    name, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": [name, torch.from_numpy(keys.astype(np.int64)), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "mps": [torch.mps.get_rng_state()] if torch.backends.mps.is_available() else [],
    }


def set_chance(state: dict[str, Any]) -> None:
    """Put all generators back to where `chance` saw them."""
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available():  # a run may go on where there are fewer devices
        for device, one in zip(range(torch.cuda.device_count()), state["cuda"]):
            torch.cuda.set_rng_state(one, device)
    if torch.backends.mps.is_available():
        for one in state["mps"]:
            torch.mps.set_rng_state(one)


@contextmanager
def own_chance(seed: int | None = None) -> Iterator[None]:
    """Run a block with a chance of its own: after it, all generators are as before.

    Args:
        seed: of all generators in the block; None goes on from where they are.
    """
    before = chance()
    if seed is not None:
        set_seeds(seed)
    try:
        yield
    finally:
        set_chance(before)
