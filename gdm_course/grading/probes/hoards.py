"""What the live probes try in order to hold more memory than a box may have.

Each returns 1 if memory was refused; a box that is closed keeps the promise, too. This file
travels into the box as the text of a cell; nothing here runs outside of one.
"""

import ctypes
import mmap
import os
import sys
import threading
import time
import traceback


def memory(secret: str, port: int) -> int:
    """Take memory without end: the box is to be closed, or memory refused."""
    taken = []
    try:
        while len(taken) < 400:
            taken.append(bytearray(os.urandom(1 << 20) * 16))
    except MemoryError:
        traceback.clear_frames(sys.exc_info()[2])
        return 1
    return 0


def shared_memory(secret: str, port: int) -> int:
    """Shared memory whose pages are given back to nobody: refused, or the box is closed."""
    held = []
    try:
        for _ in range(48):
            held.append(mmap.mmap(-1, 64 << 20))
            for page in range(0, 64 << 20, 4096):
                held[-1][page] = 1
            held[-1].madvise(mmap.MADV_DONTNEED)
    except OSError:
        return 1
    time.sleep(5)
    return 0


def page_tables(secret: str, port: int) -> int:
    """Page tables of huge mappings that hold nothing: the box is to be closed."""
    library, size = ctypes.CDLL(None), 1 << 40
    library.mmap.restype = ctypes.c_void_p
    anonymous = 0x4022  # private, anonymous, no reserve
    for _ in range(2):
        start = library.mmap(None, ctypes.c_size_t(size), 1, anonymous, -1, 0)
        if start == ctypes.c_void_p(-1).value:
            return 1
        for at in range(start, start + size, 1 << 21):
            ctypes.c_char.from_address(at).value  # noqa: B018
    time.sleep(5)
    return 0


def first_threads(secret: str, port: int) -> int:
    """Memory of processes whose first thread has ended: the box is to be closed."""
    number = 60 if os.uname().machine == "x86_64" else 93  # exit, of one thread
    for _ in range(6):
        if os.fork() == 0:
            threading.Thread(target=_take_and_wait).start()
            ctypes.CDLL(None).syscall(number, 0)
    time.sleep(20)
    return 0


def _take_and_wait() -> None:
    hoard = [bytearray(b"x" * (100 << 20)) for _ in range(5)]
    time.sleep(30)
    hoard.clear()
