"""Freed memory stays at hand for the next tensor: quicker steps on a CPU under Linux.

A training step allocates the same tensors again and again. The allocator of Linux's C
library gives large ones back to the system as soon as they are freed, and gets them anew
page by page, each of which the system first clears. `tests/benchmarks/memory.py` measures
what that costs.

References:
    mallopt(3), Linux manual pages: M_MMAP_THRESHOLD and M_TRIM_THRESHOLD.
"""

import ctypes
import os
import sys

MIB = 2**20
ALONE = 128 * MIB  # a larger tensor is still given back at once
KEPT = 512 * MIB  # more than that at the end of the heap is given back, too
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # their numbers in malloc.h


def keep_freed_memory() -> bool:
    """Let this process keep up to 512 MiB that it has freed; say whether it does.

    Nothing happens outside Linux, with another C library than glibc, and where somebody
    has already chosen, by GLIBC_TUNABLES or a variable that starts with MALLOC_.
    """
    chosen = any(name.startswith(("GLIBC_TUNABLES", "MALLOC_")) for name in os.environ)
    if chosen or sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all(
        mallopt(which, size)
        for which, size in ((M_MMAP_THRESHOLD, ALONE), (M_TRIM_THRESHOLD, KEPT))
    )
