"""Rung L3u wants an ordinary user. When the tests run as root, they become one for it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gdm_course.grading.box.ladder import LADDER, free_uid
from gdm_course.grading.box.rungs import Site, as_nobody
from gdm_course.source import ROOT
from tests.grading_cases import cases
from tests.test_grading_corpus import EVERYWHERE, SLOW, everywhere

L3 = next(rung for rung in LADDER if rung.name == "L3")


def reachable(path: Path) -> bool:
    return all(p.stat().st_mode & 0o005 == 0o005 for p in (path, *path.parents))


@pytest.mark.skipif(os.geteuid() != 0, reason="not root: L3u runs with the rest")
@pytest.mark.skipif(L3.missing() is not None, reason=f"no bubblewrap: {L3.missing()}")
@pytest.mark.skipif(not reachable(ROOT), reason="the checkout is closed to other users")
@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.full)])
def test_the_corpus_on_l3u(tmp_path, whole):
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o055)
    chosen = "L3u-" if whole else f"L3u- and ({' or '.join(EVERYWHERE)}) and not {SLOW}"
    options = ["-q", "-p", "no:cacheprovider", "-k", chosen, "-W", "ignore"]
    command = [sys.executable, "-m", "pytest", *options, "tests/test_grading_corpus.py"]
    site = Site(tmp_path, tmp_path, free_uid(31))
    environment = {**os.environ, "HOME": "/tmp", "USER": "student", "PYTEST_ADDOPTS": ""}
    done = subprocess.run(
        as_nobody(site, command), cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]
    passed = int(re.search(r"(\d+) passed", done.stdout)[1])
    asked = [case for case in cases() if "L3u" in case.rungs]
    assert passed == sum(whole or everywhere(case) for case in asked) > 15
