"""Freed memory stays with the process, unless somebody decided otherwise."""

import os
import subprocess
import sys

import pytest

from gdm_course import memory

GLIBC = sys.platform == "linux" and hasattr(memory.ctypes.CDLL(None), "mallopt")
ROUNDS = """
import resource, gdm_course, torch
for turn in range(8):
    if turn == 5:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    held = [torch.ones(10 * 2**20) for _ in range(6)]  # 40 MiB each: glibc keeps up to 32
    del held
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(**extra: str) -> int:
    """Pages that the system had to bring for three rounds of 240 MiB, after five."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", ROUNDS]
    done = subprocess.run(command, env=clean | extra, capture_output=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not GLIBC, reason="the allocator is not glibc's")
def test_the_same_memory_is_used_again():
    kept, given_back = page_faults(), page_faults(MALLOC_ARENA_MAX="64")
    assert 4 * kept < given_back


@pytest.mark.parametrize("name", ["GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_"])
def test_who_has_chosen_is_left_alone(name, monkeypatch):
    monkeypatch.setenv(name, "131072")
    assert not memory.keep_freed_memory()


@pytest.mark.parametrize(
    "where", [("sys.platform", "darwin"), ("ctypes.CDLL", lambda name: object())]
)
def test_elsewhere_nothing_happens(where, monkeypatch):
    for name in [k for k in os.environ if k.startswith(("MALLOC_", "GLIBC_TUNABLES"))]:
        monkeypatch.delenv(name)
    assert memory.keep_freed_memory() == GLIBC
    monkeypatch.setattr(*where)
    assert not memory.keep_freed_memory()
